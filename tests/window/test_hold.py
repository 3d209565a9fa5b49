"""The state machine of windows: the hold, what it is owed, and rehearsals."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.window.driven_machine import BUDGET, LIMIT, Scene, holding


class OwedTests(SynchronousTestCase):
    """Each ``/sync`` that was answered 200 owes one ``/post-sync``."""

    def test_not_the_last(self) -> None:
        """One that is not the last is answered 200 at once and thaws nothing."""
        scene = holding("A", "B")
        scene.post_sync("P")
        self.assertEqual(scene.events(), ["P 200"])
        scene.post_sync("Q")
        scene.done()
        self.assertEqual(scene.events(), ["thaw synced", "closed synced", "Q 200"])

    def test_linger(self) -> None:
        """It leaves the hold a minute more, after which the window is expired."""
        scene = holding("A", "B")
        scene.post_sync("P")
        scene.wait(59.5)
        self.assertEqual(scene.events(), ["P 200"])
        scene.wait(0.5)
        scene.done()
        self.assertEqual(
            scene.events(),
            ["thaw expired", "closed expired; the hold ended with 1 /post-sync missing"],
        )
        self.assertEqual([late.answered for late in scene.debts()[1]], [True])

    def test_linger_lengthens_nothing(self) -> None:
        """It leaves the hold no more than it had."""
        scene = holding("A", "B")
        scene.wait(LIMIT - 10)
        scene.post_sync("P")
        scene.wait(10)
        self.assertEqual(scene.events(), ["P 200", "thaw expired"])

    def test_limit(self) -> None:
        """A hold without ``/post-sync`` ends at the limit; the one that comes then hears 500."""
        scene = holding("A")
        scene.wait(LIMIT - 0.5)
        self.assertEqual(scene.events(), [])
        scene.wait(0.5)
        scene.done()
        scene.post_sync("P")
        scene.post_sync("Q")
        self.assertEqual(
            scene.events(),
            [
                "thaw expired",
                "closed expired; the hold ended with 1 /post-sync missing",
                "P 500",
                "Q 200",
            ],
        )
        self.assertEqual(scene.answers["P"].state, "ended")
        self.assertEqual(
            scene.answers["P"].lines, ("window w1 had ended before: do not trust this snapshot",)
        )

    def test_let_go(self) -> None:
        """A participant that lets go of itself breaks the window."""
        scene = holding("A")
        scene.machine.let_go("p: ended")
        scene.done()
        scene.post_sync("P")
        self.assertEqual(scene.events(), ["thaw broken", "closed broken; p: ended", "P 500"])

    def test_closed_after_the_answer(self) -> None:
        """A connection that closes after its answer changes nothing."""
        scene = holding("A")
        scene.gone("A")
        self.assertEqual((scene.events(), scene.debts()), ([], (1, ())))


class RehearsalTests(SynchronousTestCase):
    """A window with no snapshot."""

    def rehearsing(self, hold: float = 5.0) -> Scene:
        """Make a scene in which a rehearsal holds."""
        scene = Scene()
        scene.rehearse("R", hold)
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1"])
        return scene

    def test_rehearsed(self) -> None:
        """It holds as long as was asked for and answers at its end."""
        scene = self.rehearsing()
        scene.wait(5)
        scene.done()
        self.assertEqual(scene.events(), ["thaw rehearsed", "closed rehearsed", "R 200"])

    def test_thaw_fails(self) -> None:
        """A thaw that fails spoils it."""
        scene = self.rehearsing()
        scene.wait(5)
        scene.done("p: no")
        self.assertEqual(scene.events(), ["thaw rehearsed", "closed failed; p: no", "R 500"])

    def test_limit(self) -> None:
        """It holds no longer than the hold limit, whatever was asked for."""
        scene = self.rehearsing(hold=10 * LIMIT)
        scene.wait(LIMIT)
        self.assertEqual(scene.events(), ["thaw rehearsed"])

    def test_freeze_fails(self) -> None:
        """A freeze that fails ends it."""
        scene = Scene()
        scene.rehearse("R", 5)
        scene.done("p: broken")
        scene.done()
        self.assertEqual(
            scene.events(), ["freeze w1", "thaw failed", "closed failed; p: broken", "R 500"]
        )
        self.assertEqual(scene.debts(), (0, ()))

    def test_budget(self) -> None:
        """The freeze budget bounds its freeze as any other."""
        scene = Scene()
        scene.rehearse("R", 5)
        scene.wait(BUDGET)
        self.assertEqual(scene.events(), ["freeze w1", "cancel freeze", "thaw failed"])
        scene.done()
        self.assertEqual(scene.answers["R"].status, 500)

    def test_budget_is_for_the_freeze(self) -> None:
        """Its hold and its thaw may outlast the freeze budget."""
        scene = self.rehearsing(hold=2 * BUDGET)
        scene.wait(2 * BUDGET)
        scene.wait(BUDGET)
        scene.done()
        self.assertEqual(scene.events(), ["thaw rehearsed", "closed rehearsed", "R 200"])

    def test_busy(self) -> None:
        """None begins while a window is open."""
        scene = holding("A")
        scene.rehearse("R", 5)
        self.assertEqual(scene.events(), ["R 503"])

    def test_leaves(self) -> None:
        """Who rehearses and goes away ends it."""
        scene = self.rehearsing()
        scene.gone("R")
        scene.done()
        self.assertEqual(
            scene.events(), ["thaw cancelled", "closed cancelled; who rehearsed went away"]
        )
        self.assertEqual(scene.debts(), (0, ()))

    def test_leaves_the_freeze(self) -> None:
        """Who goes away during its freeze cancels it."""
        scene = Scene()
        scene.rehearse("R", 5)
        scene.gone("R")
        self.assertEqual(scene.events(), ["freeze w1", "cancel freeze", "thaw cancelled"])

    def test_post_sync(self) -> None:
        """A ``/post-sync`` during it is answered 200 and leaves it alone."""
        scene = self.rehearsing()
        scene.post_sync("P")
        self.assertEqual(scene.events(), ["P 200"])

    def test_taken_over(self) -> None:
        """A ``/sync`` takes the window over: it holds until its ``/post-sync``."""
        scene = self.rehearsing()
        scene.sync("A")
        scene.done()
        scene.wait(LIMIT / 2)
        scene.post_sync("P")
        scene.done()
        self.assertEqual(
            scene.events(),
            ["flush w1", "A 200", "thaw synced", "closed synced", "P 200", "R 200"],
        )

    def test_taken_over_in_its_freeze(self) -> None:
        """A ``/sync`` takes it over during its freeze too, and its requester may go."""
        scene = Scene()
        scene.rehearse("R", 5)
        scene.sync("A")
        scene.gone("R")
        scene.done()
        scene.wait(LIMIT - 1)
        self.assertEqual(scene.events(), ["freeze w1", "A 200"])
        scene.post_sync("P")
        scene.done()
        self.assertEqual(scene.events(), ["thaw synced", "closed synced", "P 200"])

    def test_taken_over_and_left(self) -> None:
        """Who rehearsed may go once the window is another's."""
        scene = self.rehearsing()
        scene.sync("A")
        scene.gone("R")
        scene.done()
        self.assertEqual(scene.events(), ["flush w1", "A 200"])

    def test_taken_over_in_vain(self) -> None:
        """It ends where who took it over could not be served."""
        scene = self.rehearsing()
        scene.sync("A")
        scene.done("p: broken")
        scene.done()
        self.assertEqual(
            scene.events(),
            [
                "flush w1",
                "A 500",
                "thaw failed",
                "closed failed; who joined the rehearsal could not be served",
                "R 500",
            ],
        )

    def test_taken_over_again_and_again(self) -> None:
        """It holds no longer than the limit from the first that took it over, if none is served."""
        scene = self.rehearsing()
        scene.sync("A0")
        for each in range(int(LIMIT / 40)):
            scene.wait(40)
            scene.sync(f"A{each + 1}")
            scene.gone(f"A{each}")
        self.assertEqual(
            [event for event in scene.events() if event.startswith("thaw")], ["thaw expired"]
        )
