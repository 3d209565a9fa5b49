"""The lines that the agent and a session's client exchange, by way of the client's guard."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xohook.errors import NotHeldError, ParticipantError
from xohook.host.pids import start_time
from xohook.processes.guarding import Guard, GuardGoneError
from xohook.processes.guards.launch import EXIT_CANNOT_RUN
from xohook.text import printable

Process: TypeAlias = "tuple[int, int | None]"
"""The number of a process, and when it started."""

Leftovers: TypeAlias = "tuple[Process | None, Process | None]"
"""The processes of guard and client."""

LINES_KEPT = 200
"""Lines of a client's output that are kept, the last ones."""


@attrs.define
class _Awaited:
    """A line that is waited for."""

    line: str
    refuse: re.Pattern[str] | None
    result: Deferred[None]


class SessionChannel:
    """Listens to one guard, and gives it orders.

    :param name: the participant's name.
    :param freeze_expect: the line by which the client confirms its freeze.
    :param thaw_expect: the line by which it confirms its thaw.
    """

    _log = Logger()

    def __init__(self, name: str, freeze_expect: str, thaw_expect: str) -> None:
        self._name = name
        self._freeze_expect = freeze_expect
        self._thaw_expect = thaw_expect
        self._guard: Guard | None = None
        self._awaited: _Awaited | None = None
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._last = ""
        self._how = ""
        self._error = ParticipantError
        self._client: Process | None = None
        self._is_thawing = False
        self._is_held = False
        self._has_refused = False
        self._has_left = False
        self.lost: Callable[[str], None] | None = None
        self.started: Callable[[], None] = lambda: None
        self.is_released = False
        self.has_thawed = False
        self.guard_has_ended = False
        self.cannot_run = False
        self.when_ended: Deferred[None] = Deferred()

    @property
    def has_ended(self) -> bool:
        """Whether guard or client have ended, or the guard has let go."""
        return bool(self._how)

    @property
    def left_unfrozen(self) -> bool:
        """Whether the client has refused to freeze or not confirmed it, and ended by itself."""
        return self._has_left and not self._is_held

    @property
    def processes(self) -> Leftovers:
        """The processes of guard and client."""
        return (self._guard.identity if self._guard is not None else None, self._client)

    @property
    def output(self) -> bytes:
        """The end of what the client has written."""
        return "\n".join(self._said).encode()

    def begin(self, guard: Guard) -> None:
        """Take the guard whose listener this is.

        :param guard: the guard.
        """
        self._guard = guard

    def order(self, line: str) -> None:
        """Give the guard an order that has no answer.

        :param line: the order.
        """
        if self._guard is not None:
            self._guard.tell(line)

    def release(self) -> None:
        """Have the guard release the client, and end."""
        self.is_released = True
        self._thaw_is_asked()
        if self._guard is not None:
            self._guard.release()

    def hold(self, lost: Callable[[str], None], patience: float) -> bytes:
        """Report from now on when the guard or the client let go.

        :param lost: called with the reason. What the client wrote before is no part of it.
        :param patience: seconds that the client gets for its thaw where the guard releases it.
        :return: what the client has written until now.
        """
        self.lost = lost
        self._last = ""
        self._is_held = True
        self.order(f"held {patience}")
        return self.output

    def frozen(self, refuse: re.Pattern[str] | None) -> Deferred[None]:
        """Wait until the client confirms its freeze.

        :param refuse: a line that it matches fails the freeze.
        :return: fires then; fails with :exc:`~xohook.errors.ParticipantError`.
        """
        return self._expect(self._freeze_expect, refuse)

    def thaw(self) -> Deferred[None]:
        """Have the client thaw.

        :return: fires when it has confirmed that; fails with
            :exc:`~xohook.errors.ParticipantError`.
        """
        if self._guard is None or self._how:
            return self._expect(self._thaw_expect, None)
        thawing = self._guard.ask("thaw")
        # ended() reports the guard's end as well.
        thawing.addErrback(lambda failure: failure.trap(GuardGoneError))
        return thawing.addCallback(self._thaw_begun)

    def _thaw_is_asked(self) -> None:
        # A late confirmation of the freeze must not pass for one of the thaw.
        if self._is_held or self._freeze_expect != self._thaw_expect:
            self._is_thawing = True

    def _thaw_begun(self, _: object) -> Deferred[None]:
        self._is_thawing = True
        return self._expect(self._thaw_expect, None)

    def heard(self, line: str) -> None:
        """Take a report of the guard.

        :param line: the report, see :mod:`xohook.processes.guards.session`.
        """
        word, _, rest = line.partition(" ")
        if word in ("line", "long"):
            self._take(rest, is_whole=word == "line")
        elif word == "started":
            self._client = (int(rest), start_time(int(rest)))
            self.started()
        elif word == "unkillable":
            self._log.warn(
                "{name}: its client (process {pid}) runs as another user, and cannot be ended:"
                " have the client run without sudo, or end it by hand",
                name=self._name,
                pid=self._client and self._client[0],
            )
        elif word == "released" and not self.is_released:
            self._thaw_is_asked()
            self._error = NotHeldError
            self._end("its guard let go before the agent asked it to")
        elif word == "ended":
            self.cannot_run = rest == f"exit status {EXIT_CANNOT_RUN}"
            by_itself = self._has_refused or not (self.is_released or self._how)
            self._has_left = by_itself and rest.startswith("exit status")
            last = f"; its last words: {printable(self._last)}" if self._last else ""
            self._end(f"its client has ended ({rest}){last}")

    def ended(self, reason: str) -> None:
        """Take the guard's end.

        :param reason: how it ended.
        """
        self.guard_has_ended = True
        self._end(reason)
        self.when_ended.callback(None)

    def _expect(self, line: str, refuse: re.Pattern[str] | None) -> Deferred[None]:
        result: Deferred[None] = Deferred(lambda _: setattr(self, "_awaited", None))
        if self._how:
            result.errback(self._error(self._how, self.output))
        else:
            self._awaited = _Awaited(line, refuse, result)
        return result

    def _take(self, line: str, *, is_whole: bool) -> None:
        self._said.append(line)
        self._last = line
        if is_whole and self._is_thawing and line.strip() == self._thaw_expect:
            self.has_thawed = True
        awaited = self._awaited
        if awaited is None:
            return
        if awaited.refuse is not None and awaited.refuse.search(line):
            self._awaited = None
            self._has_refused = True
            awaited.result.errback(ParticipantError(printable(line), self.output))
        elif is_whole and line.strip() == awaited.line:
            self._awaited = None
            awaited.result.callback(None)

    def _end(self, reason: str) -> None:
        if self._how:
            return
        self._how = reason
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.result.errback(self._error(reason, self.output))
        elif self.lost is not None:
            self.lost(reason)
