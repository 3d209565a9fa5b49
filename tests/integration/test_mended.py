"""The start after a kill where something else is wrong too, and what a reload cannot change."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import needs
from tests.integration.agent import Agent, accepts, eventually
from tests.integration.control_client import CallFailedError, ControlClient
from tests.integration.disks import DiskTestCase
from tests.integration.holds import filesystem, guards, kill
from tests.integration.lifecycle_case import LifeTestCase
from tests.integration.test_recovery import KilledTestCase


class AgentOfUnit(Agent):
    """An agent whose directories systemd names as well as its configuration."""

    @property
    def environment(self) -> dict[str, str]:
        """The test's environment, with what a unit's StateDirectory and RuntimeDirectory add."""
        return {
            **super().environment,
            "STATE_DIRECTORY": str(self.state_directory),
            "RUNTIME_DIRECTORY": str(self.runtime_directory),
        }


class TroubledTestCase(KilledTestCase):
    """A start that has thaws to run and other troubles besides."""

    def refused(self, agent: Agent) -> str:
        """See that a start ends with words; they come back, without those of earlier runs."""
        agent.log_path.write_text("")
        agent.spawn()
        self.assertEqual(agent.wait(), 1)
        self.assertNotIn("Traceback", agent.log)
        return agent.log

    def edit(self, agent: Agent, change: Callable[[Any], None]) -> None:
        """Change the record of an agent that has ended."""
        told = json.loads(self.record(agent).read_text())
        change(told)
        self.record(agent).write_text(json.dumps(told))


class TroubledStartTests(TroubledTestCase):
    """What is owed is thawed, and nothing that is wrong goes untold."""

    def test_thaw_and_configuration(self) -> None:
        """A thaw that fails and a mistake in the configuration are both told by the one start."""
        agent = self.agent_with(self.programs.command("x", thaw="exit 7"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.configure("freeze_budget = soon")
        said = self.refused(agent)
        self.assertIn("command:x: NOT THAWED: exit status 7", said)
        self.assertRegex(said, r"xohook\.ini:\d+ \[xohook\] freeze_budget: ")
        self.assertEqual(self.programs.journal, ["freeze x", "thaw x recovered"])

    def test_no_configuration(self) -> None:
        """Without its configuration the agent thaws what it finds in the usual places."""
        agent = AgentOfUnit.for_test(self, sections=self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.configuration.unlink()
        for _ in range(2):
            self.assertIn(f"{agent.configuration}: cannot be read: No such", self.refused(agent))
            self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])

    def test_hang_up(self) -> None:
        """SIGHUP during the recovery does not end the start, nor what it runs."""
        agent = self.agent_with(self.programs.command("a", thaw="stay a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.spawn()
        self.programs.wait_for("at a")
        agent.kill(signal.SIGHUP)
        self.programs.let_on("a")
        eventually(lambda: agent.ended or accepts(agent.port), "it accepts connections")
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered", "at a"])


class EditedRecordTests(TroubledTestCase):
    """A record that somebody has edited, or another version has written."""

    def test_entry(self) -> None:
        """An entry of an unknown kind stays, and stops the start once the others are thawed."""
        agent = self.agent_with(
            self.programs.command("a", order=10),
            self.programs.command("b", thaw="exit 7", order=20),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.programs.clear()
        mystery = {"name": "mystery:x", "order": 50, "owed": {}, "process": {}}
        self.edit(agent, lambda told: told["entries"].append(mystery))
        not_understood = "xohook: the record's entry of mystery:x cannot be understood: thaw it by"
        said = self.refused(agent)
        self.assertIn(not_understood, said)
        self.assertIn("command:b: NOT THAWED: exit status 7", said)
        self.assertEqual(json.loads(self.record(agent).read_text())["entries"], [mystery])
        self.assertIn(not_understood, self.refused(agent))
        self.assertEqual(json.loads(self.record(agent).read_text())["entries"], [mystery])
        # The words say to take it out.
        self.edit(agent, lambda told: told["entries"].clear())
        agent.start()
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(self.programs.journal, ["thaw b recovered", "thaw a recovered"])

    def test_value(self) -> None:
        """A value that cannot be stops the start with words; the record stays as it is."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        good = self.record(agent).read_bytes()
        stray = {"window": "w", "answered": True, "until": "x"}
        changes: tuple[Callable[[Any], None], ...] = (
            lambda told: told.update(waiting="x"),
            lambda told: told["entries"][0].update(process={"pid": 5}),
            lambda told: told["strays"].append(stray),
        )
        for change in changes:
            self.record(agent).write_bytes(good)
            self.edit(agent, change)
            edited = self.record(agent).read_bytes()
            self.assertIn("xohook: cannot understand the record", self.refused(agent))
            self.assertEqual(self.record(agent).read_bytes(), edited)
        self.assertEqual(self.programs.journal, ["freeze a"])

    def test_number_in_quotes(self) -> None:
        """A timeout in quotes is still a timeout: the thaw runs."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.edit(agent, lambda told: told["entries"][0]["owed"].update(timeout="9"))
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])


class FixedTests(LifeTestCase):
    """What a reload cannot change."""

    def test_state_directory(self) -> None:
        """With another state directory nothing is made there, and each reload says so."""
        agent = self.agent_with()
        elsewhere = Path(self.mktemp()).resolve()
        text = agent.configuration.read_text()
        agent.configuration.write_text(text.replace(str(agent.state_directory), str(elsewhere)))
        for times in (1, 2):
            self.hang_up(agent)
            warning = "state_directory has changed: restart the agent for it"
            self.assertEqual(agent.log.count(warning), times)
            self.assertEqual(agent.get("/sync").status, 200)
            self.assertEqual(agent.get("/post-sync").status, 200)
            self.assertFalse(elsewhere.exists())


class StillTests(DiskTestCase):
    """A reload while a filesystem is frozen still, after a thaw that failed."""

    def setUp(self) -> None:
        needs.root()
        self.disk = self.make_disk()
        self.agent = Agent.for_test(self, sections=filesystem(self.disk, "data"))
        self.control = ControlClient(self.agent.control)
        self.addCleanup(self.control.close)

    def fail_thaw(self) -> None:
        """Have the guard of a hold die at a time when no process can be started in its place."""
        self.assertEqual(self.agent.get("/sync").status, 200)
        [guard] = guards(self.agent, "freezer")
        soft, hard = resource.prlimit(self.agent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.agent.pid, resource.RLIMIT_NOFILE, (3, hard))
        kill(guard)
        eventually(lambda: self.phase == "stuck", "the thaw has failed")
        resource.prlimit(self.agent.pid, resource.RLIMIT_NOFILE, (soft, hard))
        self.assert_frozen(self.disk)

    @property
    def phase(self) -> str:
        [participant] = self.control.call("status")["participants"]
        phase: str = participant["phase"]
        return phase

    def test_not_reloaded(self) -> None:
        """Nothing is read and nothing is changed, in words, until it is thawed."""
        self.fail_thaw()
        text = self.agent.configuration.read_text()
        self.agent.configuration.write_text(f"{text}\n[command:late]\nno option of any kind\n")
        refused = self.assertRaises(CallFailedError, self.control.call, "reload")
        self.assertEqual(refused.code, -32005)
        problem = "a filesystem is still frozen after a thaw that failed"
        self.assertEqual(refused.data, {"problems": [problem]})
        self.disk.thaw()
        self.assertEqual(self.agent.get("/post-sync").status, 500)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.phase, "frozen")
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.assertIn(f"not reloaded: {problem}", self.agent.log)
        self.agent.configuration.write_text(text)
        self.assertEqual(self.control.call("reload"), {})
