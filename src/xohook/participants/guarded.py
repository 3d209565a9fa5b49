"""Filesystems under one guard, from their opening until their thaw is proved.

What is frozen outlives the window, and the guard, that froze it. So the states are those of the
filesystems themselves, and two rules bind every way to :attr:`GuardState.THAWED`:

- the kernel has said so (a FITHAW that returned 0 or ``EINVAL``), on a descriptor that is proved to
  belong to that filesystem. A guard's death proves nothing: what it froze stays frozen;
- no FIFREEZE can be in flight any more: the guard that may have one has been reaped, or has
  reported the return of that call. Until then FITHAW says ``EINVAL``, and the freeze succeeds
  afterwards.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.errors import NotHeldError, ParticipantError
from xohook.host.pids import process_state
from xohook.participants import targets
from xohook.participants.rescue import (
    Process,
    RescueGuard,
    end_guard,
    freeze_error,
    not_held,
    opened,
    start,
    still_frozen,
)
from xohook.participants.targets import Identity
from xohook.processes.guarding import PATIENCE, Guard, GuardGoneError
from xohook.processes.guards import freezer
from xohook.processes.process import IProcessReactor

_IN_SYSTEM_CALL = "D"
"""The state of a process that waits in the kernel, beyond the reach of signals (proc(5))."""


class GuardState(Enum):
    """What is known of the filesystems, and what their guard does."""

    OPENING = "opening"
    """The guard has been started. Nothing is frozen."""
    OPEN = "open"
    """The guard has opened all of them. Nothing is frozen."""
    FREEZING = "freezing"
    """A FIFREEZE may be in flight."""
    FROZEN = "frozen"
    """All are frozen, and the guard lives."""
    RELEASED = "released"
    """The guard has to let go, and has not reported that it has. A FIFREEZE may be in flight."""
    UNPROVED = "unproved"
    """The guard holds nothing any more. All are frozen, for all that is known."""
    THAWED = "thawed"
    """Nothing is frozen by this guard: that is proved, or the administrator said so."""


class GuardedFilesystems:
    """Filesystems under one guard.

    :param reactor: the clock and the source of processes.
    :param name: the participant's name.
    :param lost: called with the reason when frozen ones are let go of before that is asked for.
    """

    _log = Logger()

    def __init__(
        self, reactor: IProcessReactor, name: str, lost: Callable[[str], None] = lambda _: None
    ) -> None:
        self.name = name
        self.state = GuardState.OPENING
        self.identities: tuple[Identity, ...] = ()
        self.problem = ""
        self.on_thawed: list[Callable[[], None]] = []
        self.changed: Callable[[], None] = lambda: None
        self._spoilt = ""
        self._reactor = reactor
        self._lost = lost
        self._guard: Guard | None = None
        self._leftover: Process | None = None
        self._descriptors: list[int] = []
        self._rescue_guard: RescueGuard | None = None
        self._waiting: list[Deferred[None]] = []

    @classmethod
    def from_record(
        cls,
        reactor: IProcessReactor,
        name: str,
        identities: Sequence[Identity],
        leftover: Process | None,
    ) -> GuardedFilesystems:
        """Take up what an earlier run of the agent has left frozen, perhaps.

        :param reactor: the clock and the source of processes.
        :param name: the participant's name.
        :param identities: the filesystems.
        :param leftover: the process of the guard that froze them.
        :return: the filesystems, their thaw unproved.
        """
        found = cls(reactor, name)
        found.state = GuardState.UNPROVED
        found.identities = tuple(identities)
        found._leftover = leftover
        return found

    @property
    def may_be_frozen(self) -> bool:
        """Whether any may be frozen by this guard, for all that is known."""
        return self.state not in (GuardState.OPENING, GuardState.OPEN, GuardState.THAWED)

    @property
    def process(self) -> Mapping[str, Any]:
        """Name no process: that of the guard stands in :meth:`recovery_data`."""
        return {}

    @property
    def points(self) -> tuple[str, ...]:
        """Their mount points."""
        return tuple(each.point for each in self.identities)

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw them.

        :return: plain values for the record.
        """
        guard = self._leftover if self._guard is None else self._guard.identity
        frozen = self.identities if self.may_be_frozen else ()
        return {
            "mounts": tuple(each.point for each in frozen),
            "filesystems": tuple(attrs.asdict(each) for each in frozen),
            "guard": guard,
        }

    async def open(self, wanted: Sequence[str], until: float) -> None:
        """Start the guard, which opens the filesystems.

        :param wanted: what to open, as :func:`xohook.participants.targets.fresh` names it.
        :param until: the time of the monotonic clock at which the guard lets go.
        :raises ParticipantError: where one cannot be opened.
        """
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            self._thawed_for_good()
            raise ParticipantError(f"no guard can be started: {error.strerror}") from error
        with ours, theirs:
            ours.setblocking(False)
            try:
                passed = {freezer.DESCRIPTORS: theirs.fileno()}
                guard = self._guard = start(self._reactor, self, passed)
                guard.tell(f"until {until}")
                described = await opened(guard, wanted)
                self._descriptors = targets.receive(ours, len(wanted))
            except BaseException:
                self.release()
                raise
        self.identities = tuple(map(Identity.from_guard, described))
        self._enter(GuardState.OPEN)

    async def freeze(self, persist: Callable[[], None]) -> None:
        """Freeze all of them, or none.

        :param persist: writes :meth:`recovery_data` down before anything is frozen.
        :raises ParticipantError: where one cannot be frozen.
        """
        guard = self._guard
        if guard is None or not self._is(GuardState.OPEN):
            raise ParticipantError(self._spoilt or "its guard is not there")
        self._enter(GuardState.FREEZING)
        try:
            persist()
        except BaseException:
            self._enter(GuardState.OPEN)
            raise
        guard.ask("freeze").addCallbacks(self._froze, _gone).addErrback(self._log_fault)
        try:
            await self._until(lambda: self.state is not GuardState.FREEZING)
        except BaseException:
            # Whatever the guard is doing, it thaws as soon as that returns.
            self.release()
            raise
        if not self._is(GuardState.FROZEN):
            raise ParticipantError(self._spoilt)

    def extend(self, until: float) -> None:
        """Hold until another time.

        :param until: the time of the monotonic clock.
        """
        if self._guard is not None:
            self._guard.tell(f"until {until}")

    def release(self) -> None:
        """Have the guard let go without an order: it is not known what it is doing."""
        if self.state in (GuardState.FREEZING, GuardState.FROZEN):
            self._enter(GuardState.RELEASED)
        elif self.state in (GuardState.OPENING, GuardState.OPEN):
            self._thawed_for_good()
        if self._guard is not None:
            self._guard.release()

    async def thaw(self) -> None:
        """Thaw all of them. It can be cancelled, and goes on by itself then.

        :raises ParticipantError: where they are not thawed, or were not frozen until now.
        """
        is_proof = self.state is GuardState.FROZEN
        if self._guard is not None and is_proof:
            self._enter(GuardState.RELEASED)
            self._guard.ask("thaw").addCallbacks(self._thawed, _gone).addErrback(self._log_fault)
        else:
            self.release()
        await self.attempt()
        if self._guard is not None:
            self._guard.release()
        if self.may_be_frozen:
            raise ParticipantError(self.problem)
        if is_proof and self._spoilt:
            raise NotHeldError(self._spoilt)

    async def attempt(self) -> None:
        """Try to thaw what may be frozen still; :attr:`problem` tells why it is, if it is.

        It can be cancelled, and goes on by itself then.
        """
        if self.state is GuardState.RELEASED:
            await self._until_let_go()
        if self.state is GuardState.UNPROVED:
            await self._rescue()

    def forget(self) -> None:
        """Count all as thawed: the administrator says that they are gone."""
        self._thawed_for_good()

    async def _until_let_go(self) -> None:
        """Wait for the guard's word, or its end; one that gives neither is killed.

        One that is in the middle of a system call is left to itself: it lets go when that returns.
        """
        guard = self._guard
        while guard is not None and self.state is GuardState.RELEASED:
            self.problem = f"its guard (process {guard.pid}) has a freeze or a thaw under way"
            let_go = self._until(lambda: self.state is not GuardState.RELEASED)
            try:
                await Deferred.fromCoroutine(let_go).addTimeout(PATIENCE, self._reactor)
            except defer.TimeoutError:
                if process_state(guard.pid) != _IN_SYSTEM_CALL:
                    self._spoilt = "its guard did not answer; thawed in its place"
                    guard.signal(signal.SIGKILL)

    # The thaw in the place of a guard that holds nothing any more.

    async def _rescue(self) -> None:
        if self._rescue_guard is None:
            self._rescue_guard = RescueGuard(self._reactor, self.name)
            rescue = Deferred.fromCoroutine(self._rescue_by(self._rescue_guard))
            rescue.addErrback(self._log_fault)
        else:
            self._rescue_guard.wake()
        await self._until(lambda: self._rescue_guard is None)

    async def _rescue_by(self, guard: RescueGuard) -> None:
        try:
            if self._leftover is not None:
                await end_guard(self._reactor, self._leftover)
                self._leftover = None
            results = await guard.thaw(self.identities, self._descriptors)
            self.problem = still_frozen(self.points, results)
            if not self.problem:
                self._thawed_for_good()
        except ParticipantError as error:
            self.problem = str(error)
        finally:
            self._rescue_guard = None
            self._changed()

    # What the guard reports.

    def heard(self, line: str) -> None:
        """Take what the guard reports unasked.

        :param line: the line.
        """
        word, _, rest = line.partition(" ")
        if word == "unlocked":
            self._log.warn(
                "{name}: its guard cannot be locked in memory: let the agent have CAP_IPC_LOCK, or"
                " raise LimitMEMLOCK of its unit",
                name=self.name,
            )
        elif word == "thawed" and self.may_be_frozen:
            self._take(rest, "its guard let go before the agent asked it to")

    def ended(self, reason: str) -> None:
        """Take the guard's end.

        :param reason: how it ended.
        """
        self._guard = None
        self._spoilt = self._spoilt or reason
        if self.may_be_frozen and self.state is not GuardState.UNPROVED:
            self._is_unproved()
        elif not self.may_be_frozen:
            self._thawed_for_good()

    def _froze(self, answer: str) -> None:
        if answer != "frozen":
            _, index, number, results = answer.split(" ")
            self._take(results)
            self._spoilt = f"{self.points[int(index)]}: {freeze_error(int(number))}"
        elif self.state is GuardState.FREEZING:
            self._enter(GuardState.FROZEN)

    def _thawed(self, answer: str) -> None:
        self._take(answer.removeprefix("thawed "))

    def _take(self, said: str, reason: str = "") -> None:
        """Take the results of the guard's last thaw, after which it holds nothing any more."""
        results = said.split(",")
        self._spoilt = "; ".join(filter(None, (reason, not_held(self.points, results))))
        self.problem = still_frozen(self.points, results)
        if self.problem:
            self._is_unproved()
            return
        was_frozen = self.state is GuardState.FROZEN
        self._thawed_for_good()
        if was_frozen:
            self._lost(self._spoilt)

    def _is_unproved(self) -> None:
        """Thaw at once: nobody holds them any more, whatever becomes of the window."""
        was_frozen = self.state is GuardState.FROZEN
        self._enter(GuardState.UNPROVED)
        Deferred.fromCoroutine(self._rescue()).addErrback(self._log_fault)
        if was_frozen:
            self._lost(self._spoilt)

    # The states.

    def _thawed_for_good(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._enter(GuardState.THAWED)
        hooks, self.on_thawed = self.on_thawed, []
        for hook in hooks:
            hook()

    def _enter(self, state: GuardState) -> None:
        self.state = state
        self._changed()

    def _is(self, state: GuardState) -> bool:
        return self.state is state

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            change: Deferred[None] = Deferred(lambda it: self._waiting.remove(it))
            self._waiting.append(change)
            await change

    def _log_fault(self, fault: Failure) -> None:
        self._log.failure("a fault of xohook itself", fault)


def _gone(failure: Failure) -> None:
    """Make nothing of an answer that never came: the guard's end is taken note of by itself."""
    failure.trap(GuardGoneError)
