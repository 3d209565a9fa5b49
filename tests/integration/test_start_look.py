"""Tests for the look at the participants when the agent starts, of a real agent."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from unittest import SkipTest

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.asking import AskedTestCase
from tests.integration.disks import run
from tests.integration.footprint import writers

WARNED = r"#warn\] missing, and needed by the next window: "


class StartLookTests(AskedTestCase):
    """What is missing is told, and the agent starts all the same."""

    def missing(self, agent: Agent) -> list[str]:
        """Ask what is missing."""
        told = json.loads(self.ask("status", "--json", "-c", str(agent.configuration), status=None))
        found: list[str] = told["missing"]
        return found

    def hanging(self) -> Path:
        """Make a directory whose entries cannot be looked up: a FUSE that nobody serves."""
        if not Path("/dev/fuse").exists():
            raise SkipTest("there is no /dev/fuse")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        served = os.open("/dev/fuse", os.O_RDWR)
        # Whoever waits in it is let go when this closes.
        self.addCleanup(run, "umount", "--lazy", directory)
        self.addCleanup(os.close, served)
        options = f"fd={served},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"hanging", os.fsencode(directory), b"fuse", 0, options) != 0:
            raise SkipTest(f"no FUSE can be mounted: {os.strerror(ctypes.get_errno())}")
        return directory

    def test_each(self) -> None:
        """A program, a directory, a mount and a client: one warning each."""
        sections = (
            "[command:a]\nfreeze = no-such-program-a",
            "[command:b]\nfreeze = true\ndirectory = /no/such/place",
            "[session:c]\nrecipe = mariadb\nenvironment = PATH=/no/such/path",
            "[filesystem:d]\nmount = /no/such/mount",
            "[command:fine]\nfreeze = true",
        )
        agent = self.agent_with(*sections)
        agent.wait_for_log(WARNED, 4)
        for name in ("command:a", "command:b", "session:c", "filesystem:d"):
            agent.wait_for_log(WARNED + rf"\[{name}\] ")
        found = self.missing(agent)
        self.assertEqual(len(found), 4, found)
        self.assertIn("no-such-program-a is not found in ", found[0])

    def test_status(self) -> None:
        """``status`` says it, and exits with 1."""
        agent = self.agent_with("[command:a]\nfreeze = no-such-program")
        agent.wait_for_log(WARNED)
        said = self.ask("status", "-c", str(agent.configuration), status=1)
        self.assertIn("MISSING when the agent started", said)
        self.assertIn("no-such-program is not found", said)

    def test_proved_otherwise(self) -> None:
        """It is told until a window in which the participant froze."""
        program = Path(self.mktemp()).absolute()
        agent = self.agent_with(
            f"[command:late]\nfreeze = {program}\non_failure = continue", self.programs.command("x")
        )
        agent.wait_for_log(WARNED)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(len(self.missing(agent)), 1)
        program.symlink_to("/bin/true")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(self.missing(agent), [])

    def test_nothing(self) -> None:
        """Where all is there nothing is said, and no child stays."""
        agent = self.agent_with(self.programs.command("one"))
        eventually(lambda: not _looks(agent.pid), "the look has ended")
        self.assertEqual(self.missing(agent), [])
        self.assertNotIn("missing", agent.log)

    def test_reload(self) -> None:
        """A configuration that is read again is looked at again."""
        agent = self.agent_with("[command:a]\nfreeze = no-such-program")
        agent.wait_for_log(WARNED)
        agent.configure(sections="[command:a]\nfreeze = another-program")
        agent.kill(signal.SIGHUP)
        agent.wait_for_log(WARNED + ".*another-program")
        [found] = self.missing(agent)
        self.assertIn("another-program", found)

    def test_hung_disk(self) -> None:
        """A path that does not answer delays neither the start nor the end."""
        needs.root()
        agent = self.agent_with(f"[command:a]\nfreeze = {self.hanging()}/program")
        eventually(lambda: _looks(agent.pid), "the look has begun")
        begun = time.monotonic()
        agent.stop()
        self.assertLess(time.monotonic() - begun, 10)


def _looks(pid: int) -> list[str]:
    """List the children that look at the participants, and those that are no program yet."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in found if int(child) not in writers(pid)]
