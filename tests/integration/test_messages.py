"""Tests for what the log and the answers say of a failure, of a real agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.agent import COMMAND, eventually
from tests.integration.asking import AskedTestCase


class CauseTests(AskedTestCase):
    """Each cause is told once."""

    def test_freeze(self) -> None:
        """That of a freeze that fails is one line of the log, with the window's id."""
        agent = self.agent_with("[command:bad]\nfreeze = sh -c 'echo the cause; exit 1'")
        self.assertIn(b"the cause", agent.get("/sync").body)
        agent.wait_for_outcomes("failed")
        self.assertEqual(agent.log.count("the cause"), 1)
        self.assertRegex(agent.log, r"window \S+: command:bad not frozen: .*the cause")

    def test_thaw(self) -> None:
        """That of a thaw that fails is one line of the log."""
        agent = self.agent_with(
            "[command:bad]\nfreeze = true\nthaw = sh -c 'echo the cause; exit 1'"
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertIn(b"the cause", agent.get("/post-sync").body)
        self.assertEqual(agent.log.count("the cause"), 1)

    def test_let_go(self) -> None:
        """That of a hold that breaks is one line of the log, and stands in the answer."""
        agent = self.agent_with(
            "[session:s]\ncommand = sh -c 'read a; echo yes; sleep 0.2; echo the cause'\n"
            "freeze_input = a\nfreeze_expect = yes\nthaw_input = b\nthaw_expect = b"
        )
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_outcomes("broken")
        self.assertIn("the cause", self.ask("status", "-c", str(agent.configuration), status=1))
        self.assertEqual(agent.log.count("let go: session:s: its client has ended"), 1)
        self.assertEqual(agent.log.count("session:s: its client has ended"), 1)

    def test_missing(self) -> None:
        """What is known only at the end is told there."""
        agent = self.agent_with("[command:fine]\nfreeze = true", options="hold_limit = 1s")
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_log(r"window \S+: the hold ended with 1 /post-sync missing")


class ProgramTests(AskedTestCase):
    """What is said of the programs of ``xohook register``."""

    def test_no_class(self) -> None:
        """No name of a Python class stands before why a program failed."""
        agent = self.agent_with()
        register = subprocess.Popen(
            [
                *(sys.executable, "-c", COMMAND, "register", "-c", agent.configuration),
                *("--name", "app", "--freeze", "sh -c 'echo the cause; exit 3'"),
            ],
            env=self.environment,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(register.wait)
        self.addCleanup(os.kill, register.pid, signal.SIGTERM)
        self.wait_for_app(agent.configuration)
        answer = agent.get("/sync")
        self.assertIn(b"app:app: exit status 3: the cause", answer.body)
        self.assertNotIn(b"ProgramError", answer.body)
        self.assertNotIn("ProgramError", agent.log)

    def wait_for_app(self, configuration: Path) -> None:
        """Wait until an app is registered."""
        eventually(
            lambda: "1 app registered" in self.ask("status", "-c", str(configuration), status=None),
            "the app is registered",
        )
