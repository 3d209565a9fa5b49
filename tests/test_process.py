"""Tests for :mod:`xohook.process` that need a clock of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xohook.process import GIVE_UP_AFTER, KILL_AFTER, IProcessReactor, Run


class Transport:
    """What Twisted would give for a process.

    :param pid: the process's number.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid


class ProcessClock(Clock):
    """A clock whose only process is one that the test has started.

    :param pid: that process's number.
    """

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid

    def spawnProcess(self, *_: Any, **__: Any) -> Transport:
        """Give the process."""
        return Transport(self._pid)


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
