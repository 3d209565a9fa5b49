"""A ``/post-sync`` that may be another window's, and requesters with addresses of their own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.hook_client import Connection
from tests.integration.programs import Programs

ONE, OTHER = "127.0.0.1", "127.0.0.2"


class DoubtTests(SynchronousTestCase):
    """Windows after one that got no ``/post-sync``."""

    def setUp(self) -> None:
        programs = Programs(Path(self.mktemp()).resolve())
        self.agent = Agent.for_test(self, options="hold_limit = 1s", sections=programs.command("a"))

    def get(self, target: str, source: str = ONE) -> int:
        """Send a request from an address; the status of its answer comes back."""
        connection = Connection(self.agent.port, source=source)
        self.addCleanup(connection.close)
        return connection.get(target, self.agent.credentials).status

    def expire(self, source: str = ONE) -> None:
        """Let a window expire."""
        self.assertEqual(self.get("/sync", source), 200)
        self.agent.wait_for_log(" expired\n")

    def snapshot(self, status: int, source: str = ONE) -> None:
        """Let a window pass whose ``/post-sync`` hears this."""
        self.assertEqual(self.get("/sync", source), 200)
        self.assertEqual(self.get("/post-sync", source), status)

    def test_conserved(self) -> None:
        """An ambiguous window adds nothing to what is expected: one that comes ends the doubt."""
        self.expire()
        self.snapshot(500)
        self.snapshot(500)
        self.assertEqual(self.get("/post-sync"), 500)
        self.snapshot(200)
        self.agent.wait_for_outcomes("expired", "ambiguous", "ambiguous", "synced")

    def test_line(self) -> None:
        """The log says whose it may have been, until when the doubt lasts, and what to do."""
        self.expire()
        self.snapshot(500)
        self.agent.wait_for_log(
            r"a /post-sync from 127\.0\.0\.1 may have been that of window \S+, which had ended"
            r" before: do not trust this snapshot; take another one after \d\d:\d\d:\d\d UTC,"
        )

    def test_another_address(self) -> None:
        """One requester's missing /post-sync spoils no other one's window."""
        self.expire(OTHER)
        self.snapshot(200)
        self.assertEqual(self.get("/post-sync", OTHER), 500)
        self.agent.wait_for_outcomes("expired", "synced")

    def test_another_address_after_a_kill(self) -> None:
        """That holds for a window that the agent's death has ended, and for one before it."""
        self.expire(OTHER)
        self.assertEqual(self.get("/sync", OTHER), 200)
        self.agent.kill()
        self.assertEqual(self.agent.wait(), -signal.SIGKILL)
        self.agent.start()
        record = json.loads((self.agent.runtime_directory / "record.json").read_text())
        self.assertEqual([each["source"] for each in record["strays"]], [OTHER, OTHER])
        self.snapshot(200)
        self.agent.wait_for_outcomes("expired", "recovered", "synced")

    def test_killed_in_the_freeze(self) -> None:
        """So it does for one that waited for its answer."""
        programs = Programs(Path(self.mktemp()).resolve())
        agent = Agent.for_test(self, sections=programs.command("b", "note ready; stay b"))
        connection = Connection(agent.port, source=OTHER)
        self.addCleanup(connection.close)
        connection.start("GET", "/sync", agent.credentials)
        programs.wait_for("ready")
        agent.kill()
        agent.wait()
        agent.start()
        record = json.loads((agent.runtime_directory / "record.json").read_text())
        [stray] = record["strays"]
        self.assertEqual((stray["source"], stray["answered"]), (OTHER, False))
