"""Tests for :mod:`xohook.state.directory_lock`."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import StartError
from xohook.state import directory_lock
from xohook.state.directory_lock import StateLock, holder, is_dying

HOLD = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
fcntl.flock(held, fcntl.LOCK_EX)
if len(sys.argv) > 2 and os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


class StateLockTests(SynchronousTestCase):
    """One agent a state directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(mode=0o700)

    def take(self) -> StateLock:
        taken = StateLock(self.directory, os.geteuid())
        taken.take()
        return taken

    def hold(self, *mode: str) -> int:
        """Hold the lock in another process; its number."""
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, self.directory, *mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(process.wait)
        assert process.stdin is not None
        assert process.stdout is not None
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        return int(process.stdout.readline())

    def test_other(self) -> None:
        """Another process that has it is named, with its number and with what to do."""
        pid = self.hold()
        error = str(self.assertRaises(StartError, self.take))
        self.assertIn(
            f"another agent (process {pid}) is running with the state directory {self.directory}",
            error,
        )
        self.assertIn("a state_directory of its own", error)
        self.assertEqual(holder(self.directory), pid)

    def test_background(self) -> None:
        """An agent in the background is named, not the process that started it and has ended."""
        pid = self.hold("fork")
        error = str(self.assertRaises(StartError, self.take))
        self.assertIn(f"(process {pid})", error)

    def test_again(self) -> None:
        """Who has it already may take it again; nothing is made in the directory."""
        taken = self.take()
        taken.take()
        self.assertEqual(list(self.directory.iterdir()), [])
        self.assertEqual(holder(self.directory), os.getpid())

    def test_missing(self) -> None:
        """A directory that is not there yet is locked once it is."""
        self.directory.rmdir()
        taken = self.take()
        self.assertFalse(self.directory.exists())
        self.directory.mkdir(mode=0o700)
        taken.take()
        self.assertEqual(holder(self.directory), os.getpid())

    def test_nobody(self) -> None:
        """Where nobody has it, nobody is told."""
        self.assertIsNone(holder(self.directory))
        self.assertIsNone(holder(self.directory / "missing"))

    def test_not_inherited(self) -> None:
        """No program that the agent runs keeps it."""
        self.take()
        said = subprocess.check_output(
            ["ls", "-l", "/proc/self/fd"],
            text=True,
            close_fds=False,
            env={"PATH": os.environ["PATH"]},
        )
        self.assertNotIn(str(self.directory), said)

    def test_not_offered(self) -> None:
        """On a filesystem without such locks, as NFS, the agent starts with a warning."""

        def flock(descriptor: int, operation: int) -> None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

        self.patch(fcntl, "flock", flock)
        warned: list[str] = []
        self.patch(StateLock, "_log", _Warnings(warned))
        self.take()
        self.assertEqual(len(warned), 1)

    def test_dying(self) -> None:
        """A process that was killed and cannot end yet keeps nobody out."""
        pid = self.hold()
        self.patch(directory_lock, "is_dying", lambda number: number == pid)
        warned: list[str] = []
        self.patch(StateLock, "_log", _Warnings(warned))
        self.take()
        self.assertEqual(len(warned), 1)


class IsDyingTests(SynchronousTestCase):
    """Whether a process will run its program again."""

    def test_living(self) -> None:
        """One that runs, or is stopped, will."""
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
            self.assertFalse(is_dying(process.pid))
            process.send_signal(signal.SIGSTOP)
            self.assertFalse(is_dying(process.pid))
            process.send_signal(signal.SIGCONT)

    def test_zombie(self) -> None:
        """One that has ended will not, whether or not its parent has noticed."""
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self.assertTrue(is_dying(process.pid))
        self.assertTrue(is_dying(process.pid))


class _Warnings:
    """A logger that counts warnings."""

    def __init__(self, warned: list[str]) -> None:
        self.warned = warned

    def warn(self, text: str, **values: object) -> None:
        self.warned.append(text.format(**values))
