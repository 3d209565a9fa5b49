"""Tests for :mod:`xohook.processes.process` that need a clock of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any, cast

from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xohook.host.pids import group_lives
from xohook.processes.process import _LEFTOVER_POLL, GIVE_UP_AFTER, KILL_AFTER, IProcessReactor, Run


class Transport:
    """What Twisted would give for a process.

    :param pid: the process's number.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pipes: dict[int, object] = {}

    def loseConnection(self) -> None:
        """Close the pipes, of which there are none."""


class ProcessClock(Clock):
    """A clock whose only process is one that the test has started.

    :param pid: that process's number.
    """

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid

    def spawnProcess(self, protocol: Run, *_: Any, **__: Any) -> None:
        """Give the process."""
        protocol.makeConnection(Transport(self._pid))


class UnendingTests(SynchronousTestCase):
    """A process that writes to a frozen filesystem does not end, even by SIGKILL.

    To the agent that is a process whose end nobody reports.
    """

    def setUp(self) -> None:
        self.process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.clock = ProcessClock(self.process.pid)
        self.run_ = Run(cast(IProcessReactor, self.clock))

    def test_given_up(self) -> None:
        """It is waited for until a moment after SIGKILL, and no longer."""
        gone = self.run_.when_gone()
        self.run_.end()
        # Not reaped here: as long as nobody is, its number stays its own.
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        self.assertEqual(ended.si_status, signal.SIGTERM)
        self.clock.advance(KILL_AFTER)
        self.assertNoResult(gone)
        self.clock.advance(GIVE_UP_AFTER)
        self.assertIsNone(self.successResultOf(gone))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ended_once(self) -> None:
        """To end it again changes neither the signals nor their times."""
        gone = self.run_.when_gone()
        self.run_.end()
        self.clock.advance(KILL_AFTER - 0.1)
        self.run_.end()
        self.clock.advance(0.1)
        self.clock.advance(GIVE_UP_AFTER)
        self.assertIsNone(self.successResultOf(gone))


class LeftOfGroupTests(SynchronousTestCase):
    """A shell that is told to end has a child in its group that ends after it.

    Both are the test's own children, and one that nobody has waited for counts as living.
    """

    def setUp(self) -> None:
        self.leader = self.start(0)
        self.member = self.start(self.leader.pid)
        self.clock = ProcessClock(self.leader.pid)
        self.run_ = Run(cast(IProcessReactor, self.clock))
        self.gone = self.run_.when_gone()
        self.run_.end()
        self.leader.wait()
        self.run_.processExited(Failure(ProcessTerminated(signal=signal.SIGTERM)))

    def start(self, group: int) -> subprocess.Popen[bytes]:
        """Start a process in a group, 0 for one of its own."""
        process = subprocess.Popen(["sleep", "1000"], preexec_fn=lambda: os.setpgid(0, group))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_ends(self) -> None:
        """It is looked at again and again; once the whole group has ended nothing is waited for."""
        self.assertTrue(group_lives(self.leader.pid))
        self.clock.advance(_LEFTOVER_POLL)
        self.assertNoResult(self.gone)
        self.assertEqual(self.member.wait(), -signal.SIGTERM)
        self.clock.advance(_LEFTOVER_POLL)
        self.assertIsNone(self.successResultOf(self.gone))
        self.assertLess(self.clock.seconds(), KILL_AFTER)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_does_not_end(self) -> None:
        """The time of SIGKILL is the last at which it is waited for."""
        self.clock.pump([_LEFTOVER_POLL] * 5)
        self.assertNoResult(self.gone)
        self.clock.advance(KILL_AFTER)
        self.assertIsNone(self.successResultOf(self.gone))
        self.clock.advance(_LEFTOVER_POLL)
        self.assertEqual(self.clock.getDelayedCalls(), [])
