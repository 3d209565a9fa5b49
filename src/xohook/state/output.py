"""The log, and whatever else the agent writes to its standard output and error, by way of a writer.

twistd has observers of its own, which write to a file, a pipe or a socket in the agent's process
and so may block it. This one takes their place. It is put on the application as twistd provides
for (``twisted.application.app.AppLogger.start``); a ``--logger`` has precedence over it and stays
in the agent's process.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.logger import (
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    formatEventAsClassicLogText,
)
from twisted.python.syslog import SyslogObserver
from zope.interface import implementer

from xohook.errors import StartError
from xohook.processes.guards.frames import frame
from xohook.processes.guards.writer import RAW
from xohook.state.journal import JournalObserver, is_journal
from xohook.state.writers import END_WAITS, Writer

MOST_BYTES = 16 * 1024 * 1024
"""Bytes of log lines that wait for the writer at the most; the oldest beyond that are thrown away.
It has room for all that waits in :mod:`xohook.state.waiting_log`, with more than 1600 bytes a
line."""

START_WAITS = 5.0
"""Seconds for which a start waits until the log file is open. Where its disk is frozen, the start
goes on without."""


@attrs.frozen
class Target:
    """Where the log goes, as twistd was told.

    :param task: what the writer does, see :mod:`xohook.processes.guards.writer`.
    :param is_daemon: whether twistd leaves its terminal.
    """

    task: tuple[str, ...]
    is_daemon: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Target:
        """Read it from twistd's options, with twistd's own rules (``UnixAppLogger``).

        :param options: twistd's options.
        :return: the target.
        :raises StartError: where a daemon is to log to standard output.
        """
        is_daemon = not (options["nodaemon"] or options["debug"])
        file = options["logfile"]
        if options["logger"] is not None:
            return cls(("output",), is_daemon)
        if options["syslog"]:
            return cls(("syslog", options["prefix"]), is_daemon)
        if file == "-" and is_daemon:
            raise StartError("a daemon cannot log to standard output: leave --logfile=- out")
        if file == "-" or (not file and not is_daemon):
            return cls(("output",), is_daemon)
        return cls(("file", os.path.abspath(file or "twistd.log")), is_daemon)  # noqa: PTH100 - as twistd does.


class Output(Writer):
    """The log's writer, with a bounded queue before it.

    :param reactor: the clock and the source of processes; it need not run yet.
    :param target: where the log goes.
    """

    def __init__(self, reactor: Any, target: Target) -> None:
        self._target = target
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._is_partly_sent = False
        self._lost = 0
        self._is_over = False
        self._patience = END_WAITS
        self._asked = 0
        self._answered: dict[int, str] = {}
        self._is_journal = target.task[0] == "output" and is_journal(1, os.environ)
        super().__init__(reactor, target.task, _redirect())
        reactor.addSystemEventTrigger("after", "shutdown", self._end)
        atexit.register(self.settle)
        # The same signal, under the same condition, as with twistd's own log file. Without a file
        # its default would end the agent, and to ignore it would be inherited by programs.
        if not signal.getsignal(signal.SIGUSR1):
            signal.signal(signal.SIGUSR1, self._rotate)

    def observer(self) -> ILogObserver:
        """Make the observer that writes the log here.

        :return: the observer, for the application.
        """
        if self._target.task[0] == "syslog":
            legacy: Any = _Syslog(self._target.task[1], self.say).emit
            return LegacyLogObserverWrapper(legacy)
        if self._is_journal:
            return JournalObserver(partial(self.say, "write"))
        return _Lines(self.say)

    def check(self) -> None:
        """See that the log file is open.

        :raises StartError: where it cannot be opened.
        """
        if self._target.task[0] != "file":
            return
        problem = self._sync(time.monotonic() + START_WAITS)
        if problem:
            raise StartError(
                f"cannot open the log file {self._target.task[1]}: {problem}; make its directory,"
                " or name another file in --logfile"
            )

    def leave_terminal(self) -> None:
        """Leave the standard output and error that a daemon was started with."""
        if not self._target.is_daemon:
            return
        self.say("detach")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):
            os.dup2(null, self._files[descriptor], inheritable=False)
        os.close(null)

    def say(self, word: str, *values: str | int) -> None:
        """Give an order, without waiting for it.

        :param word: what to do.
        :param values: what it needs.
        """
        order = frame(word, *values)
        self._lines.append(order)
        self._bytes += len(order)
        self.doWrite()
        while self._bytes > MOST_BYTES:
            self._throw_away()
        if self._is_over:
            # No reactor sends it later, and twistd may end the process by a signal right after.
            self.settle()

    def settle(self) -> None:
        """Wait until all is written that was said; all waits together have :data:`END_WAITS`."""
        began = time.monotonic()
        self._sync(began + self._patience)
        self._patience -= time.monotonic() - began

    def _sync(self, until: float) -> str:
        self._asked += 1
        number = self._asked
        order = frame("sync", number)
        self._lines.append(order)
        self._bytes += len(order)
        self.doWrite()
        while number not in self._answered and self.wait(until):
            pass
        return self._answered.pop(number, "")

    def _next(self) -> bytes:
        return self._lines[0] if self._lines else b""

    def _sent(self, count: int) -> None:
        self._bytes -= count
        self._is_partly_sent = count < len(self._lines[0])
        if self._is_partly_sent:
            self._lines[0] = self._lines[0][count:]
            return
        self._lines.popleft()
        if self._lost and not self._lines:
            lost, self._lost = self._lost, 0
            self._log.warn("{lost} earlier lines of the log are lost: it was stuck", lost=lost)

    def _heard(self, number: int, problem: str) -> None:
        self._answered[number] = problem

    def _begin(self) -> None:
        if self._is_partly_sent:
            # The one that has ended had the first half of it.
            self._bytes -= len(self._lines.popleft())
            self._is_partly_sent = False

    def _throw_away(self) -> None:
        """Throw the oldest line away; one that is half sent has to be sent whole."""
        place = 1 if self._is_partly_sent else 0
        self._bytes -= len(self._lines[place])
        del self._lines[place]
        self._lost += 1

    def _rotate(self, *_: object) -> None:
        self._reactor.callFromThread(self.say, "rotate")

    def _end(self) -> None:
        self._is_over = True
        self.settle()


@implementer(ILogObserver)
class _Lines:
    """Writes events as twistd writes them into a file.

    :param say: gives an order to the writer.
    """

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say

    def __call__(self, event: LogEvent) -> None:
        text = formatEventAsClassicLogText(event)
        if text:
            self._say("write", text)


class _Syslog(SyslogObserver):
    """twistd's observer for syslog, whose lines go to the writer.

    :param prefix: twistd's ``--prefix``.
    :param say: gives an order to the writer.
    """

    def __init__(self, prefix: str, say: Callable[..., None]) -> None:
        self.openlog = lambda *_: None  # The writer does that.
        self.syslog = lambda priority, text: say("syslog", priority, text)
        super().__init__(prefix)


def fill_streams() -> None:
    """Open ``/dev/null`` for each standard stream that was closed when the agent was started.

    Otherwise the next file that is opened gets its number, and :class:`Output` replaces it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _redirect() -> dict[int, int]:
    """Turn this process's standard output and error into a pipe that never blocks.

    The interpreter and libraries write there by themselves. What does not fit is lost.

    :return: the descriptors for the writer: the old ones, and the pipe's other end.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3) for descriptor in (1, 2)]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for descriptor in (1, 2):
        os.dup2(writing, descriptor)
    os.close(writing)
    return {1: kept[0], 2: kept[1], RAW: reading}
