"""An application that comes to rest by itself, asked over the connection that it registered on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from xohook.errors import ParticipantError
from xohook.participants import Operation
from xohook.window.answers import Outcome

ORDER = 20
"""The place of an app for which neither it nor the configuration says another."""

TIMEOUT = 30.0
"""Seconds that a freeze or a thaw may take where nobody says otherwise."""

HEAD_START = 0.5
"""Seconds before the end of the hold that an app was told of, from which on it counts as having let
go: a window is spoiled before an app thaws by itself, never after."""

_ENDED = "its connection ended while it was frozen"
_EXPIRED = "it was held for as long as it was told to, and goes on by itself"


class Remote(Protocol):
    """The app's end of its connection.

    :param is_open: whether the connection has not ended.
    """

    is_open: bool

    def call(self, method: str, params: Mapping[str, Any]) -> Deferred[Any]:
        """Ask the app for something.

        :param method: what.
        :param params: the parameters by name.
        :return: fires with the result; fails with :exc:`~xohook.errors.ParticipantError` where the
            answer is an error or the connection ends before it; once cancelled, the answer is
            ignored.
        """

    def close(self) -> None:
        """Close the connection."""


class App:
    """An app that is registered.

    :param clock: the clock of the time until which it holds.
    :param name: the name that it registered.
    :param remote: its end of the connection.

    ``is_thaw_wished`` says whether its ``thaw_timeout`` is its own wish or the default, and not the
    configuration's.
    """

    freezes_filesystem = False
    unthawed = None
    prepare = None

    def __init__(self, clock: IReactorTime, name: str, remote: Remote) -> None:
        self.name = f"app:{name}"
        self.order = ORDER
        self.freeze_timeout = self.thaw_timeout = TIMEOUT
        self.abort = True
        self.is_thaw_wished = False
        self.holds = True
        self._clock = clock
        self._called = name
        self._remote = remote
        self._frozen: Operation | None = None
        self._lapse = ""
        self._end: IDelayedCall | None = None

    def recovery_data(self) -> Mapping[str, Any]:
        """Return nothing: an app thaws itself when its connection ends.

        :return: nothing.
        """
        return {}

    def extend(self, until: float) -> None:
        """Do nothing: an app holds as long as it was told.

        :param until: the time of the monotonic clock.
        """

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Ask the app to come to rest.

        :param operation: what is asked for.
        :return: fires when the app says that it has; with nothing, for what else it says is its
            own affair.
        """
        hold = round(operation.until - self._clock.seconds(), 3)
        params = {"window": operation.window, "timeout": operation.timeout, "hold": hold}
        frozen = self._remote.call("freeze", {"name": self._called, **params})
        return frozen.addCallback(self._note_frozen, operation)

    def thaw(self, operation: Operation) -> Deferred[bytes]:
        """Tell the app to go on; one that is gone has done so by itself.

        :param operation: what is asked for.
        :return: fires when the app says that it has.
        """
        # Only a window that is good so far is spoilt by it, be it noticed in the thaw of others.
        spoils = self.abort and Outcome(operation.outcome).is_good
        lapse = self._lapse or self._unnoticed_lapse() if spoils else ""
        self._rest_no_more()
        self._lapse = ""
        if not self._remote.is_open:
            return fail(ParticipantError(lapse)) if lapse else succeed(b"")
        params = {"window": operation.window, "outcome": operation.outcome}
        thawed = self._remote.call("thaw", {"name": self._called, **params})
        return thawed.addCallbacks(_note_thawed, self._judge_failure, (lapse,))

    def end(self) -> None:
        """Note that its connection has ended, and that it goes on by itself."""
        self._let_go(_ENDED)

    def dismiss(self) -> None:
        """Close its connection: it may not take part any more, and has to hear of it."""
        self._remote.close()

    def tail(self) -> bytes:
        """Tell what came of an operation that was broken off.

        :return: nothing; an app has no output.
        """
        return b""

    def when_quiet(self) -> Deferred[None]:
        """Wait for nothing: a late answer is ignored.

        :return: has fired.
        """
        return succeed(None)

    def _note_frozen(self, _: object, operation: Operation) -> bytes:
        left = operation.until - HEAD_START - self._clock.seconds()
        self._end = self._clock.callLater(max(0.0, left), self._let_go, _EXPIRED)
        self._frozen, self._lapse = operation, ""
        return b""

    def _judge_failure(self, failure: Failure) -> Failure | bytes:
        """Make nothing of an app that goes away, and may: it has gone on by itself."""
        return b"" if not (self.abort or self._remote.is_open) else failure

    def _unnoticed_lapse(self) -> str:
        """Tell why it rests no more, where an agent that was stopped itself has not noticed."""
        if self._frozen is None or self._end is None:
            return ""
        if not self._remote.is_open:
            return _ENDED
        return _EXPIRED if self._clock.seconds() >= self._end.getTime() else ""

    def _let_go(self, reason: str) -> None:
        frozen = self._frozen
        self._rest_no_more()
        if frozen is not None:
            self._lapse = reason
            frozen.let_go(reason)

    def _rest_no_more(self) -> None:
        self._frozen = None
        if self._end is not None and self._end.active():
            self._end.cancel()


def _note_thawed(_: object, lapse: str) -> bytes:
    if lapse:
        raise ParticipantError(lapse)
    return b""


class Nobody:
    """The other end of an app that is to take part and is not registered."""

    is_open = False

    def call(self, method: str, params: Mapping[str, Any]) -> Deferred[Any]:
        """Fail.

        :param method: what is asked for.
        :param params: the parameters by name.
        :return: has failed.
        """
        problem = "not registered, and required: start the app, or set required = no"
        return fail(ParticipantError(problem))

    def close(self) -> None:
        """Close nothing."""


def absent(clock: IReactorTime, name: str) -> App:
    """Make the participant for an app that is to take part and is not registered.

    :param clock: a clock.
    :param name: the name that nobody has registered.
    :return: one whose freeze fails.
    """
    app = App(clock, name, Nobody())
    app.holds = False
    return app
