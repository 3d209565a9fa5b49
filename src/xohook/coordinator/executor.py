"""Carries out what the state machine decides: freezes, thaws, and writes the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.coordinator.participant_runs import ParticipantRun, WindowTerms
from xohook.coordinator.sequence import FreezeSequence, NotFrozenError
from xohook.coordinator.status import Watchers
from xohook.coordinator.unthawed import UnthawedSet
from xohook.errors import RecordError
from xohook.participants import Participant
from xohook.processes.process import IProcessReactor
from xohook.state.disk import Disk
from xohook.state.record import Record, State
from xohook.window.answers import Answer, Outcome
from xohook.window.effects import MachineState
from xohook.window.inputs import WindowInputs
from xohook.window.late_post_syncs import LatePostSyncs

STOP_WAITS = 5.0
"""Seconds that a shutdown waits for programs that do not end (``docs/operation.rst``)."""

SAVE_AGAIN = 5.0
"""Seconds until a record that could not be written is written again: a full disk mends slowly."""

GUARD_GRACE = 0.5
"""Seconds that a guard waits for the agent beyond the end of a hold before it lets go itself."""


class Executor:
    """The :class:`~xohook.window.effects.WindowEffects` of one agent.

    It has no reference to the machine. Each effect that takes time gets the machine's inputs, and
    calls one of them when it has ended.

    :param reactor: the monotonic clock and the source of processes.
    :param record: the record that the next start reads.
    :param late_post_syncs: the ``/post-sync`` expected from windows that have ended; they are read
        whenever the record is written.
    :param participants: those that take part in every window; may be exchanged between windows.
    :param apps: returns the apps that take part in the window that opens.
    :param disk: the agent's own disks, which may be frozen.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        record: Record,
        late_post_syncs: LatePostSyncs,
        participants: Sequence[Participant],
        apps: Callable[[], Sequence[Participant]],
        disk: Disk,
    ) -> None:
        self.participants = tuple(participants)
        self.unthawed = UnthawedSet(reactor, self._unthawed_changed)
        self.watchers = Watchers()
        self.sequence: FreezeSequence | None = None
        """The freeze of the present window, or of the last; None before the first."""
        self.last: Answer | None = None
        """How the last window ended; None before the first end."""
        self._reactor = reactor
        self._record = record
        self._late_post_syncs = late_post_syncs
        self._apps = apps
        self._disk = disk
        self._state = MachineState()
        self._under_way: Deferred[None] | None = None
        self._write_again: IDelayedCall | None = None
        self._changes: list[Callable[[], object]] = []
        self._stopped: Deferred[None] = Deferred()

    # The effects.

    def window_opened(self, state: MachineState) -> None:
        """Notify the watchers of a new window.

        :param state: what the machine knows now.
        """
        self._state = state
        self._notify()

    def freeze(self, inputs: WindowInputs, window: str, until: float) -> None:
        """Freeze all participants; it ends with ``frozen`` or ``freeze_failed``.

        :param inputs: the machine.
        :param window: the window's id.
        :param until: the time of the clock at which freeze and hold have ended at the latest.
        """
        terms = WindowTerms(window, until + GUARD_GRACE, partial(self._let_go, inputs))
        self.sequence = FreezeSequence(
            terms, time.time(), self.new_runs(), self._disk, self.unthawed
        )
        self._start(self.sequence.freeze(), inputs.frozen, inputs.freeze_failed)

    def flush(self, inputs: WindowInputs) -> None:
        """Freeze those again that have nothing to thaw; it ends with ``flushed``.

        :param inputs: the machine.
        """
        self._start(self._present.flush(), partial(inputs.flushed, ()), inputs.flushed)

    def cancel(self, why: str) -> tuple[str, ...]:
        """Cancel the freeze or the flush that is under way; it then ends with no input.

        :param why: the reason.
        :return: a line for each participant that was not done.
        """
        undone = () if self.sequence is None else self.sequence.undone()
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.cancel()
        return tuple(f"{name}: not frozen: {why}" for name in undone)

    def hold(self, until: float) -> None:
        """Extend the hold of all guards until :data:`GUARD_GRACE` after the window's.

        :param until: the time of the clock at which the hold ends.
        """
        self._present.extend(until + GUARD_GRACE)

    def thaw(self, inputs: WindowInputs, outcome: Outcome) -> None:
        """Thaw all that was frozen or begun to be; it ends with ``thawed``.

        :param inputs: the machine.
        :param outcome: how the window ends, unless a thaw fails.
        """
        thaw = Deferred.fromCoroutine(self._thaw(outcome))
        thaw.addErrback(self._log_fault)
        thaw.addCallback(inputs.thawed)
        thaw.addErrback(self._log_fault)

    def persist(self, state: MachineState) -> None:
        """Write the record. If that fails it is tried again, and what is under way goes on.

        :param state: what the machine knows now.
        """
        self._state = state
        self._persist()

    def window_closed(self, end: Answer) -> None:
        """Log how a window ended, and make the changes that have waited for it.

        :param end: what there is to say of it.
        """
        log = self._log.info if end.status == 200 else self._log.warn
        log("window {window} {outcome}", window=end.window, outcome=end.state)
        logged = set() if self.sequence is None else self.sequence.logged_lines()
        for line in end.lines:
            if line not in logged:
                self._log.warn("window {window}: {line}", window=end.window, line=line)
        self.last = end
        self._notify()
        changes, self._changes = self._changes, []
        for change in changes:
            try:
                change()
            except Exception:  # noqa: BLE001 - whoever waits for an answer must get it.
                self._log.failure("a fault of xohook itself")

    def stopped(self) -> None:
        """End the wait of :meth:`finish`."""
        self._stopped.callback(None)

    # What the coordinator needs besides.

    @property
    def filesystem_frozen(self) -> bool:
        """Whether some filesystem may be frozen, in a window or after one whose thaw failed."""
        if self.sequence is None:
            return self.unthawed.has_filesystems
        return self.sequence.filesystem_frozen

    def new_runs(self) -> list[ParticipantRun]:
        """Make a run for each participant of a window that opens now.

        :return: the runs.
        """
        each = (self._reactor, self._write, self._run_changed, self.unthawed.add)
        return [ParticipantRun(it, *each) for it in (*self.participants, *self._apps())]

    def between_windows(self, change: Callable[[], object]) -> None:
        """Make a change while no window is open: now, or at the end of the present one.

        :param change: makes it.
        """
        if self._state.answer is None:
            change()
        else:
            self._changes.append(change)

    async def finish(self) -> None:
        """Wait until the machine has stopped, then for all that is under way.

        It returns when no program runs any more, or :data:`STOP_WAITS` seconds after the thaw.
        """
        await self._stopped
        await self.unthawed.retry()
        self.unthawed.stop()
        if self._write_again is not None and self._write_again.active():
            self._write_again.cancel()
            self._persist()
        runs = () if self.sequence is None else self.sequence.runs
        quiet = DeferredList([run.participant.when_quiet() for run in runs], consumeErrors=True)
        # When the time is up the list is cancelled, and with it each that is not quiet yet.
        results = await quiet.addTimeout(STOP_WAITS, self._reactor)
        for run, (is_quiet, _) in zip(runs, results, strict=True):
            if not is_quiet:
                self._log.warn("a program of {name} does not end: left to itself", name=run.name)

    # How it is done.

    @property
    def _present(self) -> FreezeSequence:
        """The freeze of the present window, while there is one."""
        assert self.sequence is not None
        return self.sequence

    def _start(
        self,
        work: Coroutine[Deferred[Any], Any, None],
        done: Callable[[], None],
        failed: Callable[[tuple[str, ...]], None],
    ) -> None:
        """Start a freeze or a flush. Its end is an input, unless it is cancelled before."""
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
                failed(self._log_fault(result))

        under_way.addBoth(end).addErrback(self._log_fault)

    async def _thaw(self, outcome: Outcome) -> tuple[str, ...]:
        # There is none after an internal error of a first freeze, and so nothing to thaw.
        return () if self.sequence is None else await self.sequence.thaw(outcome.value)

    def _let_go(self, inputs: WindowInputs, participant: Participant, reason: str) -> None:
        """Report a participant that has let go by itself, which breaks the window if it matters."""
        line = self._present.log_let_go(participant, reason)
        if participant.abort:
            inputs.let_go(line)

    def _unthawed_changed(self) -> None:
        """Write the set into the record; when it is empty, remove the stamp."""
        self._persist()
        self._notify()
        if not self.unthawed and self._state.answer is None:
            Deferred.fromCoroutine(self._remove_stamp()).addErrback(self._log_fault)

    async def _remove_stamp(self) -> None:
        await self._disk.remove_stamp()
        self._persist()

    def _notify(self) -> None:
        """Notify the watchers of the present window, or of the last."""
        answer = self.last if self._state.answer is None else self._state.answer
        if answer is not None:
            self.watchers.window_changed(answer)

    def _run_changed(self, run: ParticipantRun) -> None:
        answer = self.last if self._state.answer is None else self._state.answer
        if answer is not None:
            self.watchers.run_changed(answer, run)

    def _log_fault(self, fault: Failure) -> tuple[str, ...]:
        """Log an internal error; the window goes on as with any other failure."""
        self._log.failure("a fault of xohook itself", fault)
        return (f"xohook: a fault of its own: {fault.getErrorMessage()}",)

    def _persist(self) -> None:
        """Write the record, now or later, and notify the watchers of an open window."""
        try:
            self._write()
        except RecordError as error:
            self._log.error("{error}", error=error)
            if self._write_again is None or not self._write_again.active():
                self._write_again = self._reactor.callLater(SAVE_AGAIN, self._persist)
        if self._state.answer is not None:
            self._notify()

    def _write(self) -> None:
        """Write the record.

        :raises RecordError: if it cannot be written.
        """
        state = self._state
        of_window = () if self.sequence is None else self.sequence.entries()
        entries = (*of_window, *self.unthawed.entries())
        self._record.write(
            State(
                window=None if state.answer is None else state.answer.window,
                waiting=len(state.waiting),
                owed=len(state.owing),
                waiting_from=state.waiting,
                owed_from=state.owing,
                entries=tuple(entry for entry in entries if entry.is_owed),
                late_post_syncs=self._late_post_syncs.present(self._reactor.seconds()),
            ),
            has_stamp=self._disk.has_stamp,
        )
