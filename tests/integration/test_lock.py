"""The lock of an agent that cannot end: a thread of it is stuck on a frozen filesystem."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.agent import eventually
from tests.integration.disks import DiskTestCase
from xohook.errors import StartError
from xohook.host.lock import is_held, lock

#: Takes the lock, says so, and has a thread write to a file.
STUCK = """
import pathlib, sys, threading
from xohook.host.lock import lock
lock(pathlib.Path(sys.argv[1]))
threading.Thread(target=pathlib.Path(sys.argv[2]).touch).start()
print("locked", flush=True)
threading.Event().wait()
"""

#: Takes the lock when its input closes, says how that went, and keeps it to the next line.
STARTER = """
import pathlib, sys
from xohook.errors import StartError
from xohook.host.lock import lock
sys.stdin.readline()
try:
    lock(pathlib.Path(sys.argv[1]))
    print("locked", flush=True)
except StartError as error:
    print(error, flush=True)
sys.stdin.readline()
"""


class StuckHolderTests(DiskTestCase):
    """What becomes of a lock whose holder does not end."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk = self.make_disk()
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()

    def run_python(self, program: str, *arguments: Path) -> subprocess.Popen[str]:
        """Run a program of this test."""
        process = subprocess.Popen(
            [sys.executable, "-c", program, self.directory, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def bury(self) -> subprocess.Popen[str]:
        """Have a process hold the lock with a thread that is stuck."""
        self.disk.freeze()
        holder = self.run_python(STUCK, self.disk.mount / "file")
        # Before its end is waited for.
        self.addCleanup(self.disk.release)
        assert holder.stdout is not None
        self.assertEqual(holder.stdout.readline(), "locked\n")
        stuck = Path(f"/proc/{holder.pid}/task")

        def is_stuck() -> bool:
            stats = [(each / "stat").read_text() for each in stuck.iterdir()]
            return any(each.rpartition(")")[2].split()[0] == "D" for each in stats)

        eventually(is_stuck, "a thread is stuck")
        return holder

    def kill(self, holder: subprocess.Popen[str]) -> None:
        """Kill it: its main thread ends, and the other one does not."""
        holder.send_signal(signal.SIGKILL)
        status = Path(f"/proc/{holder.pid}/stat")
        eventually(
            lambda: status.read_text().rpartition(")")[2].split()[0] == "Z", "it is a zombie"
        )

    def test_killed(self) -> None:
        """Killed, it keeps nobody from the lock; and who takes it then keeps it."""
        holder = self.bury()
        self.kill(holder)
        lock(self.directory)
        error = self.assertRaises(StartError, lock, self.directory)
        self.assertIn(f"another agent (process {os.getpid()}) is running", str(error))
        self.disk.thaw()

    def test_is_held(self) -> None:
        """Whether the lock is held is told as a start would see it: not by one that was killed."""
        holder = self.bury()
        self.assertTrue(is_held(self.directory))
        self.kill(holder)
        self.assertFalse(is_held(self.directory))
        (self.directory / "lock").write_text("")
        self.assertFalse(is_held(self.directory))

    def test_alive(self) -> None:
        """One that is stuck and was not killed goes on with its work later: it keeps the lock."""
        holder = self.bury()
        error = self.assertRaises(StartError, lock, self.directory)
        self.assertIn(f"another agent (process {holder.pid}) is running", str(error))

    def test_unsigned(self) -> None:
        """The same is so for a lock that does not say who holds it."""
        holder = self.bury()
        (self.directory / "lock").write_text("")
        error = self.assertRaises(StartError, lock, self.directory)
        self.assertIn(f"another agent (process {holder.pid}) is running", str(error))
        self.kill(holder)
        lock(self.directory)

    def test_several(self) -> None:
        """Of several that start at once exactly one has it."""
        self.kill(self.bury())
        starters = [self.run_python(STARTER) for _ in range(6)]
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("\n")
            starter.stdin.flush()
        said = [starter.stdout.readline() for starter in starters if starter.stdout is not None]
        self.assertEqual(said.count("locked\n"), 1, said)
