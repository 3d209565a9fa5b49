"""An agent without a log file, and with standard streams that are closed."""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.programs import Programs


class StreamsTests(SynchronousTestCase):
    """What the agent does without them."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def agent(self) -> Agent:
        agent = Agent(Path(self.mktemp()).resolve(), sections=self.programs.command("a"))
        self.addCleanup(agent.stop)
        return agent

    def assert_synced(self, agent: Agent) -> None:
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])

    def test_no_file_to_rotate(self) -> None:
        """SIGUSR1 does nothing to an agent without a log file, even in a hold."""
        agent = self.agent()
        agent.start()
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill(signal.SIGUSR1)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])

    def start_without(self, closed: str) -> None:
        agent = self.agent()
        agent.launcher = ("sh", "-c", f'exec "$@" {closed}', "sh")
        agent.start()
        self.assert_synced(agent)

    def test_no_output(self) -> None:
        """It starts with standard output closed."""
        self.start_without("1>&-")

    def test_no_error(self) -> None:
        """It starts with standard error closed."""
        self.start_without("2>&-")

    def test_no_input_nor_error(self) -> None:
        """It starts with standard input and error closed."""
        self.start_without("0<&- 2>&-")

    def test_none(self) -> None:
        """It starts with all three closed."""
        self.start_without("0<&- 1>&- 2>&-")
