"""Lets a Twisted application take part in snapshots: :mod:`xohook.client` with Deferreds.

::

    from twisted.internet import reactor
    from xohook.txclient import Registration

    Registration(reactor, "orders", freeze=freeze, thaw=thaw).setServiceParent(application)

The callbacks take a :class:`~xohook.client.Freeze` and a :class:`~xohook.client.Thaw`; they return
a value, a Deferred or a coroutine. What :mod:`xohook.client` logs goes to Twisted's logger here, in
the namespace ``xohook.txclient``.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from twisted.application.service import Service
from twisted.internet import protocol
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from xohook.client import (
    Applicant,
    Conversation,
    Event,
    Freeze,
    ProtocolError,
    Refused,
    Registered,
    Thaw,
    close_in_children,
    refuse_unrun,
    told,
)

_LEVELS = {
    logging.INFO: LogLevel.info,
    logging.WARNING: LogLevel.warn,
    logging.ERROR: LogLevel.error,
}
_log = Logger()

GLANCE = 1.0
"""Seconds between two looks at the monotonic clock while the application is at rest."""


class _Line(protocol.Protocol):
    """A connection to the agent, and what is said over it.

    :param reactor: wakes it up.
    :param conversation: what is said.
    :param take: acts on an event.
    """

    transport: Any

    def __init__(
        self, reactor: IReactorTime, conversation: Conversation, take: Callable[[Event], None]
    ) -> None:
        self.conversation = conversation
        self.problem = ""
        self.over: Deferred[str] = Deferred()
        """Fires with why the connection ended, once it has and nothing is frozen any more."""
        self._reactor = reactor
        self._take = take
        self._timer: IDelayedCall | None = None
        self._is_lost = False

    def connectionMade(self) -> None:
        """Begin to speak."""
        close_in_children(self.transport.getHandle())
        self.go_on()

    def dataReceived(self, data: bytes) -> None:
        """Take what came.

        :param data: the bytes.
        """
        try:
            self.conversation.receive(data, time.monotonic())
        except ProtocolError as error:
            self.hang_up(f"what the agent says makes no sense: {error}")
        self.go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Thaw, if anything is frozen.

        :param reason: why it was lost.
        """
        self._is_lost = True
        self.hang_up("the agent has closed the connection")
        self.go_on()

    def hang_up(self, problem: str) -> None:
        """End the connection, from this side or because it has ended already.

        :param problem: why.
        """
        self.problem = self.problem or problem
        self.conversation.end()
        self.transport.abortConnection()

    def go_on(self) -> None:
        """Act on whatever has changed."""
        self.conversation.tick(time.monotonic())
        while (event := self.conversation.next_event()) is not None:
            self._take(event)
        self.transport.write(bytes(self.conversation.outgoing))
        self.conversation.outgoing.clear()
        # What was called above may have set it meanwhile.
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        deadline = self.conversation.deadline
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            # The reactor's own clock is the time of day, which may be set back.
            self._timer = self._reactor.callLater(min(left, GLANCE), self.go_on)
        if self.conversation.is_over and self._is_lost and not self.over.called:
            self.over.callback(self.problem)


def _error(failure: Failure) -> BaseException:
    assert failure.value is not None, "a failure has an exception"
    return failure.value


class Registration(Applicant[object], Service):
    """A service that is registered with the agent for as long as it runs.

    Where the thaw comes due while a freeze runs, that is let run to its end first; the end of the
    service alone cancels it. What :meth:`stopService` returns is not to be waited for in a
    callback.

    :param reactor: the reactor, or whatever has ``IReactorTime`` and ``IReactorUNIX``.
    :param app: the application's name. The other parameters are those of
        :class:`xohook.client.Applicant`.
    """

    cancel_freeze = False
    """Whether to cancel the freeze then: for one that ends by it. What runs in a thread does not,
    and would come to rest after its thaw."""

    def __init__(
        self,
        reactor: Any,
        app: str,
        *,
        freeze: Callable[[Freeze], object],
        thaw: Callable[[Thaw], object],
        order: int | None = None,
        freeze_timeout: float | None = None,
        thaw_timeout: float | None = None,
        on_failure: Literal["abort", "continue"] | None = None,
        control: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(
            app,
            freeze=freeze,
            thaw=thaw,
            order=order,
            freeze_timeout=freeze_timeout,
            thaw_timeout=thaw_timeout,
            on_failure=on_failure,
            control=control,
        )
        self._reactor = reactor
        self._line: _Line | None = None
        self._attempting: Deferred[None] = succeed(None)
        self._delayed: IDelayedCall | None = None
        self._callback: Deferred[str] = succeed("")
        self._overdue: Deferred[str] = succeed("")
        self._waiting: list[Deferred[bool]] = []

    def startService(self) -> None:
        """Begin to register, and wait for nothing."""
        super().startService()
        self._is_closed = False
        self._begin()
        self._attempt()

    def stopService(self) -> Deferred[None]:
        """End the registration; what is frozen is thawed.

        :return: fires when that is done.
        """
        super().stopService()
        self._is_closed = True
        self._tell_waiting()
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        if self._line is None:
            self._attempting.cancel()
        else:
            self._line.hang_up("it has been closed")
            self._line.go_on()
            self._overdue.cancel()
        stopped: Deferred[None] = Deferred()
        self._attempting.addCallback(stopped.callback)
        return stopped

    def wait(self) -> Deferred[bool]:
        """Wait until the application is registered, or the service is stopped.

        :return: fires with whether it is registered; it may be cancelled.
        """
        if self.registered or self._is_closed:
            return succeed(self.registered)
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _say(self, level: int, text: str, error: BaseException | None = None) -> None:
        if error is None:
            _log.emit(_LEVELS[level], "{text}", text=text)
        else:
            _log.failure("{text}", Failure(error), _LEVELS[level], text=text)

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.registered)

    def _attempt(self) -> None:
        self._delayed = None
        factory = Factory.forProtocol(lambda: _Line(self._reactor, self._converse(), self._take))
        factory.noisy = False
        connecting = UNIXClientEndpoint(self._reactor, self._control).connect(factory)
        ended = connecting.addCallback(self._attend).addErrback(self._refusal)
        self._attempting = ended.addCallback(self._try_later)

    def _attend(self, line: _Line) -> Deferred[str]:
        self._line = line
        return line.over

    def _refusal(self, failure: Failure) -> str:
        # Twisted tells the number of the error; Python has a class for it, and the words.
        # It has none for a socket that takes nobody at the moment, and says so over several lines.
        number = getattr(failure.value, "osError", None) or errno.EAGAIN
        return self._explain(OSError(number, os.strerror(number)))

    def _try_later(self, problem: str) -> None:
        self._line = None
        pause = self._fail(problem, time.monotonic())
        if not self._is_closed:
            self._delayed = self._reactor.callLater(pause, self._attempt)

    def _take(self, event: Event) -> None:
        assert self._line is not None, "nothing comes before there is a connection"
        if isinstance(event, Freeze | Thaw):
            self._run(self._line, event)
        elif isinstance(event, Refused):
            self._line.hang_up(event.problem)
        elif isinstance(event, Registered):
            self._settle(time.monotonic())
            self._tell_waiting()
        elif self.cancel_freeze:
            self._callback.cancel()
        else:
            self._overdue = self._callback

    def _run(self, line: _Line, event: Freeze | Thaw) -> None:
        def explain(failure: Failure) -> str:
            error = _error(failure)
            return told(error) if failure.check(CancelledError) else self._bemoan(event, error)

        def go_on(problem: str) -> None:
            line.conversation.done(problem)
            line.go_on()

        def call() -> object:
            returned = self._call(event)
            if not isinstance(returned, Deferred | Coroutine):
                refuse_unrun(returned)
            return returned

        called = maybeDeferred(call)
        self._callback = called.addCallbacks(lambda _: "", explain)
        self._callback.addCallback(go_on)
