"""A guard, as the agent sees it: a child that holds something for as long as it is told to.

The guard lets go when its standard input closes, so it is the agent's end of that pipe alone that
keeps anything held: no other child inherits it (``spawnProcess`` closes what it is not told to
keep).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from xohook import guards
from xohook.errors import ParticipantError
from xohook.process import IProcessReactor, start_time

PATIENCE = 5.0
"""Seconds that a guard may take to let go, from SIGTERM on: that of sessions needs three."""

LONGEST_LINE = 64 * 1024
"""Bytes that a guard may say without an end of line; more is thrown away."""

_ROOT = str(Path(guards.__file__).parents[2])
_START = (
    "import sys; sys.path.append(sys.argv[1]); __import__(sys.argv[2], fromlist=['main']).main()"
)


class GuardGoneError(ParticipantError):
    """A guard has ended instead of saying something."""


class Guard(ProcessProtocol):
    """One guard.

    :param reactor: the source of processes.
    :param program: the guard's program, a module of :mod:`xohook.guards`.
    :param ended: called with the reason when the guard has ended.
    :raises OSError: where no process can be made.
    """

    # Twisted's interface lacks the number that its transports have.
    transport: Any

    def __init__(
        self, reactor: IProcessReactor, program: ModuleType, ended: Callable[[str], None]
    ) -> None:
        self._ended = ended
        self._pending = b""
        self._lines: deque[str] = deque()
        self._waiting: Deferred[str] | None = None
        self._reason = ""
        # Isolated from the environment, without site-packages, and never writing a .pyc file.
        arguments = [sys.executable, "-I", "-S", "-B", "-c", _START, _ROOT, program.__name__]
        reactor.spawnProcess(
            self, arguments[0], arguments, env={}, childFDs={0: "w", 1: "r", 2: "r"}
        )

    def connectionMade(self) -> None:
        """Take note of the process, which may have ended by the time that its start returns."""
        self.pid: int = self.transport.pid
        self.started = start_time(self.pid)

    @property
    def identity(self) -> tuple[int, int | None]:
        """Its process's number and start, which name it for good."""
        return self.pid, self.started

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return bool(self._reason)

    def order(self, line: str) -> None:
        """Give an order.

        :param line: the order.
        """
        self.transport.write(line.encode(errors="surrogateescape") + b"\n")

    def release(self) -> None:
        """Close its standard input: it lets go, and ends."""
        self.transport.closeStdin()

    def next_line(self) -> Deferred[str]:
        """Wait for what it says next; one wait at a time.

        :return: fires with the line; fails with :exc:`GuardGoneError` when the
            guard ends instead.
        """
        result: Deferred[str] = Deferred(self._forget)
        if self._lines:
            result.callback(self._lines.popleft())
        elif self.has_ended:
            result.errback(GuardGoneError(self._reason))
        else:
            self._waiting = result
        return result

    def outReceived(self, data: bytes) -> None:
        """Take what it says.

        :param data: some more of it.
        """
        *lines, pending = (self._pending + data).split(b"\n")
        self._pending = pending[-LONGEST_LINE:]
        self._lines += (line.decode(errors="surrogateescape") for line in lines)
        while self._lines and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(self._lines.popleft())

    def processExited(self, reason: Failure) -> None:
        """Note its end.

        :param reason: how it ended, in Twisted's words.
        """
        value: Any = reason.value
        how = f"exit status {value.exitCode}"
        if value.signal is not None:
            how = f"signal {value.signal}"
        self._reason = f"its guard has ended ({how})"

    def processEnded(self, reason: Failure) -> None:
        """Tell of its end, when all that it said has been read.

        :param reason: how it ended, in Twisted's words.
        """
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(GuardGoneError(self._reason))
        self._ended(self._reason)

    def _forget(self, _: object) -> None:
        self._waiting = None
