"""What Xen Orchestra's published client and the agent make of each other."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import xo_client
from tests.integration.agent import Agent

SNAPSHOT = ["VM.snapshot begins", "VM.snapshot ends"]
CHECKPOINT = ["VM.checkpoint begins", "VM.checkpoint ends"]


class XoClientTests(SynchronousTestCase):
    """Each test drives XO's own code against an agent of its own."""

    def setUp(self) -> None:
        xo_client.install()
        self.journal = Path(self.mktemp()).resolve()

    def agent(self, options: str = "") -> Agent:
        """Start an agent whose one participant writes into the journal."""
        return Agent.for_test(
            self,
            options,
            "[command:journal]\n"
            f"freeze = sh -c 'echo freeze >> {self.journal}'\n"
            f"thaw = sh -c 'echo thaw >> {self.journal}'",
        )

    def journalled(self) -> list[str]:
        """Tell what the participant and the stand-in for XAPI did, in order."""
        return self.journal.read_text().splitlines()

    def without_query(self, tag: str) -> str:
        """Take the token out of a tag."""
        name, _, url = tag.partition("=")
        return f"{name}={urlsplit(url)._replace(query='').geturl()}"

    def test_today_with_the_tag(self) -> None:
        """Today's XO, which sends no header, gets a synced window by the tag from ``setup``."""
        agent = self.agent()

        events = xo_client.run(
            "VM_snapshot", tag=agent.tag, journal=self.journal, secret=agent.secret
        )

        self.assertEqual(events.answers, [("/sync", 200), ("/post-sync", 200)])
        self.assertEqual(events.of("warned"), [])
        self.assertEqual(self.journalled(), ["freeze", *SNAPSHOT, "thaw"])
        agent.wait_for_outcomes("synced")

    def test_without_credential(self) -> None:
        """An XO with neither header nor token hears 403 twice, and nothing is run."""
        agent = self.agent()

        events = xo_client.run(
            "VM_snapshot", tag=self.without_query(agent.tag), journal=self.journal
        )

        self.assertEqual(events.answers, [("/sync", 403), ("/post-sync", 403)])
        self.assertEqual(self.journalled(), SNAPSHOT)
        self.assertEqual(agent.outcomes, [])
        # XO takes the snapshot all the same, and says so in its own log alone.
        self.assertEqual(len(events.of("returned")), 1)
        self.assertEqual([line["error"] for line in events.of("warned")], ["403 Forbidden"] * 2)

    def test_mended_with_the_header(self) -> None:
        """An XO that sends its secret in the header gets a synced window without a token."""
        agent = self.agent()

        events = xo_client.run(
            "VM_snapshot",
            tag=self.without_query(agent.tag),
            journal=self.journal,
            secret=agent.secret,
            mended=True,
        )

        self.assertEqual(events.answers, [("/sync", 200), ("/post-sync", 200)])
        self.assertEqual(self.journalled(), ["freeze", *SNAPSHOT, "thaw"])
        agent.wait_for_outcomes("synced")

    def test_snapshot_fails(self) -> None:
        """After a snapshot that fails no ``/post-sync`` comes, and the hold limit thaws."""
        agent = self.agent("hold_limit = 1s")

        events = xo_client.run(
            "VM_snapshot",
            tag=agent.tag,
            journal=self.journal,
            failures={"VM.snapshot": "SR_BACKEND_FAILURE"},
        )

        self.assertEqual(events.answers, [("/sync", 200)])
        self.assertEqual([line["code"] for line in events.of("threw")], ["SR_BACKEND_FAILURE"])
        agent.wait_for_outcomes("expired")
        self.assertEqual(self.journalled(), ["freeze", *SNAPSHOT, "thaw"])

    def test_checkpoint(self) -> None:
        """A checkpoint, a snapshot with the VM's memory, gets a synced window too."""
        agent = self.agent()

        events = xo_client.run("VM_checkpoint", tag=agent.tag, journal=self.journal)

        self.assertEqual(events.answers, [("/sync", 200), ("/post-sync", 200)])
        self.assertEqual(self.journalled(), ["freeze", *CHECKPOINT, "thaw"])
        agent.wait_for_outcomes("synced")

    def test_checkpoint_falls_back(self) -> None:
        """A checkpoint that falls back to a snapshot owes two ``/post-sync`` and sends one.

        The snapshot is taken in the hold that the checkpoint began. The window ends at the limit,
        and not synced, because the second ``/post-sync`` might still have come from another job.
        """
        agent = self.agent("hold_limit = 5s")

        events = xo_client.run(
            "VM_checkpoint",
            tag=agent.tag,
            journal=self.journal,
            failures={"VM.checkpoint": "VM_BAD_POWER_STATE"},
        )

        self.assertEqual(events.answers, [("/sync", 200), ("/sync", 200), ("/post-sync", 200)])
        self.assertEqual(len(events.of("returned")), 1)
        agent.wait_for_outcomes("expired")
        self.assertEqual(self.journalled(), ["freeze", *CHECKPOINT, *SNAPSHOT, "thaw"])

    def test_one_connection(self) -> None:
        """``/post-sync`` comes on ``/sync``'s connection, however long the snapshot takes.

        XO's HTTP client drops a connection that was idle for 4 s unless the server offers more, so
        the snapshot here takes longer than that.
        """
        agent = self.agent()

        events = xo_client.run("VM_snapshot", tag=agent.tag, journal=self.journal, seconds=6)

        self.assertEqual(events.answers, [("/sync", 200), ("/post-sync", 200)])
        self.assertEqual(len(events.connections), 1)
        agent.wait_for_outcomes("synced")
