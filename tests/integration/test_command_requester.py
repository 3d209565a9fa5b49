"""Command participants in real windows: what the requester of the window decides."""

from __future__ import annotations

from tests.integration.agent import eventually
from tests.integration.command_case import WindowTestCase
from tests.integration.footprint import children


class RequesterTests(WindowTestCase):
    """Who asks for a window decides how long it freezes, and what becomes of it."""

    def test_budget(self) -> None:
        """/sync is answered 500 at the budget, and what was frozen is thawed."""
        agent = self.agent_with(
            self.programs.command("quick", order=10),
            self.programs.command("slow", "exec sleep 1000", order=20),
            options="freeze_budget = 700ms",
        )
        lines = self.refused(agent)
        self.assertEqual(lines, ["command:slow: not frozen: the freeze budget is used up"])
        agent.wait_for_outcomes("failed")
        self.assertEqual(self.programs.journal[2:], ["thaw slow failed", "thaw quick failed"])

    def test_closed(self) -> None:
        """A requester that closes during the freeze cancels it: SIGTERM to all, and a thaw."""
        freeze = 'trap "note terminated; exit" TERM; sleep 1000 & note ready; wait'
        agent = self.agent_with(self.programs.command("a", freeze))
        connection = self.start(agent)
        self.programs.wait_for("ready")
        connection.close()
        agent.wait_for_outcomes("cancelled")
        self.assertEqual(
            self.programs.journal, ["freeze a", "ready", "terminated", "thaw a cancelled"]
        )
        eventually(lambda: not children(agent.pid), "no child is left")

    def test_one_of_two_closes(self) -> None:
        """While somebody else waits, the freeze goes on."""
        agent = self.agent_with(self.programs.command("a", "stay a"))
        first, second = self.start(agent), self.start(agent)
        agent.wait_for_log("shares the freeze")
        first.reset()
        # The agent notices a close no later than what comes on a connection after it.
        self.assertEqual(agent.get("/nothing").status, 404)
        self.programs.let_on("a")
        self.assertEqual(second.answer().status, 200)

    def test_expired(self) -> None:
        """Without /post-sync the hold ends at its limit; one that comes later hears 500."""
        agent = self.agent_with(self.programs.command("a"), options="hold_limit = 1s")
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_outcomes("expired")
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a expired"])
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_shared(self) -> None:
        """Two that freeze together: one freeze, two answers, and only the second ends the hold."""
        agent = self.agent_with(self.programs.command("a", "stay a"))
        both = [self.start(agent), self.start(agent)]
        agent.wait_for_log("shares the freeze")
        self.programs.let_on("a")
        self.assertEqual([each.answer().status for each in both], [200, 200])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "at a"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced")
        self.assertEqual(self.programs.journal[2:], ["thaw a synced"])

    def test_joined(self) -> None:
        """One that joins a hold has what only flushes run again, and nothing else."""
        agent = self.agent_with(
            self.programs.command("flush", thaw=None), self.programs.command("hold")
        )
        statuses = [agent.get("/sync").status, agent.get("/sync").status]
        self.assertEqual(statuses, [200, 200])
        self.assertEqual(sorted(self.programs.journal[:2]), ["freeze flush", "freeze hold"])
        self.assertEqual(self.programs.journal[2:], ["freeze flush"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(agent.outcomes, [])
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced")

    def test_ambiguous(self) -> None:
        """A /post-sync that may be an earlier window's ends the hold, and nobody trusts it."""
        agent = self.agent_with(self.programs.command("a"), options="hold_limit = 1s")
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_outcomes("expired")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 500)
        agent.wait_for_outcomes("expired", "ambiguous")
        self.assertEqual(self.programs.journal[-1], "thaw a ambiguous")

    def test_after_the_cancelled(self) -> None:
        """What was cancelled has gone before the next window's freeze begins."""
        freeze = 'trap "stay leaving; note has left; exit" TERM; note ready; sleep 1000 & wait'
        agent = self.agent_with(self.programs.command("a", freeze, thaw=None))
        first = self.start(agent)
        self.programs.wait_for("ready")
        first.close()
        self.programs.wait_for("at leaving")
        second = self.start(agent)
        agent.wait_for_log("opened by", count=2)
        self.assertEqual(self.programs.journal.count("freeze a"), 1)
        self.programs.let_on("leaving")
        eventually(lambda: self.programs.journal.count("freeze a") == 2, "it freezes again")
        self.assertLess(
            self.programs.journal.index("has left"),
            len(self.programs.journal) - 1 - self.programs.journal[::-1].index("freeze a"),
        )
        second.close()
        self.programs.let_on("leaving")
