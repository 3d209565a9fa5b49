"""Runs the command ``xohook`` as a program that asks a real agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import COMMAND, Agent
from tests.integration.control_client import ControlClient
from tests.integration.hook_client import PATIENCE, Connection
from tests.integration.programs import Programs


class AskedTestCase(SynchronousTestCase):
    """An agent, programs that tell what they do, and the command that asks the agent."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def agent_with(self, *sections: str, options: str = "") -> Agent:
        """Start an agent with these participants."""
        agent = Agent.for_test(self, options, "\n".join(sections))
        # It accepts connections a moment before its reactor runs.
        self.assertEqual(agent.get("/nothing").status, 404)
        return agent

    def ask(
        self,
        *arguments: str,
        status: int | None = 0,
        command: str = COMMAND,
        **variables: str,
    ) -> str:
        """Run the command; give what it printed, or where it is not to be good also its error."""
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments],
            env=self.environment | variables,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        said = done.stdout + done.stderr
        if status is not None:
            self.assertEqual(done.returncode, status, said)
        self.assertNotIn("Traceback", said)
        return said

    @property
    def environment(self) -> dict[str, str]:
        """The test's own, which tells nothing of any agent."""
        told = ("XOHOOK_CONTROL", "RUNTIME_DIRECTORY")
        own = {name: value for name, value in os.environ.items() if name not in told}
        return own | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(self, agent: Agent, target: str) -> Connection:
        """Send the agent a request, and do not wait for its answer."""
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", target, agent.credentials)
        return connection


class OwingTestCase(AskedTestCase):
    """An agent that owes thaws after its windows."""

    agent: Agent

    def unthawed(self) -> list[dict[str, Any]]:
        """Ask the agent what may be frozen."""
        with ControlClient(self.agent.control) as client:
            found: list[dict[str, Any]] = client.call("status")["unthawed"]
            return found

    def record(self) -> list[dict[str, Any]]:
        """Read what the record says of it."""
        path = self.agent.runtime_directory / "record.json"
        if not path.exists():
            return []
        entries: list[dict[str, Any]] = json.loads(path.read_text())["entries"]
        return entries
