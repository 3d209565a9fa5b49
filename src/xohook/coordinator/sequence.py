"""Freezes the participants of one window in their order, and thaws them in reverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import groupby
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.logger import Logger

from xohook.coordinator.participant_runs import ParticipantRun, WindowTerms
from xohook.coordinator.unthawed import UnthawedSet
from xohook.errors import ParticipantError, RecordError
from xohook.participants import Participant
from xohook.participants.app import App
from xohook.state.disk import Disk
from xohook.state.record import Entry
from xohook.window.answers import Outcome

_log = Logger()


class NotFrozenError(Exception):
    """Participants that matter could not be frozen.

    :param lines: a line each.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__()
        self.lines = tuple(lines)


class FreezeSequence:
    """The freeze and the thaw of one window's participants.

    :param terms: what is the same for all participants.
    :param opened: when the window opened, in seconds since the epoch.
    :param runs: a run of each participant.
    :param disk: the agent's own disks.
    :param unthawed: what may still be frozen after its thaw, of any window.
    """

    def __init__(
        self,
        terms: WindowTerms,
        opened: float,
        runs: Iterable[ParticipantRun],
        disk: Disk,
        unthawed: UnthawedSet,
    ) -> None:
        self.window = terms.window
        self.runs = tuple(sorted(runs, key=position))
        self.opened = opened
        self._terms = terms
        self._disk = disk
        self._unthawed = unthawed
        self._let_go: set[str] = set()

    @property
    def filesystem_frozen(self) -> bool:
        """Whether some filesystem may be frozen, by this window or an earlier one."""
        return self._unthawed.has_filesystems or self._has_filesystem_frozen

    @property
    def _has_filesystem_frozen(self) -> bool:
        return any(run.filesystem_frozen for run in self.runs)

    def entries(self) -> tuple[Entry, ...]:
        """Return what the record must have of this window.

        :return: an entry for each participant that the next start may have something to do for.
        """
        entries = (run.entry() for run in self.runs)
        return tuple(entry for entry in entries if entry is not None)

    def undone(self) -> tuple[str, ...]:
        """Return which participants are being prepared or frozen.

        :return: their names.
        """
        return tuple(run.name for run in self.runs if run.phase in ("preparing", "freezing"))

    def logged_lines(self) -> set[str]:
        """Return what went wrong in this window and is in the log already.

        :return: the lines.
        """
        not_frozen = {f"{run.name}: {run.freeze_problem}" for run in self.runs}
        return not_frozen | {run.thaw_line for run in self.runs} | self._let_go

    def log_let_go(self, participant: Participant, reason: str) -> str:
        """Log that a participant has let go by itself.

        :param participant: the participant.
        :param reason: its last words, or what happened to it.
        :return: the line.
        """
        line = f"{participant.name}: {reason}"
        _log.warn("window {window}: let go: {line}", window=self.window, line=line)
        self._let_go.add(line)
        return line

    async def freeze(self) -> None:
        """Freeze all participants.

        :raises NotFrozenError: if one that matters cannot be frozen.
        """
        if self._unthawed:
            await self._unthawed.retry()
        if self._unthawed:
            raise NotFrozenError(self._unthawed.lines())
        if not self.runs:
            return
        await self._write_stamp()
        await _side_by_side(self.runs, lambda run: run.prepare(self._terms))
        is_paused = False
        for group in groups(self.runs):
            if group[0].participant.freezes_filesystem and not is_paused:
                await self._write_stamp()
                self._disk.pause_log()
                is_paused = True
            await _side_by_side(group, lambda run: run.freeze(self._terms))
        if not is_paused:
            await self._write_stamp()

    async def flush(self) -> None:
        """Freeze those again that have nothing to thaw, unless a filesystem is frozen.

        :raises NotFrozenError: if one that matters cannot be frozen.
        """
        if self.filesystem_frozen:
            return
        for group in groups(run for run in self.runs if not run.participant.holds):
            await _side_by_side(group, lambda run: run.freeze(self._terms))

    def extend(self, until: float) -> None:
        """Extend the hold of all guards.

        :param until: the time of the monotonic clock.
        """
        for run in self.runs:
            if run.may_hold:
                run.participant.extend(until)

    async def thaw(self, outcome: str) -> tuple[str, ...]:
        """Thaw all that was frozen or begun to be, in reverse order.

        :param outcome: how the window ends; if a thaw fails, the next ones get ``failed`` instead.
        :return: a line for each participant that was not thawed as it should have been.
        """
        # The timeouts that apps wish for count once, for all these apps together: whoever may
        # register could otherwise hold up those of lower order as often as there are orders.
        wished = [run for run in self.runs if _is_thaw_wished(run)]
        left = max((run.participant.thaw_timeout for run in wished), default=0.0)
        for group in groups(self.runs, reverse=True):
            begun = {run for run in group if run in wished and run.may_hold}
            await _thaw_side_by_side(group, self.window, outcome, left)
            left = max(0.0, left - max((run.seconds for run in begun), default=0.0))
            if Outcome(outcome).is_good and any(run.thaw_problem for run in group):
                outcome = Outcome.FAILED.value
            if not self._has_filesystem_frozen:
                # What is unthawed does not keep the log paused: the log has to name it, and the
                # process that writes the log is the one that waits for a frozen disk.
                self._disk.resume_log()
        if self.runs and not (self.filesystem_frozen or self._unthawed):
            await self._disk.remove_stamp()
        return tuple(run.thaw_line for run in self.runs if run.thaw_line)

    async def _write_stamp(self) -> None:
        try:
            await self._disk.write_stamp(self.window, self.opened, self.entries())
        except RecordError as error:
            raise NotFrozenError([str(error)]) from error


async def _side_by_side(
    runs: Sequence[ParticipantRun],
    act: Callable[[ParticipantRun], Coroutine[Deferred[Any], Any, None]],
) -> None:
    """Do the same with several runs at once; the first that fails cancels the others."""
    running = [Deferred.fromCoroutine(act(run)) for run in runs]
    try:
        await DeferredList(running, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as first:
        failed = [run for run in runs if run.freeze_problem and run.participant.abort]
        for each in running:
            each.cancel()
        first.subFailure.trap(ParticipantError)
        raise NotFrozenError(f"{run.name}: {run.freeze_problem}" for run in failed) from None


def _is_thaw_wished(run: ParticipantRun) -> bool:
    return isinstance(run.participant, App) and run.participant.is_thaw_wished


async def _thaw_side_by_side(
    runs: Sequence[ParticipantRun], window: str, outcome: str, left: float
) -> None:
    """Thaw several participants at once; an internal error in one does not stop the others.

    :param runs: their runs.
    :param window: the window's id.
    :param outcome: how the window ends.
    :param left: seconds that are left for apps that thaw in a time of their own choice.
    """
    thaws = [
        Deferred.fromCoroutine(
            run.thaw(window, outcome, left if _is_thaw_wished(run) else math.inf)
        )
        for run in runs
    ]
    results: list[tuple[bool, Any]] = await DeferredList(thaws, consumeErrors=True)
    for run, (is_done, fault) in zip(runs, results, strict=True):
        if not is_done:
            _log.failure("a fault of xohook itself", fault)
            run.thaw_problem = f"a fault of xohook itself: {fault.getErrorMessage()}"


def position(run: ParticipantRun) -> tuple[int, bool]:
    """Return the key that sorts runs: by ``order``, and within one order filesystems last.

    :param run: the run.
    :return: the key.
    """
    return run.participant.order, run.participant.freezes_filesystem


def groups(runs: Iterable[ParticipantRun], *, reverse: bool = False) -> list[list[ParticipantRun]]:
    """Part runs into groups that are frozen, or thawed, side by side.

    :param runs: the runs, sorted by :func:`position`.
    :param reverse: whether to reverse the groups.
    :return: the groups, in their order.
    """
    parted = [list(group) for _, group in groupby(runs, key=position)]
    return parted[::-1] if reverse else parted
