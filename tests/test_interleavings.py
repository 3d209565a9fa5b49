"""What the soak draws from a seed, and what it allows the agent to answer."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from soak.interleavings import addresses
from soak.scenario import ACTS, MOST_EVENTS, draw
from soak.verdict import Break, Deaths, judge_answers, judge_delays, judge_journal, outcomes

WINDOW = "20260301T020000Z-4f1c02"


@attrs.frozen(kw_only=True)
class Request:
    """A request that is over."""

    path: str = "/sync"
    status: int | None = 200
    state: str = "holding"
    window: str | None = WINDOW
    sent: float = 0.0
    over: float | None = 1.0


def post_sync(**changes: Any) -> Request:
    """Make a ``/post-sync`` that ends the window well, but for what is given."""
    return Request(**{"path": "/post-sync", "state": "synced", "sent": 2.0, "over": 3.0, **changes})


class DrawTests(SynchronousTestCase):
    """A scenario."""

    def test_repeated(self) -> None:
        """The same seed and step give the same, and others give others."""
        self.assertEqual(draw("a", 1), draw("a", 1))
        self.assertNotEqual(draw("a", 1), draw("a", 2))
        self.assertNotEqual(draw("a", 1), draw("b", 1))

    def test_all(self) -> None:
        """Every act comes, and no step is longer than it may be."""
        scenarios = [draw("a", number) for number in range(2000)]
        acts = {event.act for scenario in scenarios for event in scenario.events}
        self.assertEqual(acts, {*ACTS, "continue", "start agent"})
        self.assertLessEqual(max(len(each.events) for each in scenarios), MOST_EVENTS)

    def test_addresses(self) -> None:
        """No two steps of a soak have an address in common."""
        found = [each for number in range(20_000) for each in addresses(number)]
        self.assertEqual(len(set(found)), len(found))


class VerdictTests(SynchronousTestCase):
    """What may be answered."""

    def mistakes(
        self, *requests: Request, broken: float | None = None, outcome: str = "synced"
    ) -> list[str]:
        """Judge requests; the hold was broken at that time."""
        breaks = [Break("guard killed", broken, broken)] if broken is not None else []
        every: Any = requests
        return list(judge_answers(every, breaks, {WINDOW: outcome}, has_failed=False))

    def test_good(self) -> None:
        """A window that nothing broke may be synced."""
        self.assertEqual(self.mistakes(Request(), post_sync()), [])

    def test_broken(self) -> None:
        """One that was broken before its ``/post-sync`` was sent may not, and after it may."""
        [mistake] = self.mistakes(Request(), post_sync(), broken=1.5)
        self.assertIn("broken before its last /post-sync was sent: guard killed", mistake)
        self.assertEqual(self.mistakes(Request(), post_sync(), broken=2.5), [])

    def test_broken_between(self) -> None:
        """Nor one that was broken between two ``/post-sync`` that it was owed."""
        first = post_sync(state="holding")
        second = post_sync(sent=4.0, over=5.0)
        self.assertEqual(len(self.mistakes(Request(), Request(), first, second, broken=3.5)), 1)

    def test_bad(self) -> None:
        """A window that ended badly is not answered 200."""
        bad = post_sync(state="broken")
        self.assertNotEqual(self.mistakes(Request(), bad, outcome="broken"), [])
        late = post_sync(state="ended")
        self.assertNotEqual(self.mistakes(Request(), late, outcome="broken"), [])
        refused = post_sync(state="broken", status=500)
        self.assertEqual(self.mistakes(Request(), refused, outcome="broken"), [])

    def test_log(self) -> None:
        """Answer and log say the same."""
        refused = post_sync(state="broken", status=500)
        self.assertNotEqual(self.mistakes(Request(), refused, outcome="failed"), [])

    def test_delay(self) -> None:
        """No answer comes late, or never."""
        every: Any = [Request(), Request(over=20.0), Request(over=None)]
        self.assertEqual(len(list(judge_delays(every, 10.0))), 2)

    def test_journal(self) -> None:
        """Whatever is frozen is thawed once after that, and again only where the agent died."""
        good = ["pair freeze w", "pair thaw w"]
        self.assertEqual(list(judge_journal(good, "", Deaths())), [])
        self.assertNotEqual(list(judge_journal(good[:1], "", Deaths(agent=True))), [])
        twice = [*good, good[1]]
        self.assertNotEqual(list(judge_journal(twice, "", Deaths())), [])
        self.assertEqual(list(judge_journal(twice, "", Deaths(agent=True))), [])

    def test_journal_of_app(self) -> None:
        """An app has no thaw where it has died itself, and only there."""
        frozen = ["app freeze w"]
        self.assertEqual(list(judge_journal(frozen, "", Deaths(app=True))), [])
        self.assertNotEqual(list(judge_journal(frozen, "", Deaths(agent=True))), [])

    def test_journal_of_late_thaw(self) -> None:
        """A thaw that does not know its window counts for the one in which its freeze ran."""
        lines = ["pair freeze w", "pair thaw"]
        self.assertEqual(list(judge_journal(lines, "", Deaths())), [])
        self.assertNotEqual(list(judge_journal([*lines[:1], "one thaw"], "", Deaths())), [])

    def test_journal_of_failed_thaw(self) -> None:
        """A thaw that ran and failed is not owed any more; one that could not be run is."""
        frozen = ["one freeze w", "two freeze w"]

        def mistakes(problem: str) -> int:
            source = "xohook.coordinator.participant_runs#error"
            log = f"… [{source}] window w: scripts:both NOT THAWED: {problem}\n"
            return len(list(judge_journal(frozen, log, Deaths())))

        self.assertEqual(mistakes("two: exit status 127: sh; one: ended by SIGKILL"), 0)
        self.assertEqual(mistakes("two: exit status 127; one: no process can be started: …"), 1)
        self.assertEqual(mistakes("no process can be started: …"), 2)
        self.assertEqual(mistakes("not done within 5s, and told to end"), 0)

    def test_outcomes(self) -> None:
        """The log's last word on a window counts."""
        log = f"… window {WINDOW} opened by 127.0.0.1\n… window {WINDOW} synced\n"
        self.assertEqual(outcomes(log), {WINDOW: "synced"})
