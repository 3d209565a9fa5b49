"""What may still be frozen after its thaw: it outlasts the window that froze it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xohook.participants import Unthawed
from xohook.state.record import Entry

FIRST_RETRY = 1.0
"""Seconds until the first attempt (docs/hook.rst, Nothing stays frozen)."""

LONGEST_RETRY = 30.0
"""Seconds between two attempts at the most; the time doubles from one to the next until then."""

ATTEMPT = 10.0
"""Seconds that :meth:`UnthawedSet.retry` waits for an attempt: another guard needs one or two, and
five more if the first guard has to be killed. The attempt itself goes on."""


@attrs.define(eq=False)
class UnthawedParticipant:
    """What one participant froze and may still be frozen.

    :param unthawed: what may be frozen.
    :param entry: the participant's entry in the record.
    """

    unthawed: Unthawed
    entry: Entry

    def line(self) -> str:
        """Return a line about it."""
        points = ", ".join(self.unthawed.points)
        what = f"{self.entry.name}: {points}" if points else self.entry.name
        reason = f" ({self.unthawed.problem})" if self.unthawed.problem else ""
        return f"{what} may still be frozen{reason}"


class UnthawedSet:
    """All that may still be frozen after its thaw; the thaw is retried until it succeeds.

    :param clock: times the attempts.
    :param changed: called when something was added or removed.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._participants: dict[str, UnthawedParticipant] = {}
        self._delay = FIRST_RETRY
        self._next: IDelayedCall | None = None

    def __bool__(self) -> bool:
        return bool(self._participants)

    def __iter__(self) -> Iterator[UnthawedParticipant]:
        return iter(tuple(self._participants.values()))

    @property
    def has_filesystems(self) -> bool:
        """Whether some filesystem may be frozen, so that nothing can be written to it."""
        return any(each.unthawed.points for each in self)

    def lines(self) -> tuple[str, ...]:
        """Return what is in the set, for an answer or the log.

        :return: a line for each participant.
        """
        return tuple(f"{each.line()}; see 'xohook status'" for each in self)

    def entries(self) -> tuple[Entry, ...]:
        """Return what the record must have of the set.

        :return: an entry for each participant.
        """
        return tuple(
            attrs.evolve(
                each.entry,
                recovery_data={**each.entry.recovery_data, **each.unthawed.recovery_data()},
                process=each.unthawed.process,
            )
            for each in self
        )

    def add(self, unthawed: Unthawed, entry: Entry) -> None:
        """Add what may be frozen, and start to retry its thaw.

        :param unthawed: what may be frozen.
        :param entry: the participant's entry in the record.
        """
        self._participants[entry.name] = UnthawedParticipant(unthawed, entry)
        unthawed.changed = self._changed
        unthawed.on_thawed.append(lambda: self._thawed(entry.name))
        self._log.error(
            "{line}; the thaw is tried again, at least every {seconds:.0f} s",
            line=self._participants[entry.name].line(),
            seconds=LONGEST_RETRY,
        )
        self._delay = FIRST_RETRY
        self._schedule()
        self._changed()

    async def retry(self) -> None:
        """Retry every thaw now, all at once; what may still be frozen stays in the set."""
        attempts = [Deferred.fromCoroutine(each.unthawed.attempt()) for each in self]
        for attempt in attempts:
            attempt.addTimeout(ATTEMPT, self._clock)
            attempt.addErrback(lambda failure: failure.trap(defer.TimeoutError))
            attempt.addErrback(lambda failure: self._log.failure("internal error", failure))
        await DeferredList(attempts)

    def forget(self, name: str) -> bool:
        """Remove what is gone or was thawed by hand, as the administrator says.

        :param name: the participant's name.
        :return: whether it was in the set.
        """
        each = self._participants.get(name)
        if each is None:
            return False
        self._log.warn("{line}: forgotten, as the administrator asked", line=each.line())
        each.unthawed.forget()
        return True

    def stop(self) -> None:
        """Retry no longer by itself."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _schedule(self) -> None:
        self.stop()
        self._next = self._clock.callLater(self._delay, self._try_again)

    def _try_again(self) -> None:
        self._next = None
        self._delay = min(2 * self._delay, LONGEST_RETRY)
        Deferred.fromCoroutine(self._retry_and_schedule()).addErrback(
            lambda failure: self._log.failure("internal error", failure)
        )

    async def _retry_and_schedule(self) -> None:
        await self.retry()
        if self and self._next is None:
            for each in self:
                self._log.error("{line}", line=each.line())
            self._schedule()

    def _thawed(self, name: str) -> None:
        each = self._participants.pop(name)
        if each.unthawed.points:
            points = ", ".join(each.unthawed.points)
            self._log.warn("{name}: {points} thawed", name=name, points=points)
        if not self:
            self.stop()
        self._changed()
