"""The state machine of windows: how they open, freeze and thaw."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.window.driven_machine import BUDGET, Scene
from xohook.window.late_post_syncs import LatePostSync


class WindowTests(SynchronousTestCase):
    """A whole window with one requester."""

    def test_synced(self) -> None:
        """A freeze in time, an answer, a ``/post-sync`` and a thaw make a synced window."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.wait(10)
        scene.post_sync("P")
        scene.done()
        self.assertEqual(
            scene.events(), ["freeze w1", "A 200", "thaw synced", "closed synced", "P 200"]
        )
        self.assertEqual(scene.debts(), (0, ()))

    def test_answers(self) -> None:
        """The answers name the window, its state, and how long its hold may last."""
        scene = Scene(at_once=True)
        scene.sync("A")
        scene.post_sync("P")
        admitted, ended = scene.answers["A"], scene.answers["P"]
        self.assertEqual((admitted.window, admitted.state, admitted.hold), ("w1", "holding", 120))
        self.assertEqual((ended.window, ended.state, ended.hold), ("w1", "synced", None))

    def test_nothing_to_wait_for(self) -> None:
        """Work that is done before its call returns makes no difference."""
        scene = Scene(at_once=True)
        for window in ("w1", "w2"):
            scene.sync(f"A-{window}")
            scene.post_sync(f"P-{window}")
            self.assertEqual(
                scene.events(),
                [
                    f"freeze {window}",
                    f"A-{window} 200",
                    "thaw synced",
                    "closed synced",
                    f"P-{window} 200",
                ],
            )

    def test_thaw_fails(self) -> None:
        """A thaw that fails makes the window failed, and its ``/post-sync`` hears so."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.post_sync("P")
        scene.done("p: not thawed: no")
        self.assertEqual(
            scene.events(),
            ["freeze w1", "A 200", "thaw synced", "closed failed; p: not thawed: no", "P 500"],
        )
        self.assertEqual(scene.answers["P"].lines, ("p: not thawed: no",))

    def test_nothing_expected(self) -> None:
        """A ``/post-sync`` that nobody expects is answered 200, and nothing is done."""
        scene = Scene()
        scene.post_sync("P")
        self.assertEqual(scene.events(), ["P 200"])


class FreezeTests(SynchronousTestCase):
    """What can happen while a window freezes."""

    def test_shared(self) -> None:
        """A second ``/sync`` shares the freeze and its answer, and each owes a ``/post-sync``."""
        scene = Scene()
        scene.sync("A")
        scene.sync("B")
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "A 200", "B 200"])
        self.assertEqual(scene.debts(), (2, ()))

    def test_participant_fails(self) -> None:
        """A freeze that fails is undone before its requesters hear 500, a line each."""
        scene = Scene()
        scene.sync("A")
        scene.sync("B")
        scene.done("p: broken", "q: broken")
        self.assertEqual(scene.events(), ["freeze w1", "thaw failed"])
        scene.done()
        self.assertEqual(scene.events(), ["closed failed; p: broken; q: broken", "A 500", "B 500"])
        self.assertEqual(scene.answers["A"].lines, ("p: broken", "q: broken"))
        self.assertEqual([late.answered for late in scene.debts()[1]], [False, False])

    def test_slow_undoing(self) -> None:
        """The failed freeze is answered when the budget is used up, even if the thaw takes longer.

        A requester that shared it hears the same answer at the same time.
        """
        scene = Scene()
        scene.sync("A")
        scene.wait(20)
        scene.sync("B")
        scene.done("p: broken")
        scene.wait(BUDGET - 20)
        self.assertEqual(scene.events(), ["freeze w1", "thaw failed", "A 500", "B 500"])
        self.assertEqual(scene.answers["B"].lines, ("p: broken",))
        scene.done()
        self.assertEqual(scene.events(), ["closed failed; p: broken"])
        self.assertEqual(len(scene.debts()[1]), 2)

    def test_budget(self) -> None:
        """A freeze still under way when the budget is used up is broken off and answered 500."""
        scene = Scene()
        scene.sync("A")
        scene.wait(30)
        scene.sync("B")
        scene.wait(BUDGET - 30 - 0.5)
        self.assertEqual(scene.events(), ["freeze w1"])
        scene.wait(0.5)
        line = "p: not frozen: the freeze budget is used up"
        self.assertEqual(scene.events(), ["cancel freeze", "thaw failed", "A 500", "B 500"])
        self.assertEqual((scene.answers["B"].state, scene.answers["B"].lines), ("thawing", (line,)))
        scene.done()
        self.assertEqual(scene.events(), [f"closed failed; {line}"])

    def test_requester_leaves(self) -> None:
        """The only requester's close cancels the freeze; its ``/post-sync`` is expected still."""
        scene = Scene()
        scene.sync("A")
        scene.gone("A")
        scene.done()
        why = "the requester closed its connection"
        self.assertEqual(
            scene.events(),
            [
                "freeze w1",
                "cancel freeze",
                "thaw cancelled",
                f"closed cancelled; {why}; p: not frozen: {why}",
            ],
        )
        self.assertEqual([late.answered for late in scene.debts()[1]], [False])

    def test_one_of_two_leaves(self) -> None:
        """One requester's close cancels nothing while another waits."""
        scene = Scene()
        scene.sync("A")
        scene.sync("B")
        scene.gone("A")
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "B 200"])
        self.assertEqual(len(scene.debts()[1]), 1)

    def test_stranger_leaves(self) -> None:
        """The close of one that waits for nothing changes nothing."""
        scene = Scene()
        scene.sync("A")
        scene.post_sync("P")
        scene.gone("P")
        self.assertEqual(scene.events(), ["freeze w1", "P 200"])
        self.assertEqual(scene.debts(), (0, ()))

    def test_let_go(self) -> None:
        """A participant that lets go of itself during the freeze breaks the window."""
        scene = Scene()
        scene.sync("A")
        scene.machine.let_go("p: ended")
        scene.done()
        self.assertEqual(
            scene.events(),
            ["freeze w1", "cancel freeze", "thaw broken", "closed broken; p: ended", "A 500"],
        )

    def test_post_sync(self) -> None:
        """A ``/post-sync`` that none is expected of is answered 200 and leaves the freeze alone."""
        scene = Scene()
        scene.sync("A")
        scene.post_sync("P")
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "P 200", "A 200"])

    def test_late_post_sync(self) -> None:
        """While an unmatched one is expected it is that one's, and leaves the freeze alone."""
        scene = Scene(late_post_syncs=(LatePostSync("w0", True, 600.0),))
        scene.sync("A")
        scene.post_sync("P")
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "P 500", "A 200"])
        self.assertEqual(scene.debts(), (1, ()))


class ThawTests(SynchronousTestCase):
    """What can happen while a window thaws."""

    def thawing(self) -> Scene:
        """Make a scene in which a synced window thaws."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.post_sync("P")
        scene.events()
        return scene

    def test_sync_waits(self) -> None:
        """Each ``/sync`` waits for the thaw; the first opens the next window, the others share it.

        Who closes its connection meanwhile waits no more, and its ``/post-sync`` is expected.
        """
        scene = self.thawing()
        for name in ("B", "C", "D"):
            scene.sync(name)
        scene.gone("C")
        scene.done()
        self.assertEqual(scene.events(), ["closed synced", "P 200", "freeze w2"])
        scene.done()
        self.assertEqual(scene.events(), ["B 200", "D 200"])
        self.assertEqual(len(scene.debts()[1]), 1)

    def test_budget_of_who_waits(self) -> None:
        """The budget counts from the arrival, through the thaw waited for."""
        scene = self.thawing()
        scene.sync("B")
        scene.wait(10)
        scene.sync("C")
        scene.wait(BUDGET - 10)
        self.assertEqual(scene.events(), ["B 500"])
        self.assertEqual(scene.answers["B"].lines, ("the window before it was not thawed in time",))
        scene.done()
        scene.events()
        scene.wait(10)
        self.assertEqual(scene.events(), ["cancel freeze", "thaw failed", "C 500"])

    def test_post_sync_waits(self) -> None:
        """A ``/post-sync`` waits for the thaw and is then judged by what is expected."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.machine.let_go("p: ended")
        scene.post_sync("P")
        scene.post_sync("Q")
        scene.done()
        self.assertEqual(
            scene.events(),
            ["freeze w1", "A 200", "thaw broken", "closed broken; p: ended", "P 500", "Q 200"],
        )
        self.assertEqual(scene.debts(), (0, ()))

    def test_post_sync_of_a_failed_window(self) -> None:
        """XO's ``/post-sync`` after a ``/sync`` that failed is answered 200 after the thaw."""
        scene = Scene()
        scene.sync("A")
        scene.wait(BUDGET)
        scene.post_sync("P")
        scene.done()
        self.assertEqual(scene.events()[-1], "P 200")

    def test_let_go(self) -> None:
        """What lets go of itself while it is thawed spoils nothing any more."""
        scene = self.thawing()
        scene.machine.let_go("p: ended")
        scene.done()
        self.assertEqual(scene.events(), ["closed synced", "P 200"])

    def test_requester_leaves(self) -> None:
        """The close of who waits for its ``/post-sync``'s answer changes nothing."""
        scene = self.thawing()
        scene.gone("P")
        scene.done()
        self.assertEqual(scene.events()[0], "closed synced")

    def test_late_post_sync_of_an_undoing(self) -> None:
        """One that closes while its failed freeze is undone leaves its ``/post-sync`` expected."""
        scene = Scene()
        scene.sync("A")
        scene.done("p: broken")
        scene.gone("A")
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "thaw failed", "closed failed; p: broken"])
        self.assertEqual(len(scene.debts()[1]), 1)
