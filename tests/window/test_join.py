"""The state machine of windows: who joins a hold."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.window.driven_machine import BUDGET, LIMIT, Scene, holding


class JoinTests(SynchronousTestCase):
    """A ``/sync`` that comes during a hold."""

    def test_joins(self) -> None:
        """It is answered 200 after a flush of its own and owes a ``/post-sync``."""
        scene = holding("A")
        scene.sync("B")
        self.assertEqual(scene.events(), ["flush w1"])
        scene.done()
        self.assertEqual((scene.events(), scene.debts()), (["B 200"], (2, ())))

    def test_limit_counts_from_the_last_answer(self) -> None:
        """The hold lasts for its limit from the last answer."""
        scene = holding("A")
        scene.wait(LIMIT - 1)
        scene.sync("B")
        scene.done()
        scene.wait(LIMIT - 0.5)
        self.assertEqual(scene.events(), ["flush w1", "B 200"])
        scene.wait(0.5)
        self.assertEqual(scene.events(), ["thaw expired"])

    def test_never_more_than_twice(self) -> None:
        """No hold outlasts twice its limit from its first answer; who comes too late waits."""
        scene = holding("A")
        scene.wait(LIMIT - 1)
        scene.sync("B")
        scene.done()
        scene.wait(LIMIT / 2)
        scene.sync("C")
        scene.done()
        self.assertEqual(scene.events(), ["flush w1", "B 200", "flush w1", "C 200"])
        scene.wait(2)
        scene.sync("D")
        self.assertEqual(scene.events(), [])
        scene.wait(LIMIT / 2 - 1 - 0.5)
        self.assertEqual(scene.events(), ["D 500"])
        scene.wait(0.5)
        self.assertEqual(scene.events(), ["thaw expired"])

    def test_too_late(self) -> None:
        """Who comes too late opens a window of its own after the thaw."""
        scene = holding("A")
        scene.wait(LIMIT - 1)
        scene.sync("B")
        scene.done()
        scene.wait(LIMIT / 2 + 2)
        scene.sync("C")
        scene.events()
        scene.post_sync("P")
        scene.post_sync("Q")
        scene.done()
        self.assertEqual(
            scene.events(), ["P 200", "thaw synced", "closed synced", "Q 200", "freeze w2"]
        )

    def test_too_late_for_its_budget(self) -> None:
        """Who comes too late is answered when its budget is used up."""
        scene = Scene()
        scene.context.limits.hold_limit = 400.0
        scene.sync("A")
        scene.done()
        scene.wait(399)
        scene.sync("B")
        scene.done()
        scene.wait(300)
        scene.events()
        scene.sync("C")
        scene.wait(BUDGET)
        self.assertEqual(scene.events(), ["C 500"])
        self.assertEqual(len(scene.debts()[1]), 1)

    def test_one_flush_at_a_time(self) -> None:
        """Those who come during a flush share the next one, whose beginning they have seen."""
        scene = holding("A")
        for name in ("B", "C", "D"):
            scene.sync(name)
        scene.done()
        self.assertEqual(scene.events(), ["flush w1", "flush w1", "B 200"])
        scene.done()
        self.assertEqual(scene.events(), ["C 200", "D 200"])

    def test_flush_fails(self) -> None:
        """A flush that fails is told to who asked for it; the hold goes on for the others."""
        scene = holding("A")
        scene.sync("B")
        scene.done("p: broken")
        self.assertEqual(scene.events(), ["flush w1", "B 500"])
        self.assertEqual(scene.answers["B"].lines, ("p: broken",))
        self.assertEqual((scene.debts()[0], len(scene.debts()[1])), (1, 1))

    def test_post_sync_meanwhile(self) -> None:
        """The last ``/post-sync`` owed does not end a hold that somebody is joining."""
        scene = holding("A")
        scene.sync("B")
        scene.post_sync("P")
        scene.post_sync("Q")
        self.assertEqual(scene.events(), ["flush w1", "P 200", "Q 200"])
        scene.done()
        scene.post_sync("R")
        self.assertEqual(scene.events(), ["B 200", "thaw synced"])

    def test_nobody_left(self) -> None:
        """When all have come and the one that was joining is not served, the window is synced."""
        scene = holding("A")
        scene.sync("B")
        scene.post_sync("P")
        scene.done("p: broken")
        scene.done()
        self.assertEqual(
            scene.events(), ["flush w1", "P 200", "B 500", "thaw synced", "closed synced"]
        )

    def test_leaves(self) -> None:
        """One that closes while its flush runs cancels it, and the next flush begins."""
        scene = holding("A")
        scene.sync("B")
        scene.sync("C")
        scene.gone("B")
        self.assertEqual(scene.events(), ["flush w1", "cancel flush", "flush w1"])
        scene.done()
        self.assertEqual(scene.events(), ["C 200"])

    def test_one_of_two_leaves(self) -> None:
        """One that closes leaves the flush to those who share it, and to those before it."""
        scene = holding("A")
        for name in ("B", "C", "D"):
            scene.sync(name)
        scene.gone("C")
        scene.done()
        scene.done()
        self.assertEqual(scene.events(), ["flush w1", "flush w1", "B 200", "D 200"])

    def test_one_of_two_sharers_leaves(self) -> None:
        """A flush goes on while somebody waits for it."""
        scene = holding("A")
        for name in ("B", "C", "D"):
            scene.sync(name)
        scene.done()
        scene.gone("C")
        scene.done()
        self.assertEqual(scene.events(), ["flush w1", "flush w1", "B 200", "D 200"])

    def test_budget(self) -> None:
        """One whose flush takes too long is answered when its budget is used up."""
        scene = holding("A")
        scene.sync("B")
        scene.wait(BUDGET)
        self.assertEqual(scene.events(), ["flush w1", "cancel flush", "B 500"])
        self.assertEqual(scene.answers["B"].lines, ("the freeze budget is used up",))

    def test_budget_while_it_waits_for_its_flush(self) -> None:
        """One that still waits for its flush leaves the other's alone."""
        scene = holding("A")
        scene.sync("B")
        scene.wait(1)
        scene.sync("C")
        scene.wait(BUDGET - 1)
        self.assertEqual(scene.events(), ["flush w1", "cancel flush", "flush w1", "B 500"])
        scene.wait(1)
        self.assertEqual(scene.events(), ["cancel flush", "C 500"])

    def test_hold_ends_before_the_flush(self) -> None:
        """When the hold ends during a flush, who waited for it gets a window of its own."""
        scene = holding("A")
        scene.wait(LIMIT - 1)
        scene.sync("B")
        scene.sync("C")
        scene.wait(1)
        self.assertEqual(scene.events(), ["flush w1", "cancel flush", "thaw expired"])
        scene.done()
        self.assertEqual(scene.events()[1:], ["freeze w2"])
        scene.done()
        self.assertEqual(scene.events(), ["B 200", "C 200"])

    def test_all_came_before_the_limit(self) -> None:
        """A limit that passes during a flush spoils no window that got every ``/post-sync``."""
        scene = holding("A")
        scene.wait(LIMIT - 1)
        scene.sync("B")
        scene.post_sync("P")
        scene.wait(1)
        scene.done()
        self.assertEqual(
            scene.events(),
            ["flush w1", "P 200", "cancel flush", "thaw synced", "closed synced", "freeze w2"],
        )

    def test_let_go(self) -> None:
        """A window that breaks during a flush leaves who joined it a window of its own."""
        scene = holding("A")
        scene.sync("B")
        scene.machine.let_go("p: ended")
        scene.done()
        self.assertEqual(
            scene.events(),
            ["flush w1", "cancel flush", "thaw broken", "closed broken; p: ended", "freeze w2"],
        )

    def test_stop(self) -> None:
        """Who was joining when the agent ends is refused, and its ``/post-sync`` expected."""
        scene = holding("A")
        scene.sync("B")
        scene.machine.stop()
        scene.done()
        self.assertEqual(scene.events()[-2:], ["B 503", "stopped"])
        self.assertEqual([each.answered for each in scene.debts()[1]], [True, False])
        self.assertEqual([each.window for each in scene.debts()[1]], ["w1", "w1"])

    def test_returning(self) -> None:
        """A joiner that comes back at once finds the hold as its answer left it."""
        scene = Scene(at_once=True)
        scene.sync("A")
        scene.then["B"] = lambda: scene.post_sync("P")
        scene.then["P"] = lambda: scene.post_sync("Q")
        scene.sync("B")
        self.assertEqual(
            scene.events()[2:],
            ["flush w1", "B 200", "P 200", "thaw synced", "closed synced", "Q 200"],
        )
