"""An app that is a pair of programs, one that freezes and one that thaws."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress

from xohook.client import Freeze, Thaw
from xohook.durations import format_duration
from xohook.errors import XohookError
from xohook.host.pids import group_lives, unkillable
from xohook.participants import Operation
from xohook.participants.programs import Surroundings, still_runs
from xohook.processes.guards.launch import EXIT_CANNOT_RUN
from xohook.processes.process import GIVE_UP_AFTER, KILL_AFTER, OUTPUT_KEPT, Ended

# Seconds between two looks at a group that was told to end.
_GLANCE = 0.05

# Seconds between two looks at one that cannot be ended: each look reads all of /proc.
_LOOK = 0.5

_log = logging.getLogger("xohook.register")


class ProgramError(XohookError):
    """A program cannot be run, or did not end well."""

    says_all = True


class Pair:
    """The two programs; their standard input is empty.

    :param freeze: the program that freezes and its arguments, None where there is none.
    :param thaw: the program that thaws and its arguments, None where there is none.
    :param thaw_timeout: seconds that a thaw may take, for the program to know.
    :param variables: the environment, to which what every participant's programs get is added.
    """

    def __init__(
        self,
        freeze: tuple[str, ...] | None,
        thaw: tuple[str, ...] | None,
        thaw_timeout: float,
        variables: Mapping[str, str],
    ) -> None:
        self._freeze = freeze
        self._thaw = thaw
        self._thaw_timeout = thaw_timeout
        self._surroundings = Surroundings(None, None, variables)
        self._told_to_end: set[int] = set()
        self._owed: asyncio.Task[None] | None = None

    async def freeze(self, freeze: Freeze) -> None:
        """Run the program that freezes; once cancelled, end it.

        :param freeze: what is asked for.
        :raises ProgramError: where it cannot be run, or ends badly, or not in time, or where an
            earlier thaw is still owed.
        """
        self._refuse_beside()
        await self._run(
            self._freeze, "freeze", Operation(freeze.window, freeze.timeout, "", _nothing)
        )

    async def thaw(self, thaw: Thaw) -> None:
        """Run the program that thaws, for as long as it takes: ended halfway, it thaws nothing.

        It does not run beside a freeze that cannot be ended, because the freeze may act after it.
        It is owed then, and runs once when that freeze has ended.

        :param thaw: what is asked for.
        :raises ProgramError: where it cannot be run now, or ends badly.
        """
        if self._owed is None and self._not_ended():
            self._owed = asyncio.ensure_future(self._thaw_later(thaw))
        self._refuse_beside()
        await self._run_thaw(thaw)

    async def settle(self) -> None:
        """Wait until no thaw is owed."""
        if self._owed is not None:
            await self._owed

    async def _thaw_later(self, thaw: Thaw) -> None:
        try:
            while self._not_ended():
                await asyncio.sleep(_LOOK)
            await self._run_thaw(thaw)
            _log.warning("window %s: thawed now", thaw.window)
        except ProgramError as error:
            _log.error("window %s: NOT THAWED: %s", thaw.window, error)
        finally:
            self._owed = None

    def _refuse_beside(self) -> None:
        if problem := self._not_ended():
            raise ProgramError(problem)
        if self._owed is not None:
            raise ProgramError("the thaw of an earlier window has yet to end; wait for its end")

    def _not_ended(self) -> str:
        """Look for a program that was told to end and runs on; return what to do about it."""
        for group in tuple(self._told_to_end):
            process = unkillable(group)
            if process is not None:
                return still_runs(process["pid"])
            self._told_to_end.discard(group)
        return ""

    async def _run_thaw(self, thaw: Thaw) -> None:
        operation = Operation(thaw.window, self._thaw_timeout, thaw.outcome, _nothing)
        await self._run(self._thaw, "thaw", operation)

    async def _run(
        self, arguments: tuple[str, ...] | None, name: str, operation: Operation
    ) -> None:
        if arguments is not None:
            environment = self._surroundings.environment(name, operation)
            timeout = operation.timeout if name == "freeze" else None
            ended = await _run(arguments, environment, timeout, self._told_to_end)
            if not ended.is_good:
                raise ProgramError(ended.describe())


def _nothing(process: Mapping[str, object]) -> None:
    """Note a process in no record: what this app owes ends with it."""


async def _run(
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    timeout: float | None,
    told_to_end: set[int],
) -> Ended:
    """Run a program to its end; past its time, or cancelled, its whole group ends.

    A group that was told to end is added to the set.
    """
    # Not asyncio's own pipe, whose end it may wait for: a process left behind may hold it for ever.
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(reading, _read, reading, output)
    try:
        process = await _start(arguments, environment, writing, told_to_end)
        status = await _wait(process, timeout, told_to_end)
        _read(reading, output)
    except OSError as error:
        reason = f"{arguments[0]}: {error.strerror}"
        return Ended(EXIT_CANNOT_RUN, signal=None, output=b"", dropped=0, unrunnable=reason)
    finally:
        loop.remove_reader(reading)
        os.close(reading)
        # Not before: a program that closes its output would be an end that is read for ever.
        os.close(writing)
    if status < 0:
        return Ended(status=None, signal=-status, output=bytes(output), dropped=0, unrunnable="")
    return Ended(status=status, signal=None, output=bytes(output), dropped=0, unrunnable="")


def _read(reading: int, output: bytearray) -> None:
    # A pipe holds no more than that (pipe(7)), so one read empties it.
    with suppress(BlockingIOError):
        output += os.read(reading, OUTPUT_KEPT)
        del output[:-OUTPUT_KEPT]


async def _start(
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    output: int,
    told_to_end: set[int],
) -> Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Left to itself, asyncio would end the program and not its group.
        with suppress(OSError):
            await _end(await starting, told_to_end)
        raise


async def _wait(process: Process, timeout: float | None, told_to_end: set[int]) -> int:
    try:
        return await asyncio.wait_for(process.wait(), timeout)
    except asyncio.TimeoutError:
        await _end(process, told_to_end)
        raise ProgramError(f"not done within {format_duration(timeout or 0)}") from None
    except asyncio.CancelledError:
        await _end(process, told_to_end)
        raise


async def _end(process: Process, told_to_end: set[int]) -> None:
    """End the whole group: SIGTERM, then SIGKILL; one that survives that is left to itself."""
    told_to_end.add(process.pid)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + KILL_AFTER
    _signal_group(process, signal.SIGTERM)
    while group_lives(process.pid) and loop.time() < deadline:
        await asyncio.sleep(_GLANCE)
    if group_lives(process.pid):
        _signal_group(process, signal.SIGKILL)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), GIVE_UP_AFTER)


def _signal_group(process: Process, number: int) -> None:
    """Signal all that the program has become (setsid(2)), as far as that is permitted."""
    # Nobody is left, or what is left is another user's (sudo) and may not be signalled.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
