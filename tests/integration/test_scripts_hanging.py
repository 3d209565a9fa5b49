"""Scripts that hang, and directories that do: the rest goes on, and the agent answers."""

from __future__ import annotations

import signal
import time

from tests.integration.agent import eventually
from tests.integration.footprint import children
from tests.integration.hanging import HungMount
from tests.integration.test_scripts import ScriptsTestCase

HANGS = 'trap "" TERM; while :; do stay thaw; done'
"""A thaw that ends by SIGKILL alone."""


class ThawTests(ScriptsTestCase):
    """A script that hangs in its thaw costs the others nothing but time."""

    def test_others_are_thawed(self) -> None:
        """The scripts after one that hangs are thawed, and the one that hangs is named."""
        self.three(thaw=HANGS)
        agent = self.agent("thaw_timeout = 4s")
        self.assertEqual(agent.get("/sync").status, 200)
        self.programs.clear()
        answer = agent.get("/post-sync")
        self.assertEqual(answer.status, 500)
        self.assertRegex(
            agent.log, "scripts:legacy NOT THAWED: 20-second: not done within .*, and told to end"
        )
        self.assertEqual(self.programs.journal[-1], "thaw 10-first synced")

    def test_each_has_its_turn(self) -> None:
        """Where all hang each is begun, and each is named."""
        for name in ("10-first", "20-second", "30-third"):
            self.script(name, thaw=HANGS)
        agent = self.agent("thaw_timeout = 4s")
        self.assertEqual(agent.get("/sync").status, 200)
        self.programs.clear()
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(
            [line for line in self.programs.journal if line.startswith("thaw")],
            ["thaw 30-third synced", "thaw 20-second synced", "thaw 10-first synced"],
        )
        for name in ("10-first", "20-second", "30-third"):
            self.assertRegex(agent.log, f"NOT THAWED: .*{name}: not done within")

    def test_may_be_slow(self) -> None:
        """A script may take more than an even share of the time, where the others leave it."""
        for number in range(10, 20):
            self.script(f"{number}-quick")
        # An even share of 20 s among eleven, half of it for the end by SIGKILL, is 0.9 s.
        self.script("30-slow", thaw="sleep 1.5")
        agent = self.agent("thaw_timeout = 20s")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_agent_stopped(self) -> None:
        """Where the agent was stopped for the time of all, those without a turn have it later."""
        self.three(thaw="stay thaw")
        agent = self.agent("thaw_timeout = 1s")
        self.assertEqual(agent.get("/sync").status, 200)
        self.programs.clear()
        with agent.connect() as connection:
            connection.start("GET", "/post-sync", agent.credentials)
            self.programs.wait_for("at thaw")
            agent.kill(signal.SIGSTOP)
            late = time.monotonic() + 1.5
            eventually(lambda: time.monotonic() > late, "the time of all is up")
            self.programs.let_on("thaw")
            agent.kill(signal.SIGCONT)
            self.assertEqual(connection.answer().status, 500)
        agent.wait_for_log("scripts:legacy: thawed now")
        self.assertEqual(self.programs.journal[-1], "thaw 10-first synced")

    def test_killed(self) -> None:
        """Killed in such a thaw, the next start thaws the others before it tries that one again."""
        self.three(thaw=HANGS)
        agent = self.agent("thaw_timeout = 4s")
        self.assertEqual(agent.get("/sync").status, 200)
        with agent.connect() as connection:
            connection.start("GET", "/post-sync", agent.credentials)
            self.programs.wait_for("at thaw")
            agent.kill()
            self.assertEqual(agent.wait(), -signal.SIGKILL)
        self.programs.clear()
        agent.start()
        agent.wait_for_outcomes("recovered")
        self.assertEqual(
            [line for line in self.programs.journal if line.startswith("thaw")],
            ["thaw 10-first recovered", "thaw 20-second recovered"],
        )
        self.assertRegex(agent.log, "scripts:legacy NOT THAWED: 20-second: not done within")


class DirectoryTests(ScriptsTestCase):
    """A directory whose file server is gone holds up nobody but itself."""

    def test_freeze(self) -> None:
        """The agent answers others while it waits for the names, and gives up in its time."""
        agent = self.agent("freeze_timeout = 2s")
        hung = HungMount(self.directory)
        self.addCleanup(hung.close)
        with agent.connect() as waiting:
            waiting.start("GET", "/sync", agent.credentials)
            agent.wait_for_log("opened by")
            # Another requester is answered at once, and not when the time is up.
            self.assertEqual(agent.get("/other").status, 404)
            self.assertNotIn("not done within", agent.log)
            answer = waiting.answer()
        self.assertEqual(answer.status, 500)
        self.assertIn("scripts:legacy: not done within 2s", answer.body.decode())

    def test_thaw(self) -> None:
        """The agent answers others while the thaws wait for it, and gives each up in its turn."""
        self.three()
        agent = self.agent("thaw_timeout = 4s")
        self.assertEqual(agent.get("/sync").status, 200)
        hung = HungMount(self.directory)
        self.addCleanup(hung.close)
        with agent.connect() as waiting:
            waiting.start("GET", "/post-sync", agent.credentials)
            eventually(lambda: children(agent.pid), "a thaw has begun")
            self.assertEqual(agent.get("/other").status, 404)
            self.assertNotIn("not done within", agent.log)
            answer = waiting.answer()
        self.assertEqual(answer.status, 500)
        for name in ("10-first", "20-second", "30-third"):
            self.assertRegex(agent.log, f"NOT THAWED: .*{name}: not done within")
        eventually(lambda: not children(agent.pid), "nothing is left of them")
