"""Tests for what ``xohook status`` and the log say of phases, of a real agent."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.asking import AskedTestCase


class PhaseTests(AskedTestCase):
    """A phase is called what it is."""

    def told(self, configuration: str) -> dict[str, Any]:
        """Ask for the status; give each participant by its name."""
        status = json.loads(self.ask("status", "--json", "-c", configuration, status=None))
        return {each["name"]: each for each in status["participants"]}

    def test_running(self) -> None:
        """A freeze that runs tells for how long it has run and may run, and no outcome."""
        agent = self.agent_with("[command:slow]\nfreeze = sleep 600\nfreeze_timeout = 45s")
        configuration = str(agent.configuration)
        self.start(agent, "/sync")
        agent.wait_for_log("opened by")
        first = self.told(configuration)["command:slow"]
        second = self.told(configuration)["command:slow"]
        self.assertEqual((first["phase"], first["limit"]), ("freezing", 45.0))
        self.assertGreater(second["seconds"], first["seconds"])
        text = self.ask("status", "-c", configuration)
        self.assertRegex(text, r"\n  command:slow  freezing  \d+\.\d s of 45 s\n")

    def test_nothing_to_thaw(self) -> None:
        """After a good window a command with nothing to thaw is frozen no more."""
        agent = self.agent_with("[command:flush]\nfreeze = true")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        flush = self.told(str(agent.configuration))["command:flush"]
        self.assertEqual((flush["phase"], flush["limit"]), ("done", None))

    def test_never_frozen(self) -> None:
        """Of what was never frozen neither status nor log say that it was thawed."""
        agent = self.agent_with("[command:bad]\nfreeze = false\nthaw = true")
        self.assertEqual(agent.get("/sync").status, 500)
        agent.wait_for_outcomes("failed")
        self.assertEqual(self.told(str(agent.configuration))["command:bad"]["phase"], "undone")
        self.assertRegex(agent.log, r"window \S+: command:bad undone in")
        self.assertNotIn("thawed", agent.log)
