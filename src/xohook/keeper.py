"""Keeps the window: drives the state machine, and freezes and thaws the participants in order."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.answers import Outcome, Requester
from xohook.course import Course, Limits
from xohook.errors import RecordError
from xohook.participants import Participant
from xohook.process import IProcessReactor
from xohook.record import Record, State
from xohook.steps import Step
from xohook.strays import Strays
from xohook.window import new_windows

STOP_WAITS = 5.0
"""Seconds that a shutdown waits for programs that do not end (contract, Configuration)."""


class Keeper:
    """Keeps the windows of one agent.

    :param reactor: the monotonic clock and the source of processes.
    :param record: where the next start finds what is owed.
    :param strays: the ``/post-sync`` that are still expected from earlier windows.
    :param limits: the times that bound a window.
    :param participants: whoever takes part.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        record: Record,
        strays: Strays,
        limits: Limits,
        participants: Sequence[Participant],
    ) -> None:
        self._reactor = reactor
        self._record = record
        self._course = Course(reactor, self, limits, new_window_id, strays)
        self._windows = new_windows(self._course)
        self._participants = tuple(participants)
        self._steps: tuple[Step, ...] = ()
        self._steps_of: str | None = None
        self._under_way: Deferred[None] | None = None
        self._changes: list[Callable[[], None]] = []
        self._stopped: Deferred[None] = Deferred()

    # What others ask of the keeper.

    def sync(self, requester: Requester) -> None:
        """Take an authenticated ``/sync``.

        :param requester: who waits for the answer.
        """
        self._windows.sync(requester)

    def post_sync(self, requester: Requester) -> None:
        """Take an authenticated ``/post-sync``.

        :param requester: who waits for the answer.
        """
        self._windows.post_sync(requester)

    def rehearse(self, requester: Requester, hold: float) -> None:
        """Run a whole window with no snapshot.

        :param requester: who waits for its end.
        :param hold: seconds that its hold lasts.
        """
        self._windows.rehearse(requester, hold)

    def gone(self, requester: Requester) -> None:
        """Note that a requester has closed its connection before its answer.

        :param requester: who waits no more.
        """
        self._windows.gone(requester)

    def let_go(self, participant: Participant, reason: str) -> None:
        """Note that a participant has let go by itself.

        :param participant: who did.
        :param reason: its last words, or what became of it.
        """
        self._windows.let_go(f"{participant.name}: {reason}")

    def between_windows(self, change: Callable[[], None]) -> None:
        """Make a change when no window is open: now, or at the end of the present one.

        :param change: makes it.
        """
        if self._course.window is None:
            change()
        else:
            self._changes.append(change)

    def configure(self, limits: Limits, participants: Sequence[Participant]) -> None:
        """Go by other settings; to be called between windows.

        :param limits: the times that bound a window.
        :param participants: whoever takes part.
        """
        self._course.limits = limits
        self._participants = tuple(participants)

    def steps(self, window: str | None) -> tuple[Step, ...]:
        """Tell how far each participant has come.

        :param window: the id of a window.
        :return: the steps of that window; none where it is neither the present nor the last one.
        """
        return self._steps if window == self._steps_of else ()

    async def stop(self) -> None:
        """Thaw what is frozen and open no window any more.

        It returns when all is thawed and no program runs any more, or :data:`STOP_WAITS` seconds
        after the thaw.
        """
        self._windows.stop()
        await self._stopped
        quiet = DeferredList(
            [participant.when_quiet() for participant in self._participants], consumeErrors=True
        )
        try:
            await quiet.addTimeout(STOP_WAITS, self._reactor)
        except defer.TimeoutError:
            self._log.warn("a program of a participant does not end; going on without it")

    # What the state machine asks of the keeper.

    def freeze(self, window: str) -> None:
        """Freeze all participants, then tell the machine.

        :param window: the window's id.
        """
        ordered = sorted(self._participants, key=lambda participant: participant.order)
        self._steps = tuple(Step(each, self._reactor, self._write) for each in ordered)
        self._steps_of = window
        work = self._freeze_in_order(window, self._steps)
        self._begin(work, self._windows.frozen, self._windows.freeze_failed)

    def flush(self, window: str) -> None:
        """Freeze again those with nothing to thaw, then tell the machine.

        :param window: the window's id.
        """
        work = self._freeze_in_order(
            window, [step for step in self._steps if not step.participant.holds]
        )
        self._begin(work, partial(self._windows.flushed, ()), self._windows.flushed)

    def cancel(self, why: str) -> tuple[str, ...]:
        """Break off the freeze or the flush that is under way.

        :param why: the reason.
        :return: a line for each participant that was not done.
        """
        undone = [step for step in self._steps if step.phase == "freezing"]
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()
        return tuple(f"{step.name}: not frozen: {why}" for step in undone)

    def thaw(self, outcome: Outcome) -> None:
        """Thaw all that was frozen or begun to be, then tell the machine.

        :param outcome: how the window ends.
        """
        work = Deferred.fromCoroutine(self._thaw_in_order(outcome.value))
        work.addCallback(self._windows.thawed)
        work.addErrback(lambda fault: self._log.failure("a fault of xohook itself", fault))

    def save(self) -> None:
        """Write the record; where that fails, what is under way goes on and the log tells."""
        try:
            self._write()
        except RecordError as error:
            self._log.error("{error}", error=error)

    def closed(self, outcome: Outcome, lines: tuple[str, ...]) -> None:
        """Tell the log how a window ended, and make the changes that have waited for it.

        :param outcome: how it ended.
        :param lines: why it was not synced.
        """
        is_good = outcome in (Outcome.SYNCED, Outcome.REHEARSED)
        say = self._log.info if is_good else self._log.warn
        say("window {window} {outcome}", window=self._steps_of, outcome=outcome.value)
        for line in lines:
            self._log.warn("window {window}: {line}", window=self._steps_of, line=line)
        changes, self._changes = self._changes, []
        for change in changes:
            change()

    def stopped(self) -> None:
        """Let go of who waits for the end."""
        self._stopped.callback(None)

    # The work itself.

    def _begin(
        self,
        work: Coroutine[Deferred[Any], Any, None],
        done: Callable[[], None],
        failed: Callable[[tuple[str, ...]], None],
    ) -> None:
        """Do the work and tell how it ended, unless it is broken off before."""
        under_way = self._under_way = Deferred.fromCoroutine(work)

        def end(result: Failure | None) -> None:
            if self._under_way is not under_way:
                return
            self._under_way = None
            if result is None:
                done()
            elif isinstance(result.value, _NotFrozenError):
                failed(result.value.lines)
            else:
                self._log.failure("a fault of xohook itself", result)
                failed((f"xohook: a fault of its own: {result.getErrorMessage()}",))

        under_way.addBoth(end)

    async def _freeze_in_order(self, window: str, steps: Sequence[Step]) -> None:
        for group in _groups(steps):
            freezes = [Deferred.fromCoroutine(step.freeze(window)) for step in group]
            try:
                await DeferredList(freezes, fireOnOneErrback=True, consumeErrors=True)
            except FirstError:
                failed = [step for step in group if step.freeze_problem and step.participant.abort]
                for freeze in freezes:
                    freeze.cancel()
                raise _NotFrozenError(
                    f"{step.name}: {step.freeze_problem}" for step in failed
                ) from None

    async def _thaw_in_order(self, outcome: str) -> tuple[str, ...]:
        window = self._steps_of or ""
        for group in reversed(list(_groups(self._steps))):
            await DeferredList(
                [Deferred.fromCoroutine(step.thaw(window, outcome)) for step in group]
            )
        return tuple(
            f"{step.name}: not thawed: {step.thaw_problem}"
            for step in self._steps
            if step.thaw_problem
        )

    def _write(self) -> None:
        course, present = self._course, self._course.window
        entries = (step.entry() for step in self._steps) if present else ()
        self._record.write(
            State(
                window=present.id if present else None,
                waiting=len(course.unanswered()),
                owed=present.owed if present else 0,
                entries=tuple(entry for entry in entries if entry is not None),
                strays=course.strays.present(self._reactor.seconds()),
            )
        )


class _NotFrozenError(Exception):
    """Participants that matter could not be frozen."""

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__()
        self.lines = tuple(lines)


def new_window_id() -> str:
    """Make the id of a new window.

    :return: the time of day (UTC), for whoever reads a log, and a few digits by chance.
    """
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


def _groups(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Part the steps, which are in order, into those of equal order."""
    for _, group in groupby(steps, key=lambda step: step.participant.order):
        yield list(group)
