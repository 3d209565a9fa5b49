"""Two agents with one state directory."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.command import CommandTestCase
from tests.integration.programs import Programs


class SharedStateTests(SynchronousTestCase):
    """The second one is refused, and harms nothing of the first."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())
        self.first = Agent.for_test(self, sections=self.programs.command("one"))
        self.second = Agent(Path(self.mktemp()).resolve())
        self.second.state_directory = self.first.state_directory
        self.second.configure()
        self.addCleanup(self.second.stop)
        self.stamp = self.first.state_directory / "stamp.json"

    def test_second(self) -> None:
        """It is told whose the directory is and what to do; the stamp of the first one stays."""
        self.assertEqual(self.first.get("/sync").status, 200, self.first.log)
        self.assertTrue(self.stamp.exists())
        said = str(self.assertRaises(AssertionError, self.second.start))
        self.assertIn(
            f"another agent (process {self.first.pid}) is running with the state directory "
            f"{self.first.state_directory}: stop it, or give",
            said,
        )
        self.assertNotIn("Traceback", said)
        self.assertTrue(self.stamp.exists())
        self.assertEqual(self.first.get("/post-sync").status, 200)

    def test_after_end(self) -> None:
        """It starts as soon as the first has ended, however, while a program of that one lives."""
        self.first.configure(sections=self.programs.command("one", "exec sleep 600"))
        self.first.restart()
        with self.first.connect() as connection:
            connection.start("GET", "/sync", self.first.credentials)
            self.first.wait_for_log("window .* opened")
            self.first.kill()
            self.first.wait()
        self.second.start()


class CheckTests(CommandTestCase):
    """``xohook check`` foresees it."""

    def test_other_agent(self) -> None:
        """An agent that has only the state directory in common is an error, with its number."""
        other = Agent(Path(self.mktemp()).resolve())
        other.state_directory = self.state
        other.configure()
        self.addCleanup(other.stop)
        other.start()
        self.configure()
        said = self.run_command("check", good=False).output
        self.assertIn(f"error    state_directory = {self.state}: process {other.pid} is an", said)

    def test_open_configuration(self) -> None:
        """So is a configuration that others may write to."""
        self.configure()
        self.file.chmod(0o646)
        said = self.run_command("check", good=False).output
        self.assertIn(f"Others may write to {self.file} (mode 0646): run 'chmod go-w", said)
