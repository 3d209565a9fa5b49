"""Keeps the window: drives the state machine, and freezes and thaws the participants in order."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.answers import Answer, Outcome, Requester
from xohook.course import Course
from xohook.disk import Disk
from xohook.errors import RecordError
from xohook.ordering import NotFrozenError, Order
from xohook.participants import Participant
from xohook.participants.making import from_record
from xohook.process import IProcessReactor
from xohook.record import Entry, Record, State
from xohook.sight import Sight, Watcher
from xohook.steps import Step, Terms
from xohook.strays import LatePostSyncs
from xohook.unthawed import UnthawedSet
from xohook.window import new_windows
from xohook.work import Limits

STOP_WAITS = 5.0
"""Seconds that a shutdown waits for programs that do not end (``docs/operation.rst``)."""

SAVE_AGAIN = 5.0
"""Seconds until a record that could not be written is written again: a full disk mends slowly."""

GUARD_GRACE = 0.5
"""Seconds that a guard waits for the agent beyond the end of a hold before it lets go itself."""


class Keeper:
    """Keeps the windows of one agent.

    :param reactor: the monotonic clock and the source of processes.
    :param record: where the next start finds what is owed.
    :param late_post_syncs: the ``/post-sync`` that are still expected from earlier windows.
    :param limits: the times that bound a window.
    :param participants: whoever takes part in every window.
    :param apps: tells which apps take part in the window that opens.
    :param disk: the agent's own disks, on what is frozen perhaps.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        record: Record,
        late_post_syncs: LatePostSyncs,
        limits: Limits,
        participants: Sequence[Participant],
        apps: Callable[[], Sequence[Participant]],
        disk: Disk,
    ) -> None:
        self._reactor = reactor
        self._record = record
        self._course = Course(reactor, self, limits, new_window_id, late_post_syncs, time.time)
        self._windows = new_windows(self._course)
        self._participants = tuple(participants)
        self._apps = apps
        self._disk = disk
        self._unthawed = UnthawedSet(reactor, self._unthawed_changed)
        self._order = Order("", 0.0, (), disk, self._unthawed)
        self._last = self._told = Answer(status=200)
        self._terms = Terms("", 0.0, self.let_go)
        self._let_go: set[str] = set()
        self._save_again: IDelayedCall | None = None
        self._under_way: Deferred[None] | None = None
        self._changes: list[Callable[[], object]] = []
        self.watchers: list[Watcher] = []
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

    def thaw_now(self, requester: Requester) -> None:
        """End the present window, if there is one.

        :param requester: who waits for its end.
        """
        self._windows.thaw_now(requester)

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
        """Note that a participant has let go by itself, which spoils the window if it matters.

        :param participant: who did.
        :param reason: its last words, or what became of it.
        """
        line = f"{participant.name}: {reason}"
        self._log.warn("window {window}: let go: {line}", window=self._order.window, line=line)
        self._let_go.add(line)
        if participant.abort:
            self._windows.let_go(line)

    @property
    def filesystem_frozen(self) -> bool:
        """Whether some filesystem may be frozen, in a window or after one whose thaw failed."""
        return self._order.filesystem_frozen

    def between_windows(self, change: Callable[[], object]) -> None:
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
        :return: the steps of that window; none where it is not the one that opened last.
        """
        return self._order.steps if window == self._order.window else ()

    def look(self) -> Sight:
        """Look at the present window, or at the last one where none is open.

        :return: what there is to see.
        """
        present = self._course.window
        if present is None:
            steps = self._order.steps if self._last.window else self._new_steps()
            return Sight(self._last, tuple(steps), opened=self._order.time or None)
        left = None
        if present.end is not None and present.end.active():
            left = present.end.getTime() - self._reactor.seconds()
        return Sight(
            self._course.says(200, *present.lines), self._order.steps, True, self._order.time, left
        )

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Take over what a start could not thaw; to be called first of all.

        :param entries: their entries in the record.
        :raises RecordError: where one cannot be understood.
        """
        for entry in entries:
            unthawed = from_record(self._reactor, entry).unthawed
            if unthawed is not None:
                self._unthawed.add(unthawed, entry)

    @property
    def unthawed(self) -> UnthawedSet:
        """What may still be frozen after its thaw."""
        return self._unthawed

    async def stop(self) -> None:
        """Thaw what is frozen and open no window any more; what cannot be thawed stays recorded.

        It returns when no program runs any more, or :data:`STOP_WAITS` seconds after the thaw.
        """
        self._windows.stop()
        await self._stopped
        await self._unthawed.retry()
        self._unthawed.stop()
        if self._save_again is not None and self._save_again.active():
            self._save_again.cancel()
            self.save()
        steps = self._order.steps
        quiet = DeferredList([step.participant.when_quiet() for step in steps], consumeErrors=True)
        # Past the time the list is cancelled, and with it each that is not quiet yet.
        results = await quiet.addTimeout(STOP_WAITS, self._reactor)
        for step, (is_quiet, _) in zip(steps, results, strict=True):
            if not is_quiet:
                self._log.warn("a program of {name} does not end: left to itself", name=step.name)

    # What the state machine asks of the keeper.

    def freeze(self, window: str) -> None:
        """Freeze all participants, then tell the machine.

        :param window: the window's id.
        """
        self._order = Order(window, time.time(), self._new_steps(), self._disk, self._unthawed)
        self._let_go.clear()
        self._tell()
        limits = self._course.limits
        longest = limits.freeze_budget + limits.hold_limit + GUARD_GRACE
        terms = self._terms = Terms(window, self._reactor.seconds() + longest, self.let_go)
        self._begin(self._order.freeze(terms), self._windows.frozen, self._windows.freeze_failed)

    def flush(self, window: str) -> None:
        """Freeze again those with nothing to thaw, then tell the machine.

        :param window: the window's id.
        """
        flushed = self._windows.flushed
        self._begin(self._order.flush(self._terms), partial(flushed, ()), flushed)

    def hold(self, until: float) -> None:
        """Have the guards hold as long as the window does, and a moment more.

        :param until: the time of the clock at which the hold ends.
        """
        self._order.extend(until + GUARD_GRACE)

    def cancel(self, why: str) -> tuple[str, ...]:
        """Break off the freeze or the flush that is under way.

        :param why: the reason.
        :return: a line for each participant that was not done.
        """
        undone = [step for step in self._order.steps if step.phase in ("preparing", "freezing")]
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()
        return tuple(f"{step.name}: not frozen: {why}" for step in undone)

    def thaw(self, outcome: Outcome) -> None:
        """Thaw all that was frozen or begun to be, then tell the machine.

        :param outcome: how the window ends.
        """
        work = Deferred.fromCoroutine(self._order.thaw(outcome.value))
        work.addErrback(self._own_fault)
        work.addCallback(self._windows.thawed)
        work.addErrback(self._own_fault)

    def save(self) -> None:
        """Write the record; where that fails it is tried again, and what is under way goes on."""
        try:
            self._write()
        except RecordError as error:
            self._log.error("{error}", error=error)
            if self._save_again is None or not self._save_again.active():
                self._save_again = self._reactor.callLater(SAVE_AGAIN, self.save)
        if self._course.window is not None:
            self._tell()

    def closed(self, end: Answer) -> None:
        """Tell the log how a window ended, and make the changes that have waited for it.

        :param end: what is to be said of its end.
        """
        say = self._log.info if end.status == 200 else self._log.warn
        say("window {window} {outcome}", window=end.window, outcome=end.state)
        logged = self._logged()
        for line in end.lines:
            if line not in logged:
                self._log.warn("window {window}: {line}", window=end.window, line=line)
        self._last = end
        self._tell()
        changes, self._changes = self._changes, []
        for change in changes:
            try:
                change()
            except Exception:  # noqa: BLE001 - whoever waits for an answer must have it.
                self._log.failure("a fault of xohook itself")

    def stopped(self) -> None:
        """Let go of who waits for the end."""
        self._stopped.callback(None)

    # The work itself.

    def _unthawed_changed(self) -> None:
        """Write the set down; when it is empty, the stamp is removed."""
        self.save()
        self._tell()
        if not self._unthawed and self._course.window is None:
            Deferred.fromCoroutine(self._disk.remove_stamp()).addErrback(self._own_fault)

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
            elif isinstance(result.value, NotFrozenError):
                failed(result.value.lines)
            else:
                failed(self._own_fault(result))

        under_way.addBoth(end).addErrback(self._own_fault)

    def _logged(self) -> set[str]:
        """Tell what went wrong in the present window and stands in the log already."""
        steps = self._order.steps
        not_frozen = {f"{step.name}: {step.freeze_problem}" for step in steps}
        return not_frozen | {step.thaw_line for step in steps} | self._let_go

    def _new_steps(self) -> list[Step]:
        each = (self._reactor, self._write, self._tell_step, self._unthawed.add)
        return [Step(it, *each) for it in (*self._participants, *self._apps())]

    def _tell(self) -> None:
        """Tell the watchers of the window as it is now, unless they have been told."""
        course = self._course
        told = self._last if course.window is None else course.says(200, *course.window.lines)
        if self.watchers and told != self._told:
            self._told = told
            self._tell_all(told, ())

    def _tell_step(self, step: Step) -> None:
        """Tell the watchers that a step's phase has changed."""
        if self.watchers:
            present = self._course.window
            state = present.state if present else self._last.state
            # Of thousands of steps each changes several times: it comes without the lines.
            self._tell_all(Answer(status=200, window=self._order.window, state=state), (step,))

    def _tell_all(self, answer: Answer, changed: Sequence[Step]) -> None:
        for watcher in tuple(self.watchers):
            try:
                watcher(answer, changed)
            except Exception:  # noqa: BLE001 - a thaw does not wait for who looks on.
                self._log.failure("a fault of xohook itself")

    def _own_fault(self, fault: Failure) -> tuple[str, ...]:
        """Log an error of xohook's own; the window goes on as with any other failure."""
        self._log.failure("a fault of xohook itself", fault)
        return (f"xohook: a fault of its own: {fault.getErrorMessage()}",)

    def _write(self) -> None:
        course, present = self._course, self._course.window
        self._record.write(
            State(
                window=present.id if present else None,
                waiting=len(course.unanswered()),
                owed=present.owed if present else 0,
                waiting_from=tuple(each.source for each in course.unanswered()),
                owed_from=tuple(present.owing) if present else (),
                entries=tuple(
                    each
                    for each in (*self._order.entries(), *self._unthawed.entries())
                    if each.is_owed
                ),
                late_post_syncs=course.late_post_syncs.present(self._reactor.seconds()),
            )
        )


def new_window_id() -> str:
    """Make the id of a new window.

    :return: the time of day (UTC), for whoever reads a log, and a few digits by chance.
    """
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
