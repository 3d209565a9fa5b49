"""A child process as a Deferred: bounded, cancellable, its whole group ended, its output drained.

Each child is its own session and process group (setsid(2)), made so by
:mod:`xohook.processes.guards.launch`, and begins only when it is told to.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.host.accounts import Account
from xohook.host.pids import group_lives, start_time, unkillable
from xohook.processes.guards import launch
from xohook.text import printable

OUTPUT_KEPT = 64 * 1024
"""Bytes of a program's output that are kept, the last ones (``docs/configuration.rst``)."""

KILL_AFTER = 2.0
"""Seconds from SIGTERM to SIGKILL (``docs/configuration.rst``)."""

GIVE_UP_AFTER = 0.5
"""Seconds after SIGKILL until nobody waits for the process any more: one that writes to a frozen
filesystem does not end before the thaw (``docs/configuration.rst``)."""

ENDING = KILL_AFTER + GIVE_UP_AFTER
"""Seconds from SIGTERM until nobody waits for the process any more."""

_READS_TO_DRAIN = 16
"""Reads of 8 KiB that empty a pipe of 64 KiB (pipe(7)) with something to spare."""

_LEFTOVER_POLL = 0.05
"""Seconds between two looks at a process that is nobody's child here."""

_UNKILLABLE = "process {pid} runs as another user and cannot be ended"

_log = Logger()


class IProcessReactor(IReactorTime, IReactorProcess):
    """What is needed of a reactor: the time, and processes."""


@attrs.frozen
class Program:
    """What to run.

    :param arguments: the program and its arguments; no shell is run.
    :param environment: its whole environment.
    :param directory: its working directory.
    :param account: the user to run as, None for the agent's own.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    account: Account | None

    def orders(self) -> bytes:
        """Put it into the words of :mod:`xohook.processes.guards.launch`.

        :return: the orders, whole.
        """
        account = None
        if self.account is not None:
            account = (self.account.uid, self.account.gid, self.account.groups)
        return marshal.dumps((self.arguments, dict(self.environment), self.directory, account))


@attrs.frozen
class Ended:
    """How a program ended.

    :param status: its exit status; None where a signal ended it.
    :param signal: the number of the signal that ended it; None where none did.
    :param output: the end of what it wrote, as much as is kept.
    :param dropped: how many bytes before that were thrown away.
    :param unrunnable: what kept it from running; empty where it ran.
    """

    status: int | None
    signal: int | None
    output: bytes
    dropped: int
    unrunnable: str

    @property
    def is_good(self) -> bool:
        """Whether it ran and its exit status is 0."""
        return self.status == 0 and not self.unrunnable

    @property
    def was_started(self) -> bool:
        """Whether it ran, or could not for a reason that lasts; else it may run another time."""
        return not self.unrunnable or self.status == launch.EXIT_CANNOT_RUN

    def describe(self) -> str:
        """Tell how it ended, with its last line.

        :return: one line for the administrator.
        """
        if not self.was_started:
            reason = self.unrunnable.splitlines()[-1].strip()
            return f"no process can be started: {printable(reason)}"
        if self.unrunnable:
            return f"cannot run {printable(self.unrunnable)}"
        how = f"exit status {self.status}"
        if self.signal is not None:
            how = f"ended by {_signal_name(self.signal)}"
        lines = self.output.decode(errors="replace").strip().splitlines()
        return f"{how}: {printable(lines[-1].strip())}" if lines else how


class Run(ProcessProtocol):
    """One run of a program.

    :param reactor: the clock and the source of processes.
    :param ending: seconds that its end may take, from SIGTERM on; SIGKILL comes after the same part
        of it as by default.
    :param kept: bytes of its output that are kept, the last ones.
    :raises OSError: where no process can be made.
    """

    # Twisted's interface lacks the number and the pipes that its transports have.
    transport: Any

    def __init__(
        self, reactor: IProcessReactor, ending: float = ENDING, kept: int = OUTPUT_KEPT
    ) -> None:
        self._reactor = reactor
        self._kept = kept
        self._kill_after = ending * KILL_AFTER / ENDING
        self._give_up_after = ending - self._kill_after
        self._output = bytearray()
        self._dropped = 0
        self._report = bytearray()
        self._ended: Ended | None = None
        self._waiting: list[Deferred[Ended]] = []
        self._gone = False
        self._waiting_gone: list[Deferred[None]] = []
        self._is_ending = False
        self._next_step: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None
        launcher = [sys.executable, "-I", "-S", "-B", launch.__file__]
        reactor.spawnProcess(self, launcher[0], launcher, env={}, childFDs={0: "w", 1: "r", 2: "r"})

    def connectionMade(self) -> None:
        """Take note of the process, which may have ended by the time that its start returns."""
        self.pid: int = self.transport.pid
        self.started = start_time(self.pid)

    def begin(self, program: Program) -> None:
        """Let the process become a program.

        :param program: what to run.
        """
        self.transport.write(program.orders())
        self.transport.closeStdin()

    def tail(self) -> bytes:
        """Tell what it has written so far.

        :return: the end of it, as much as is kept.
        """
        return bytes(self._output)

    def when_ended(self) -> Deferred[Ended]:
        """Wait for the program's end.

        :return: fires with how it ended; cancelling it ends the whole process group.
        """
        result: Deferred[Ended] = Deferred(lambda _: self.end())
        if self._ended is not None:
            result.callback(self._ended)
        else:
            self._waiting.append(result)
        return result

    def when_gone(self) -> Deferred[None]:
        """Wait until it makes no sense to wait any more.

        :return: fires when the program has ended, with its whole group where it was told to end;
            or when even SIGKILL did not end it, or one of them may not be signalled
            (:func:`xohook.host.pids.unkillable`).
        """
        result: Deferred[None] = Deferred(lambda _: None)
        if self._gone:
            result.callback(None)
        else:
            self._waiting_gone.append(result)
        return result

    def end(self) -> None:
        """End the whole process group: SIGTERM, and SIGKILL a while later."""
        if self._is_ending or self._gone:
            return
        self._is_ending = True
        self._signal_group(signal.SIGTERM)
        self._next_step = self._reactor.callLater(self._kill_after, self._kill)

    def outReceived(self, data: bytes) -> None:
        """Keep the end of the output.

        :param data: some more of it.
        """
        self._output += data
        excess = len(self._output) - self._kept
        if excess > 0:
            del self._output[:excess]
            self._dropped += excess

    def errReceived(self, data: bytes) -> None:
        """Keep what the launcher reports.

        :param data: some more of it.
        """
        self._report += data[: OUTPUT_KEPT - len(self._report)]

    def processExited(self, reason: Failure) -> None:
        """Settle how the program ended, whoever else still holds its pipes.

        :param reason: how the process ended, in Twisted's words.
        """
        self._drain()
        value: Any = reason.value
        self._ended = Ended(
            status=value.exitCode,
            signal=value.signal,
            output=bytes(self._output),
            dropped=self._dropped,
            unrunnable=self._report.decode(errors="replace").strip(),
        )
        if self._dropped:
            _log.info(
                "process {pid} wrote much: {dropped} bytes before the last {kept} are thrown away",
                pid=self.pid,
                dropped=self._dropped,
                kept=self._kept,
            )
        self.transport.loseConnection()
        if self._is_ending:
            self._look()
        else:
            self._be_gone()
        waiting, self._waiting = self._waiting, []
        for result in waiting:
            if not result.called:
                result.callback(self._ended)

    def _drain(self) -> None:
        for pipe in (1, 2):
            reader = self.transport.pipes.get(pipe)
            for _ in range(_READS_TO_DRAIN if reader is not None else 0):
                before = len(self._output) + self._dropped + len(self._report)
                reader.doRead()
                if len(self._output) + self._dropped + len(self._report) == before:
                    break

    def _look(self) -> None:
        """See whether what its end has left of the group has ended by now."""
        if group_lives(self.pid):
            self._next_look = self._reactor.callLater(_LEFTOVER_POLL, self._look)
        else:
            self._next_look = None
            self._be_gone()

    def _kill(self) -> None:
        self._signal_group(signal.SIGKILL)
        if self._ended is not None:
            self._give_up()
        else:
            self._next_step = self._reactor.callLater(self._give_up_after, self._give_up)

    def _give_up(self) -> None:
        left = unkillable(self.pid)
        if left is not None:
            _log.warn(_UNKILLABLE, pid=left["pid"])
        elif self._ended is None:
            _log.warn("process {pid} does not end, even by SIGKILL; going on", pid=self.pid)
        self._next_step = None
        self._be_gone()

    def _be_gone(self) -> None:
        for call in (self._next_step, self._next_look):
            if call is not None:
                call.cancel()
        self._next_step = self._next_look = None
        self._gone = True
        waiting, self._waiting_gone = self._waiting_gone, []
        for result in waiting:
            if not result.called:
                result.callback(None)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            # The launcher has not come to setsid(2) yet, or nobody is left.
            if self._ended is None:
                os.kill(self.pid, number)
        except PermissionError:
            # It may still end by itself; whoever gives it up logs that it does not.
            return


async def end_leftover(
    clock: IReactorTime, pid: int, started: int | None, patience: float = KILL_AFTER
) -> None:
    """End the process group that an earlier run of the agent left, if it is still the same one.

    :param clock: the clock.
    :param pid: the number of the process that leads the group.
    :param started: when that process started, as :func:`start_time` told.
    :param patience: seconds from SIGTERM to SIGKILL.
    """
    if started is None or start_time(pid) != started:
        return
    # From here on the group is known, and goes on as long as one of it does.
    for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, GIVE_UP_AFTER)):
        try:
            os.killpg(pid, number)
            # One that was stopped gets no other signal before it goes on (signal(7)).
            os.killpg(pid, signal.SIGCONT)
        except ProcessLookupError:
            return
        except PermissionError:
            _log.warn(_UNKILLABLE, pid=pid)
            return
        until = clock.seconds() + wait
        while group_lives(pid) and clock.seconds() < until:
            await deferLater(clock, _LEFTOVER_POLL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Most real-time signals have none (signal(7)).
        return f"signal {number}"
