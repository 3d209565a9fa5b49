"""Thaws filesystems in the place of a guard that holds nothing any more."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Mapping, Sequence

from twisted.logger import Logger

from xohook.errors import ParticipantError
from xohook.host.mounts import reachable, table
from xohook.host.pids import start_time
from xohook.participants import targets
from xohook.participants.targets import Identity
from xohook.processes.guarding import PATIENCE, Guard, Listener
from xohook.processes.guards import freezer
from xohook.processes.process import IProcessReactor, end_leftover

Process = tuple[int, "int | None"]
"""A process's number and start, which name it for good."""

_FREEZE_ERRORS = {
    errno.EBUSY: "somebody else has frozen it already",
    errno.ENOTTY: "this kind of filesystem cannot be frozen",
    errno.EOPNOTSUPP: "this kind of filesystem cannot be frozen",
    errno.EPERM: "only root can freeze it",
    errno.ETIME: "it is too late",
}


class RescueGuard:
    """A guard that thaws what another one has frozen.

    :param reactor: the source of processes.
    :param name: the participant's name.
    """

    _log = Logger()

    def __init__(self, reactor: IProcessReactor, name: str) -> None:
        self._reactor = reactor
        self._name = name
        self._guard: Guard | None = None

    async def thaw(self, identities: Sequence[Identity], descriptors: Sequence[int]) -> list[str]:
        """Thaw filesystems.

        :param identities: the filesystems.
        :param descriptors: one of each, where the agent has them.
        :return: a result for each, as :mod:`xohook.processes.guards.freezer` has them.
        :raises ParticipantError: where they cannot be opened, or the guard ends.
        """
        self._log.warn("{name} is thawed in the place of its guard", name=self._name)
        passed = {freezer.DESCRIPTORS + index: each for index, each in enumerate(descriptors)}
        guard = self._guard = start(self._reactor, self, passed)
        wanted = targets.passed_in(identities) if descriptors else _found(identities)
        try:
            await opened(guard, wanted)
            guard.tell("rescue")
            _, results = (await guard.ask("thaw")).split(" ")
        finally:
            guard.release()
        return results.split(",")

    def wake(self) -> None:
        """Let it go on, if somebody has stopped it."""
        if self._guard is not None:
            self._guard.signal(signal.SIGCONT)

    def heard(self, line: str) -> None:
        """Ignore what it reports unasked: only its answers count."""

    def ended(self, reason: str) -> None:
        """Ignore its end: whoever waits for an answer hears of it."""


def start(reactor: IProcessReactor, listener: Listener, descriptors: Mapping[int, int]) -> Guard:
    """Start a guard of filesystems.

    :param reactor: the source of processes.
    :param listener: hears what it reports unasked.
    :param descriptors: the descriptors that it gets.
    :return: the guard.
    :raises ParticipantError: where no process can be started.
    """
    try:
        return Guard(reactor, freezer, listener, descriptors)
    except OSError as error:
        raise ParticipantError(f"no process can be started: {error.strerror}") from error


async def opened(guard: Guard, wanted: Sequence[str]) -> list[str]:
    """Have a guard open filesystems.

    :param guard: the guard.
    :param wanted: the targets.
    :return: each filesystem as the guard describes it.
    :raises ParticipantError: where one cannot be opened.
    """
    word, _, rest = (await guard.ask(f"open {' '.join(wanted)}")).partition(" ")
    if word != "ready":
        raise ParticipantError(rest)
    return rest.split()


async def end_guard(reactor: IProcessReactor, guard: Process) -> None:
    """End the guard of an earlier run: it may be in the middle of a freeze.

    :param reactor: the clock.
    :param guard: its process.
    :raises ParticipantError: where it does not end yet.
    """
    pid, started = guard
    await end_leftover(reactor, pid, started, PATIENCE)
    if started is not None and start_time(pid) == started:
        raise ParticipantError(
            f"the guard of an earlier run (process {pid}) has a freeze or a thaw under way"
        )


def freeze_error(number: int) -> str:
    """Put into words why a filesystem was not frozen.

    :param number: the error number.
    :return: the reason.
    """
    return _FREEZE_ERRORS.get(number) or os.strerror(number)


def not_held(points: Sequence[str], results: Sequence[str]) -> str:
    """Tell which filesystems were not frozen until their thaw.

    :param points: their mount points.
    :param results: the results of their thaw.
    :return: the reasons; empty where all were.
    """
    return "; ".join(f"{point}: {reason}" for point, reason in _reasons(points, results))


def still_frozen(points: Sequence[str], results: Sequence[str]) -> str:
    """Tell which filesystems are frozen still.

    :param points: their mount points.
    :param results: the results of their thaw.
    :return: the reasons; empty where none is.
    """
    numbers = (int(each) if each.isdecimal() else 0 for each in results)
    return "; ".join(
        f"{point}: {os.strerror(number)}"
        for point, number in zip(points, numbers, strict=True)
        if number not in (0, errno.EINVAL)
    )


def _reasons(points: Sequence[str], results: Sequence[str]) -> Iterator[tuple[str, str]]:
    for point, result in zip(points, results, strict=True):
        if result == "w":
            yield point, "it was written to during the hold: somebody else had thawed it meanwhile"
        elif result == str(errno.EINVAL):
            yield point, "somebody else had thawed it before"
        elif result not in ("-", "0"):
            yield point, os.strerror(int(result))


def _found(identities: Sequence[Identity]) -> list[str]:
    mounts = table()
    return [targets.found(each, reachable(each.device, mounts)) for each in identities]
