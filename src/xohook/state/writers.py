"""The agent's end of a writer: a process of its own that writes to a disk in its place.

A write to a frozen filesystem blocks for as long as that is frozen, whoever froze it. A thread that
is blocked so keeps the whole process from its end, even after SIGKILL, with all of its locks and
ports. A process of its own can be left to itself.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xohook.processes import guards
from xohook.processes.guards import writer
from xohook.processes.guards.frames import frame, take_frames

RESTART_AFTER = 1.0
"""Seconds between the starts of two writers, so that one that cannot run costs little."""

END_WAITS = 3.0
"""Seconds for which the agent's end waits for its writers. With
:data:`xohook.state.disk.REMOVE_WAITS` it makes the five seconds of ``docs/operation.rst``."""

_ROOT = str(Path(guards.__file__).parents[3])
_START = (
    "import sys; sys.path.append(sys.argv[1]); __import__(sys.argv[2], fromlist=['main']).main()"
)


@implementer(IReadWriteDescriptor)
class Writer(ABC):
    """One writer, and another one when that has ended.

    :param reactor: the clock and the source of processes; it need not run yet.
    :param task: what it does, see :mod:`xohook.processes.guards.writer`.
    :param files: the descriptors that it inherits: its own numbers, and the agent's.
    """

    _log = Logger()

    def __init__(self, reactor: Any, task: Sequence[str], files: Mapping[int, int]) -> None:
        self._reactor = reactor
        self._task = task
        self._files = files
        self._socket: socket.socket | None = None
        self._is_watched = False
        self._is_writing = False
        self._came = bytearray()
        self._started = 0.0
        self._start()
        reactor.callWhenRunning(self._watch)

    # What a kind of writer does itself.

    @abstractmethod
    def _next(self) -> bytes:
        """Tell what is to be sent next; nothing where there is nothing."""

    @abstractmethod
    def _sent(self, count: int) -> None:
        """Note how much of that has been sent."""

    @abstractmethod
    def _heard(self, number: int, problem: str) -> None:
        """Take an answer."""

    @abstractmethod
    def _begin(self) -> None:
        """Begin anew with a writer that knows nothing yet."""

    # What the reactor asks of a descriptor.

    def fileno(self) -> int:
        """Tell the number of the socket.

        :return: the number; -1 where there is none.
        """
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Tell what the reactor's own log lines call this.

        :return: the name.
        """
        return "writer"

    def doRead(self) -> None:
        """Take what the writer says, or note its end."""
        assert self._socket is not None
        try:
            part = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._gone()
            return
        self._came += part
        for number, problem in take_frames(self._came):
            self._heard(int(number), str(problem))

    def doWrite(self) -> None:
        """Send what the socket takes; never wait for it."""
        while self._socket is not None and (data := self._next()):
            try:
                count = self._socket.send(data)
            except BlockingIOError:
                break
            except OSError:
                # It has ended, which the next read tells.
                break
            self._sent(count)
        self._watch_writing()

    def connectionLost(self, reason: Failure) -> None:
        """Note that the reactor ends, and watches this no more.

        :param reason: the reason.
        """
        self._is_watched = self._is_writing = False

    def wait(self, until: float) -> bool:
        """Wait for the writer where no reactor does.

        :param until: the time of the monotonic clock at which to give up.
        :return: whether there was something to read or to send before.
        """
        left = until - time.monotonic()
        if left <= 0 or self._socket is None:
            return False
        watch = select.poll()
        watch.register(self._socket, select.POLLIN | (select.POLLOUT if self._next() else 0))
        ready = watch.poll(left * 1000)
        for _, events in ready:
            if events & select.POLLOUT:
                self.doWrite()
            if events & ~select.POLLOUT:
                self.doRead()
        return bool(ready)

    def _start(self) -> None:
        self._started = time.monotonic()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._log.error("a writer cannot be started: {why}", why=error.strerror)
            return
        ours.setblocking(False)
        # Isolated from the environment, without site-packages, and never writing a .pyc file.
        isolated = [sys.executable, "-I", "-S", "-B", "-c", _START, _ROOT]
        arguments = [*isolated, writer.__name__, *self._task]
        files = {0: theirs.fileno(), **self._files}
        with theirs:
            try:
                self._reactor.spawnProcess(
                    ProcessProtocol(), arguments[0], arguments, env={}, childFDs=files
                )
            except OSError as error:
                self._log.error("a writer cannot be started: {why}", why=error.strerror)
        # Without a process its other end closes at once, and another try follows.
        self._socket = ours
        self._came.clear()

    def _watch(self) -> None:
        if self._socket is None:
            self._start_again()
            return
        self._is_watched = True
        self._reactor.addReader(self)
        self._watch_writing()

    def _watch_writing(self) -> None:
        wanted = self._is_watched and self._socket is not None and bool(self._next())
        if wanted != self._is_writing:
            (self._reactor.addWriter if wanted else self._reactor.removeWriter)(self)
            self._is_writing = wanted

    def _gone(self) -> None:
        if self._socket is None:
            return
        if self._is_watched:
            self._reactor.removeReader(self)
            if self._is_writing:
                self._reactor.removeWriter(self)
            wait = max(0.0, self._started + RESTART_AFTER - time.monotonic())
            self._reactor.callLater(wait, self._start_again)
        self._is_watched = self._is_writing = False
        self._socket.close()
        self._socket = None

    def _start_again(self) -> None:
        self._start()
        if self._socket is None:
            self._reactor.callLater(RESTART_AFTER, self._start_again)
            return
        self._begin()
        self._watch()
        what = "stamp" if self._task[0] == "stamp" else "log"
        self._log.warn("the writer of the {what} had ended: started again", what=what)


class DiskWriter(Writer):
    """Writes the stamp: one order after the other, each until it is done.

    :param reactor: the clock and the source of processes.
    :param path: the stamp's absolute path.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self._orders: deque[tuple[int, bytes, Deferred[str]]] = deque()
        self._unsent = b""
        self._number = 0
        # Its own tracebacks go where the agent's go.
        super().__init__(reactor, ("stamp", path), {1: 2, 2: 2})
        reactor.addSystemEventTrigger("after", "shutdown", self._hand_over)

    def ask(self, word: str, *values: bytes) -> Deferred[str]:
        """Give an order; it takes the place of those that have not been sent yet.

        :param word: what to do.
        :param values: what it needs.
        :return: fires with what went wrong, with an empty text where nothing did. Cancelled, it
            leaves the order to itself, and what was sent is carried out before any later one.
        """
        while len(self._orders) > 1:
            # Nobody waits for these any more: the disk did not answer in time.
            self._orders.pop()
        self._number += 1
        result: Deferred[str] = Deferred()
        self._orders.append((self._number, frame(word, self._number, *values), result))
        if len(self._orders) == 1:
            self._begin()
        self.doWrite()
        return result

    def _next(self) -> bytes:
        return self._unsent

    def _sent(self, count: int) -> None:
        self._unsent = self._unsent[count:]

    def _begin(self) -> None:
        self._unsent = self._orders[0][1] if self._orders else b""

    def _hand_over(self) -> None:
        """Give the writer what is left, for the time after the agent's end."""
        for _, order, _ in list(self._orders)[1:]:
            self._unsent += order
        self.doWrite()

    def _heard(self, number: int, problem: str) -> None:
        _, _, result = self._orders.popleft()
        self._begin()
        self.doWrite()
        result.callback(problem)
