"""An agent of the test's own that is started, signalled and ended."""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.hook_client import Connection
from tests.integration.programs import Programs


class LifeTestCase(SynchronousTestCase):
    """An agent of the test's own, with programs that tell what they do."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def agent_with(self, *sections: str, options: str = "") -> Agent:
        agent = Agent.for_test(self, options=options, sections="\n".join(sections))
        # It accepts connections a moment before its reactor runs and takes signals.
        self.assertEqual(agent.get("/nothing").status, 404)
        return agent

    def not_started(self, *sections: str, options: str = "") -> Agent:
        agent = Agent(Path(self.mktemp()).resolve(), options, "\n".join(sections))
        self.addCleanup(agent.stop)
        return agent

    def start(self, agent: Agent, target: str) -> Connection:
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", target, agent.credentials)
        return connection

    def hang_up(self, agent: Agent) -> None:
        """Send SIGHUP and wait until the agent has acted on it."""
        before = agent.log.count("reloaded")
        agent.kill(signal.SIGHUP)
        agent.wait_for_log("reloaded", count=before + 1)

    def terminated(self, agent: Agent) -> None:
        """See that the agent ends in an orderly way and leaves nothing."""
        # twistd ends in an orderly way, and then by the signal that it was sent.
        self.assertEqual(agent.wait(), -signal.SIGTERM)
        self.assertIn("Server Shut Down", agent.log)
        self.assertNotIn("Traceback", agent.log)
        self.assertNotIn("Unhandled", agent.log)
