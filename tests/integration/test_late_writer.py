"""A writer that a disk held up over the end of its agent, and the writer of the next agent."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent, eventually
from tests.integration.hook_client import PATIENCE
from tests.integration.programs import Programs
from xohook.processes.guards.frames import frame, take_frames

WRITER = "from xohook.processes.guards.writer import main; main()"


def waits_for_lock(pid: int) -> bool:
    """Tell whether a process waits for a file's lock (proc(5), ``/proc/locks``).

    :param pid: its number.
    :return: whether it does.
    """
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in lines)


class Writer:
    """A writer of the stamp, and the agent's end of its socket.

    :param test: the test, which ends it.
    :param stamp: the stamp.
    """

    def __init__(self, test: SynchronousTestCase, stamp: Path) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WRITER, "", "", "stamp", stamp],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=theirs.fileno(),
            )
        test.addCleanup(self.process.wait)
        test.addCleanup(self.process.kill)
        test.addCleanup(self._socket.close)
        self._came = bytearray()

    def order(self, *values: str | int | bytes) -> None:
        """Give an order, and do not wait."""
        self._socket.sendall(frame(*values))

    @property
    def has_answered(self) -> bool:
        """Whether an answer is there."""
        self._socket.setblocking(False)
        try:
            return bool(self._came) or bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._socket.settimeout(PATIENCE)

    def answer(self) -> tuple[object, ...]:
        """Wait for an answer."""
        while not (found := take_frames(self._came)):
            self._came += self._socket.recv(4096)
        return found[0]

    def leave(self) -> None:
        """End as an agent does that is killed."""
        self._socket.close()


class LateWriterTests(SynchronousTestCase):
    """Two writers of one stamp."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.stamp = self.directory / "stamp.json"

    def both(self) -> tuple[Writer, Writer]:
        """Start two writers, and have the first one press a stamp."""
        old, new = Writer(self, self.stamp), Writer(self, self.stamp)
        old.order("press", 1, b"old")
        self.assertEqual(old.answer(), (1, ""))
        return old, new

    def test_late_lift(self) -> None:
        """A lift that was held up over its agent's end does not remove the next agent's stamp."""
        old, new = self.both()
        old.process.send_signal(signal.SIGSTOP)
        old.order("lift", 2)
        old.leave()
        new.order("press", 1, b"new")
        eventually(lambda: new.has_answered or waits_for_lock(new.process.pid), "it is settled")
        old.process.send_signal(signal.SIGCONT)
        old.process.wait(PATIENCE)
        self.assertEqual(new.answer(), (1, ""))
        self.assertEqual(self.stamp.read_bytes(), b"new")

    def test_never_began(self) -> None:
        """A writer whose agent ends before its turn comes does nothing."""
        old, new = self.both()
        new.order("lift", 1)
        eventually(lambda: new.has_answered or waits_for_lock(new.process.pid), "it is settled")
        new.leave()
        old.leave()
        new.process.wait(PATIENCE)
        self.assertEqual(self.stamp.read_bytes(), b"old")

    def test_killed(self) -> None:
        """A writer that was killed keeps nobody from the stamp."""
        old, new = self.both()
        old.process.kill()
        new.order("lift", 1)
        self.assertEqual(new.answer(), (1, ""))
        self.assertFalse(self.stamp.exists())

    def test_no_directory(self) -> None:
        """Where there is no directory yet there is nothing to lift, and it is not made."""
        new = Writer(self, self.directory / "missing" / "stamp.json")
        new.order("lift", 1)
        self.assertEqual(new.answer(), (1, ""))
        new.order("press", 2, b"new")
        self.assertEqual(new.answer(), (2, "No such file or directory"))


class StartTests(SynchronousTestCase):
    """A start after a window in which the agent was killed."""

    def test_late_press(self) -> None:
        """A stamp that the old writer puts in place only after the start is removed."""
        programs = Programs(Path(self.mktemp()).resolve())
        agent = Agent.for_test(self, "hold_limit = 10m\n", programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill()
        agent.wait()
        stamp = agent.state_directory / "stamp.json"
        stamp.unlink()
        held = os.open(agent.state_directory / "stamp.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            agent.start()
            self.assertEqual(agent.outcomes, ["recovered"])
            stamp.touch(mode=0o600)
            stamp.write_text("{}")
        finally:
            os.close(held)
        eventually(lambda: not stamp.exists(), "the late stamp is removed")
