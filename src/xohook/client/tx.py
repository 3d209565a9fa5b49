"""The style for Twisted: a service, and callbacks that may return Deferreds.

Apps import it as :mod:`xohook.txclient`. It alone needs Twisted.
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
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from xohook.client.conversation import Freeze, Registered, Thaw
from xohook.client.loop import Action, Connect, Disconnect, RegistrationLoop
from xohook.client.messages import describe_error
from xohook.client.registration import RegistrationBase, reject_unawaited
from xohook.client.transport import close_in_children, refuse_stranger

LONGEST_DELAY = 1.0
"""Seconds, at most, between two checks of the monotonic clock while a deadline lies ahead."""

_LEVELS = {
    logging.INFO: LogLevel.info,
    logging.WARNING: LogLevel.warn,
    logging.ERROR: LogLevel.error,
}
_log = Logger(namespace="xohook.txclient")


class _Transport(protocol.Protocol):
    """A connection to the agent. It passes bytes to the loop.

    :param path: the agent's socket.
    :param loop: what reads and writes.
    :param proceed: carries out what is due.
    """

    transport: Any

    refused: OSError | None = None
    """Why nothing is read and written: another user's program listens."""

    def __init__(self, path: str, loop: RegistrationLoop, proceed: Callable[[], None]) -> None:
        self._path = path
        self._loop = loop
        self._proceed = proceed

    def connectionMade(self) -> None:
        """Register."""
        connection = self.transport.getHandle()
        close_in_children(connection)
        try:
            refuse_stranger(connection, self._path)
        except OSError as error:
            self.refused = error
            self.transport.abortConnection()
        else:
            self._loop.connected()

    def dataReceived(self, data: bytes) -> None:
        """Pass on what has arrived.

        :param data: the bytes.
        """
        if self.refused is None:
            self._loop.receive(data, time.monotonic())
            self._proceed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on that the connection has ended.

        :param reason: why.
        """
        if self.refused is None:
            self._loop.lost("the agent has closed the connection")
            self._proceed()


class Registration(RegistrationBase[object], Service):
    """A service that is registered with the agent for as long as it runs.

    Where the thaw is due while a freeze runs, the thaw starts when the freeze has ended; only the
    end of the service cancels a freeze. A callback must not wait for what :meth:`stopService`
    returns.

    :param reactor: the reactor, or another provider of ``IReactorTime`` and ``IReactorUNIX``.
    :param app: the application's name. The other parameters are those of
        :class:`xohook.client.RegistrationBase`.
    """

    cancel_freeze = False
    """Whether to cancel a freeze when its thaw is due. Set it where that ends the freeze. What runs
    in a thread is not cancelled, and would freeze the application after its thaw."""

    def __init__(
        self,
        reactor: Any,
        app: str,
        *,
        freeze: Callable[[Freeze], object] | None = None,
        thaw: Callable[[Thaw], object] | None = None,
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
        self._transport: _Transport | None = None
        self._connecting: Deferred[None] = succeed(None)
        self._timer: IDelayedCall | None = None
        self._callback: Deferred[None] = succeed(None)
        # The callback of a freeze whose thaw is due.
        self._overdue: Deferred[None] = succeed(None)
        self._waiting: list[Deferred[bool]] = []
        self._stopping: list[Deferred[None]] = []
        self._is_proceeding = False

    def startService(self) -> None:
        """Begin to register. This does not wait.

        :raises RuntimeError: where a callback is missing.
        """
        self._require_callbacks()
        super().startService()
        self._loop.start(time.monotonic())
        self._proceed()

    def stopService(self) -> Deferred[None]:
        """End the registration. What is frozen is thawed.

        :return: fires when that is done.
        """
        super().stopService()
        self._loop.stop()
        self._notify()
        self._connecting.cancel()
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        self._proceed()
        self._overdue.cancel()
        return stopped

    def wait(self) -> Deferred[bool]:
        """Wait until the application is registered, or the service is stopped.

        :return: fires with whether it is registered; it may be cancelled.
        """
        if self.registered or self._loop.is_stopped:
            return succeed(self.registered)
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def _write_log(self, level: int, text: str, error: BaseException | None = None) -> None:
        if error is None:
            _log.emit(_LEVELS[level], "{text}", text=text)
        else:
            _log.failure("{text}", Failure(error), _LEVELS[level], text=text)

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.registered)

    def _proceed(self) -> None:
        """Carry out everything that is due, and set the timer for the rest."""
        if self._is_proceeding:
            # A callback or a connection that ends at once calls this: the loop below goes on.
            return
        self._is_proceeding = True
        try:
            while (action := self._loop.next_action(time.monotonic())) is not None:
                self._carry_out(action)
        finally:
            self._is_proceeding = False
        if self._transport is not None and self._loop.outgoing:
            self._transport.transport.write(bytes(self._loop.outgoing))
            self._loop.outgoing.clear()
        self._set_timer()
        if self._loop.is_idle:
            stopping, self._stopping = self._stopping, []
            for each in stopping:
                each.callback(None)

    def _set_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        deadline = self._loop.deadline
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            # The reactor's own clock is the time of day, which may be set back.
            self._timer = self._reactor.callLater(min(left, LONGEST_DELAY), self._proceed)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Freeze | Thaw):
            self._run_callback(action)
        elif isinstance(action, Connect):
            self._connect()
        elif isinstance(action, Disconnect):
            assert self._transport is not None, "a connection is closed once"
            self._transport.transport.abortConnection()
            self._transport = None
        elif isinstance(action, Registered):
            self._notify()
        else:
            self._overdue = self._callback
            if self.cancel_freeze or self._loop.is_stopped:
                self._overdue.cancel()

    def _connect(self) -> None:
        factory = Factory.forProtocol(lambda: _Transport(self._control, self._loop, self._proceed))
        factory.noisy = False
        connecting = UNIXClientEndpoint(self._reactor, self._control).connect(factory)
        self._connecting = connecting.addCallbacks(self._connected, self._connect_failed)

    def _connected(self, transport: _Transport) -> None:
        if transport.refused is None:
            self._transport = transport
        else:
            self._loop.connect_failed(transport.refused, time.monotonic())
        self._proceed()

    def _connect_failed(self, failure: Failure) -> None:
        # Twisted has the number of the error; Python has a class for it, and the words.
        # Twisted has none for a socket whose queue is full, and describes that in several lines.
        number = getattr(failure.value, "osError", None) or errno.EAGAIN
        self._loop.connect_failed(OSError(number, os.strerror(number)), time.monotonic())
        self._proceed()

    def _run_callback(self, event: Freeze | Thaw) -> None:
        def call() -> object:
            returned = self._call(event)
            if not isinstance(returned, Deferred | Coroutine):
                reject_unawaited(returned)
            return returned

        def problem_of(failure: Failure) -> str:
            error = failure.value
            assert error is not None, "a failure has an exception"
            is_cancelled = isinstance(error, CancelledError)
            return describe_error(error) if is_cancelled else self._log_failure(event, error)

        def done(problem: str) -> None:
            self._loop.done(problem, time.monotonic())
            self._proceed()

        called = maybeDeferred(call).addCallbacks(lambda _: "", problem_of)
        self._callback = called.addCallback(done)
