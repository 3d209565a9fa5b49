"""Tests for :mod:`xohook.state.output`."""

from __future__ import annotations

import atexit
import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import StartError
from xohook.processes.guards.frames import take_frames
from xohook.state import output
from xohook.state.output import Output, Target


class TargetTests(SynchronousTestCase):
    """Where twistd's options send the log."""

    def target(self, **given: object) -> Target:
        """Read them, with twistd's defaults for the others."""
        defaults = {
            "nodaemon": False,
            "debug": False,
            "logger": None,
            "logfile": None,
            "syslog": False,
            "prefix": "twisted",
        }
        return Target.of({**defaults, **given})

    def test_foreground(self) -> None:
        """In the foreground it is the standard output unless a file is named."""
        self.assertEqual(self.target(nodaemon=True).task, ("output",))
        self.assertEqual(self.target(nodaemon=True, logfile="-").task, ("output",))
        self.assertEqual(self.target(nodaemon=True, logfile="/a/b").task, ("file", "/a/b"))

    def test_daemon(self) -> None:
        """A daemon has a file, by default twistd.log in the working directory."""
        self.assertEqual(self.target().task, ("file", str(Path("twistd.log").absolute())))
        self.assertRaises(StartError, self.target, logfile="-")

    def test_syslog(self) -> None:
        """Syslog comes before a file, and a logger of the user's before both."""
        self.assertEqual(self.target(syslog=True, prefix="x", logfile="/a").task, ("syslog", "x"))
        self.assertEqual(self.target(syslog=True, logger=print).task, ("output",))


class ProcessReactor(MemoryReactorClock):
    """A reactor whose one process is the test: it has the writer's end of the socket."""

    running = True

    def spawnProcess(self, *_: Any, childFDs: dict[int, int], **__: Any) -> None:
        """Keep that end."""
        self.end = socket.socket(fileno=os.dup(childFDs[0]))


class QueueTests(SynchronousTestCase):
    """The queue before a writer that does not read."""

    def setUp(self) -> None:
        self.patch(output, "_redirect", dict)
        self.patch(output, "MOST_BYTES", 1_000_000)
        self.patch(Output, "_log", self)
        self.told: list[int] = []
        self.reactor = ProcessReactor()
        self.output = Output(self.reactor, Target(("output",), is_daemon=False))
        self.addCleanup(atexit.unregister, self.output.settle)
        self.addCleanup(self.reactor.end.close)

    def warn(self, _: str, lost: int) -> None:
        """Take note of how many lines were lost."""
        self.told.append(lost)

    def read_all(self) -> list[int]:
        """Read as the writer does, and have the queue sent; give the numbers of the lines."""
        self.reactor.end.setblocking(False)
        came = bytearray()
        while True:
            self.output.doWrite()
            try:
                came += self.reactor.end.recv(1 << 20)
            except BlockingIOError:
                break
        return [int(str(text).split()[0]) for _, text in take_frames(came)]

    def test_in_order(self) -> None:
        """What fits comes out whole and in order when the writer reads again."""
        for number in range(1000):
            self.output.say("write", f"{number} {'x' * 900}")
        self.assertEqual(self.read_all(), list(range(1000)))
        self.assertEqual(self.told, [])

    def test_full(self) -> None:
        """Beyond its bound the oldest that wait are lost, and their number is told."""
        for number in range(5000):
            self.output.say("write", f"{number} {'x' * 900}")
        numbers = self.read_all()
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(numbers[-500:], list(range(4500, 5000)))
        [lost] = self.told
        self.assertEqual(len(numbers) + lost, 5000)
        self.assertGreater(lost, 3000)
