"""Freezes and thaws the participants of one window in order."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import groupby
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.logger import Logger

from xohook.answers import Outcome
from xohook.disk import Disk
from xohook.errors import ParticipantError, RecordError
from xohook.record import Entry
from xohook.steps import Step, Terms
from xohook.unthawed import UnthawedSet

_log = Logger()


class NotFrozenError(Exception):
    """Participants that matter could not be frozen.

    :param lines: a line each.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__()
        self.lines = tuple(lines)


class Order:
    """The participants of one window, in their order.

    :param window: the window's id.
    :param time: when it opened, in seconds since the epoch.
    :param steps: how far each participant has come.
    :param disk: the agent's own disks.
    :param unthawed: what may still be frozen after its thaw.
    """

    def __init__(
        self,
        window: str,
        time: float,
        steps: Iterable[Step],
        disk: Disk,
        unthawed: UnthawedSet,
    ) -> None:
        self.window = window
        self.steps = tuple(sorted(steps, key=place))
        self.time = time
        self._disk = disk
        self._unthawed = unthawed

    def entries(self) -> tuple[Entry, ...]:
        """Tell what the record must hold of this window.

        :return: the participants that the next start may have something to do for.
        """
        entries = (step.entry() for step in self.steps)
        return tuple(entry for entry in entries if entry is not None)

    @property
    def filesystem_frozen(self) -> bool:
        """Whether some filesystem may be frozen, in this window or from an earlier one."""
        return self._unthawed.has_filesystems or self._holds_filesystem

    @property
    def _holds_filesystem(self) -> bool:
        return any(step.participant.freezes_filesystem and step.may_hold for step in self.steps)

    async def freeze(self, terms: Terms) -> None:
        """Freeze all of them.

        :param terms: what the window has agreed on.
        :raises NotFrozenError: where one that matters cannot be frozen.
        """
        if self._unthawed:
            await self._unthawed.retry()
        if self._unthawed:
            raise NotFrozenError(self._unthawed.lines())
        if not self.steps:
            return
        await self._write_stamp()
        await _side_by_side(self.steps, lambda step: step.prepare(terms))
        is_paused = False
        for group in groups(self.steps):
            if group[0].participant.freezes_filesystem and not is_paused:
                await self._write_stamp()
                self._disk.pause_log()
                is_paused = True
            await _side_by_side(group, lambda step: step.freeze(terms))
        if not is_paused:
            await self._write_stamp()

    async def flush(self, terms: Terms) -> None:
        """Freeze again those with nothing to thaw, unless nothing can be dirty.

        :param terms: what the window has agreed on.
        :raises NotFrozenError: where one that matters cannot be frozen.
        """
        if self.filesystem_frozen:
            return
        for group in groups(step for step in self.steps if not step.participant.holds):
            await _side_by_side(group, lambda step: step.freeze(terms))

    def extend(self, until: float) -> None:
        """Have the guards hold until another time.

        :param until: the time of the monotonic clock.
        """
        for step in self.steps:
            if step.may_hold:
                step.participant.extend(until)

    async def thaw(self, outcome: str) -> tuple[str, ...]:
        """Thaw all that was frozen or begun to be, in reverse.

        :param outcome: how the window ends; where a thaw fails, the next ones hear of that instead.
        :return: a line for each that was not thawed as it should have been.
        """
        for group in groups(self.steps, reverse=True):
            await thaw_side_by_side(group, self.window, outcome)
            if Outcome(outcome).is_good and any(step.thaw_problem for step in group):
                outcome = Outcome.FAILED.value
            if not self._holds_filesystem:
                # What is unthawed does not keep the log back: it has to name it, and the writer of
                # the log is the one who waits for a frozen disk.
                self._disk.resume_log()
        if self.steps and not (self.filesystem_frozen or self._unthawed):
            await self._disk.remove_stamp()
        return tuple(step.thaw_line for step in self.steps if step.thaw_line)

    async def _write_stamp(self) -> None:
        try:
            await self._disk.write_stamp(self.window, self.time, self.entries())
        except RecordError as error:
            raise NotFrozenError([str(error)]) from error


async def _side_by_side(
    steps: Sequence[Step], act: Callable[[Step], Coroutine[Deferred[Any], Any, None]]
) -> None:
    """Do the same with several steps at once; the first that fails breaks off the others."""
    running = [Deferred.fromCoroutine(act(step)) for step in steps]
    try:
        await DeferredList(running, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as first:
        failed = [step for step in steps if step.freeze_problem and step.participant.abort]
        for each in running:
            each.cancel()
        first.subFailure.trap(ParticipantError)
        raise NotFrozenError(f"{step.name}: {step.freeze_problem}" for step in failed) from None


async def thaw_side_by_side(steps: Sequence[Step], window: str, outcome: str) -> None:
    """Thaw several steps at once; a fault of xohook itself in one does not stop the others.

    :param steps: the steps.
    :param window: the window's id.
    :param outcome: how the window ends.
    """
    thaws = [Deferred.fromCoroutine(step.thaw(window, outcome)) for step in steps]
    results: list[tuple[bool, Any]] = await DeferredList(thaws, consumeErrors=True)
    for step, (is_done, fault) in zip(steps, results, strict=True):
        if not is_done:
            _log.failure("a fault of xohook itself", fault)
            step.thaw_problem = f"a fault of xohook itself: {fault.getErrorMessage()}"


def place(step: Step) -> tuple[int, bool]:
    """Tell where a step comes: those that still a disk after the others of their order.

    :param step: the step.
    :return: what steps are sorted by.
    """
    return step.participant.order, step.participant.freezes_filesystem


def groups(steps: Iterable[Step], *, reverse: bool = False) -> list[list[Step]]:
    """Part steps into those that are frozen, or thawed, side by side.

    :param steps: the steps, in the order of the freeze.
    :param reverse: whether to turn that order round.
    :return: the groups, in their order.
    """
    parted = [list(group) for _, group in groupby(steps, key=place)]
    return parted[::-1] if reverse else parted
