"""What the tests themselves read of an agent's log."""

from __future__ import annotations

import os
import signal
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.footprint import writers


class LogReadTests(SynchronousTestCase):
    """A test that has an answer finds in the log what the agent logged of it."""

    def test_writer_late(self) -> None:
        """The writer gets to run only after the test looks."""
        agent = Agent.for_test(self)
        [writer] = writers(agent.pid, "output")
        os.kill(writer, signal.SIGSTOP)
        self.assertEqual(agent.get("/late").status, 404)
        resumed = threading.Timer(0.1, os.kill, (writer, signal.SIGCONT))
        self.addCleanup(resumed.join)
        resumed.start()
        self.assertIn("GET /late 404", agent.log)

    def test_stopped(self) -> None:
        """An agent that is stopped keeps nobody waiting."""
        agent = Agent.for_test(self)
        self.assertEqual(agent.get("/before").status, 404)
        self.assertIn("GET /before 404", agent.log)
        agent.kill(signal.SIGSTOP)
        self.assertIn("GET /before 404", agent.log)
