"""The state directory's lock, on a filesystem that is frozen and with a holder that cannot end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.agent import Agent, eventually
from tests.integration.disks import DiskTestCase
from xohook.state.directory_lock import StateLock, holder, is_dying

STUCK = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
fcntl.flock(held, fcntl.LOCK_EX)
print("locked", flush=True)
os.open(sys.argv[1] + "/stuck", os.O_WRONLY | os.O_CREAT)
"""


class FrozenTests(DiskTestCase):
    """A state directory on a filesystem that somebody has frozen."""

    def setUp(self) -> None:
        self.disk = self.make_disk()
        self.directory = self.disk.mount / "state"

    def test_start(self) -> None:
        """A start judges, locks and reads it without writing to it, so that it does not hang."""
        agent = Agent(Path(self.mktemp()).resolve())
        agent.state_directory = self.directory
        agent.configure()
        self.addCleanup(agent.stop)
        # The agent's end is not to wait for the disk either.
        self.addCleanup(self.disk.thaw)
        agent.start()
        agent.stop()
        self.disk.freeze()
        agent.start()
        self.assertEqual(holder(self.directory), agent.pid)

    def test_cannot_end(self) -> None:
        """Who was killed, and is stuck in the kernel with the lock, keeps no agent out."""
        self.directory.mkdir(mode=0o700)
        self.disk.freeze()
        stuck = subprocess.Popen(
            [sys.executable, "-c", STUCK, self.directory], stdout=subprocess.PIPE
        )
        self.addCleanup(stuck.wait)
        assert stuck.stdout is not None
        self.addCleanup(stuck.stdout.close)
        self.addCleanup(self.disk.thaw)
        self.assertEqual(stuck.stdout.readline(), b"locked\n")
        status = Path(f"/proc/{stuck.pid}/status")
        eventually(lambda: "State:\tD" in status.read_text(), "it is stuck")
        self.assertFalse(is_dying(stuck.pid))
        self.assertEqual(holder(self.directory), stuck.pid)
        stuck.send_signal(signal.SIGKILL)
        eventually(lambda: is_dying(stuck.pid), "the kernel says that it was killed")
        self.assertIsNone(stuck.poll())
        self.assertIsNone(holder(self.directory))
        StateLock(self.directory, os.geteuid()).take()
