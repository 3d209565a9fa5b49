"""An agent of the test's own whose participants are programs."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.hook_client import Connection
from tests.integration.programs import Programs


class WindowTestCase(SynchronousTestCase):
    """An agent of the test's own, with programs that tell what they do."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def agent_with(self, *sections: str, options: str = "") -> Agent:
        return Agent.for_test(self, options=options, sections="\n".join(sections))

    def start(self, agent: Agent, target: str = "/sync") -> Connection:
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", target, agent.credentials)
        return connection

    def refused(self, agent: Agent) -> list[str]:
        """Ask for a window that fails, and give the lines that say why."""
        answer = agent.get("/sync")
        self.assertEqual((answer.status, answer.first_line), (500, "Internal Error"))
        return answer.body.decode().splitlines()[1:]

    def good(self, agent: Agent) -> None:
        """Run a window that is synced."""
        before = agent.outcomes
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes(*before, "synced")
