"""A guard, as the agent sees it: a child that holds something for as long as it is told to.

The guard lets go when its standard input closes, so it is the agent's end of that pipe alone that
keeps anything held: no other child inherits it (``spawnProcess`` closes what it is not told to
keep).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.errors import ParticipantError
from xohook.host.pids import start_time
from xohook.processes import guards
from xohook.processes.process import IProcessReactor

PATIENCE = 5.0
"""Seconds that a guard may take to let go, from SIGTERM on: that of sessions needs three."""

LONGEST_LINE = 64 * 1024
"""Bytes that a guard may write without an end of line; more is thrown away. The identities of
three hundred filesystems fit."""

UNASKED = 0
"""The number that stands before what a guard reports unasked."""

_ROOT = str(Path(guards.__file__).parents[3])
_START = (
    "import sys; sys.path.append(sys.argv[1]); __import__(sys.argv[2], fromlist=['main']).main()"
)

_log = Logger()


class GuardGoneError(ParticipantError):
    """A guard has ended instead of answering."""


class Listener(Protocol):
    """Hears what a guard reports unasked."""

    def heard(self, line: str) -> None:
        """Take a line that answers no order.

        :param line: the line, without its number.
        """

    def ended(self, reason: str) -> None:
        """Take the guard's end; nothing is heard of it any more, and its process has been reaped.

        :param reason: how it ended.
        """


class Guard(ProcessProtocol):
    """One guard.

    :param reactor: the source of processes.
    :param program: the guard's program, a module of :mod:`xohook.processes.guards`.
    :param listener: hears what it reports unasked, and its end.
    :param descriptors: further descriptors that it gets, by their numbers in the guard.
    :raises OSError: where no process can be made.
    """

    # Twisted's interface lacks the number that its transports have.
    transport: Any

    def __init__(
        self,
        reactor: IProcessReactor,
        program: ModuleType,
        listener: Listener,
        descriptors: Mapping[int, int] | None = None,
    ) -> None:
        self._listener = listener
        self._pending = b""
        self._number = UNASKED
        self._answers: dict[int, Deferred[str]] = {}
        self._reason = ""
        # Isolated from the environment, without site-packages, and never writing a .pyc file.
        arguments = [sys.executable, "-I", "-S", "-B", "-c", _START, _ROOT, program.__name__]
        files: dict[int, int | str] = {0: "w", 1: "r", 2: "r", **(descriptors or {})}
        reactor.spawnProcess(self, arguments[0], arguments, env={}, childFDs=files)

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

    def tell(self, order: str) -> None:
        """Give an order that has no answer.

        :param order: the order.
        """
        self._number += 1
        if not self.has_ended:
            self.transport.write(f"{self._number} {order}\n".encode(errors="surrogateescape"))

    def ask(self, order: str) -> Deferred[str]:
        """Give an order, and wait for the answer to it.

        :param order: the order.
        :return: fires with the answer; fails with :exc:`GuardGoneError` when the guard ends
            instead. It cannot be cancelled: a late answer matters too.
        """
        answer: Deferred[str] = Deferred()
        if self.has_ended:
            answer.errback(GuardGoneError(self._reason))
        else:
            self.tell(order)
            self._answers[self._number] = answer
        return answer

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended.

        :param number: the signal.
        """
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    def release(self) -> None:
        """Close its standard input: it lets go, and ends."""
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        """Take what it writes.

        :param data: some more of it.
        """
        *lines, pending = (self._pending + data).split(b"\n")
        self._pending = pending[-LONGEST_LINE:]
        for line in lines:
            number, _, rest = line.decode(errors="surrogateescape").partition(" ")
            answer = self._answers.pop(int(number), None) if number.isdecimal() else None
            if answer is not None:
                answer.callback(rest)
            else:
                self._listener.heard(rest)

    def errReceived(self, data: bytes) -> None:
        """Log what its Python has to report: an error of xohook's own.

        :param data: the text.
        """
        _log.error("guard {pid}: {text}", pid=self.pid, text=data.decode(errors="replace"))

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
        """Report its end, when all that it wrote has been read.

        :param reason: how it ended, in Twisted's words.
        """
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.errback(GuardGoneError(self._reason))
        self._listener.ended(self._reason)
