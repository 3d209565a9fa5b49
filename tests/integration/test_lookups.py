"""Nobody is looked up while something may be frozen: the user database may not answer then."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent
from tests.integration.programs import Programs

WITHOUT_USERS = 'mount --bind "$0" /etc/passwd && exec "$@"'
"""Starts a program where whoever opens the user database waits for good: a FIFO lies there."""


class RecoveryTests(SynchronousTestCase):
    """The next start thaws where the user database does not answer."""

    def setUp(self) -> None:
        needs.root()
        self.unshare = needs.program("unshare")
        self.programs = Programs(Path(self.mktemp()).resolve())
        self.told = 'note "$USER" "$HOME"'

    def kill(self, *sections: str) -> Agent:
        """Hold a window of these, and kill its agent."""
        agent = Agent.for_test(self, sections="\n".join(sections))
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill()
        self.assertEqual(agent.wait(), -signal.SIGKILL)
        self.before = self.programs.journal
        self.programs.clear()
        return agent

    def start(self, agent: Agent) -> None:
        """Start it where nobody can be looked up; the start itself gets stuck after the thaws."""
        fifo = agent.directory / "passwd"
        os.mkfifo(fifo)
        agent.launcher = (self.unshare, "-m", "sh", "-c", WITHOUT_USERS, str(fifo))
        agent.spawn()
        self.addCleanup(agent.wait)
        # It is stuck where no handler of another signal has its turn.
        self.addCleanup(agent.kill)

    def test_command(self) -> None:
        """A command's thaw runs, with the user's name and home of the freeze."""
        agent = self.kill(self.programs.command("a", self.told, self.told))
        self.start(agent)
        self.programs.wait_for("thaw a recovered", self.before[1])

    def test_scripts(self) -> None:
        """Scripts' thaws run likewise."""
        self.programs.write("script", 'note "$1" "$USER" "$HOME"')
        agent = self.kill("[scripts:a]", f"directory = {self.programs.directory}")
        self.start(agent)
        self.programs.wait_for(self.before[0].replace("freeze", "thaw"))

    def test_session(self) -> None:
        """A session's thaw runs likewise."""
        self.programs.write(
            "client", self.told, "while read -r line; do", 'note "$line"', "echo $line", "done"
        )
        agent = self.kill(
            "[session:a]",
            f"command = {self.programs.directory / 'client'}",
            "freeze_input = freeze",
            "freeze_expect = freeze",
            "thaw_input = thaw",
            "thaw_expect = thaw",
        )
        self.start(agent)
        self.programs.wait_for("thaw", self.before[0])

    def test_earlier_record(self) -> None:
        """A record that names no user, as earlier versions wrote it, is carried out likewise."""
        agent = self.kill(self.programs.command("a", thaw=self.told))
        path = agent.runtime_directory / "record.json"
        record = json.loads(path.read_text())
        for entry in record["entries"]:
            entry["owed"].pop("login", None)
        path.write_text(json.dumps(record))
        self.start(agent)
        self.programs.wait_for("thaw a recovered", "root /root")
