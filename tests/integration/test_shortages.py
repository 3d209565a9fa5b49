"""What goes wrong beside a window must not keep anything frozen, nor be told as something else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.asking import AskedTestCase
from tests.integration.disks import DiskTestCase, run
from tests.integration.footprint import writers
from tests.integration.holds import filesystem
from xohook.state.writers import RESTART_AFTER

OBSERVER = '''
import os

def make_observer():
    return observe

def observe(event):
    """Fail as a file on a full disk does, while there is a file that says so."""
    if os.path.exists({path!r}):
        raise OSError(28, "No space left on device")
'''


class ObserverTests(AskedTestCase, DiskTestCase):
    """A log observer of the administrator's own (``--logger``)."""

    def test_raises(self) -> None:
        """One that raises keeps nobody from the thaw."""
        self.need_disks()
        disk = self.make_disk()
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        full = directory / "full"
        (directory / "observing.py").write_text(OBSERVER.format(path=str(full)))
        agent = Agent(
            Path(self.mktemp()).resolve(),
            sections="\n".join((self.programs.command("a"), filesystem(disk, "data"))),
        )
        agent.twistd_options = ("-n", "--pidfile=", "--logger=observing.make_observer")
        self.patch(sys, "path", [str(directory), *sys.path])
        self.addCleanup(agent.stop)
        agent.start()
        self.assertEqual(agent.get("/sync").status, 200)
        full.touch()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])


class SwapTests(DiskTestCase):
    """A swap file on what is frozen: the kernel writes to it past the freeze."""

    def test_swap_file(self) -> None:
        """What is swapped out during the hold does not spoil the window."""
        self.need_disks()
        disk = self.make_disk()
        file = disk.mount / "swap"
        run("dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=32", "status=none")
        run("chmod", "600", file)
        run(needs.program("mkswap"), file)
        run(needs.program("swapon"), file)
        try:
            agent = Agent.for_test(self, "hold_limit = 10m\n", filesystem(disk, "data"))
            self.assertEqual(agent.get("/sync").status, 200)
            subprocess.run([sys.executable, "-c", SWAP_OUT], check=True, timeout=60)
            self.assertEqual(agent.get("/post-sync").status, 200, agent.log)
        finally:
            run("swapoff", file)


SWAP_OUT = """
import mmap
memory = mmap.mmap(-1, 8 << 20)
memory.write(b"x" * (8 << 20))
memory.madvise(21)  # MADV_PAGEOUT (madvise(2))
"""


class FilesTests(AskedTestCase):
    """The agent may open no file for a while."""

    def limit(self, agent: Agent, files: int) -> None:
        """Let the agent have so many open files."""
        _, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (files, hard))

    def test_writers(self) -> None:
        """Writers that end meanwhile are started again as soon as it can."""
        agent = self.agent_with(self.programs.command("a"))
        files, _ = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        self.limit(agent, 3)
        for writer in writers(agent.pid):
            os.kill(writer, signal.SIGKILL)
        eventually(lambda: not writers(agent.pid), "the writers have ended")
        # Two tries that fail, of which nobody else hears.
        deadline = time.monotonic() + 2.5 * RESTART_AFTER
        eventually(lambda: time.monotonic() > deadline, "two tries have failed")
        self.limit(agent, files)
        eventually(lambda: len(writers(agent.pid)) == 2, "both have been started again")
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_log("GET /sync 200")


class SignalTests(AskedTestCase):
    """A signal that comes while the agent starts."""

    def test_interrupted_early(self) -> None:
        """SIGINT at any moment of the start ends the agent."""
        for words in ("answers on", "apps register on", "starting up"):
            agent = Agent(Path(self.mktemp()).resolve())
            self.addCleanup(agent.stop)
            agent.spawn()
            agent.wait_for_log(words)
            agent.kill(signal.SIGINT)
            agent.wait()
