"""The state machine of windows: the agent's end, requesters that come back, and any state."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.window.driven_machine import BUDGET, Scene, holding


class StopTests(SynchronousTestCase):
    """The end of the agent, in every state."""

    def test_idle(self) -> None:
        """With no window open it is there at once, and everything is refused from then on."""
        scene = Scene()
        scene.machine.stop()
        scene.sync("A")
        scene.post_sync("P")
        scene.rehearse("R", 5)
        self.assertEqual(scene.events(), ["stopped", "A 503", "P 503", "R 503"])
        self.assertEqual(scene.debts(), (0, ()))

    def test_sync_is_expected(self) -> None:
        """A ``/sync`` that was refused leaves its ``/post-sync`` to the next start."""
        scene = Scene()
        scene.machine.stop()
        scene.sync("A")
        self.assertEqual([late.answered for late in scene.effects.saved()[1]], [False])

    def test_freezing(self) -> None:
        """A freeze is broken off and undone; who waited for it hears 503."""
        scene = Scene()
        scene.sync("A")
        scene.machine.stop()
        scene.machine.stop()
        scene.machine.let_go("p: ended")
        scene.sync("B")
        scene.done()
        why = "the agent is shutting down"
        self.assertEqual(
            scene.events(),
            [
                "freeze w1",
                "cancel freeze",
                "thaw stopped",
                "B 503",
                f"closed stopped; {why}; p: not frozen: {why}",
                "A 503",
                "stopped",
            ],
        )
        self.assertEqual(len(scene.debts()[1]), 2)

    def test_holding(self) -> None:
        """A hold is thawed, and the record keeps for the next start what it is owed."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.machine.stop()
        self.assertEqual([late.answered for late in scene.effects.saved()[1]], [True])
        scene.done()
        self.assertEqual(
            scene.events(),
            [
                "freeze w1",
                "A 200",
                "thaw stopped",
                "closed stopped; the agent is shutting down",
                "stopped",
            ],
        )

    def test_post_sync_meanwhile(self) -> None:
        """A ``/post-sync`` that comes during the last thaw is refused, and expected no more."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.machine.stop()
        scene.events()
        scene.post_sync("P")
        self.assertEqual(scene.events(), ["P 503"])
        self.assertEqual(scene.debts(), (0, ()))

    def test_thawing(self) -> None:
        """A thaw goes on; who waited for it is refused before the end is told."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.machine.let_go("p: ended")
        scene.events()
        scene.post_sync("P")
        scene.sync("B")
        scene.machine.stop()
        scene.done()
        self.assertEqual(scene.events(), ["P 503", "closed broken; p: ended", "B 503", "stopped"])
        # A's has come; B's is still expected.
        self.assertEqual([late.answered for late in scene.debts()[1]], [False])

    def test_good_end(self) -> None:
        """A window that was synced before the stop stays so."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.post_sync("P")
        scene.machine.stop()
        scene.done()
        self.assertEqual(scene.events()[2:], ["thaw synced", "closed synced", "P 200", "stopped"])

    def test_budget(self) -> None:
        """Whoever waits through the last thaw is answered when the budget is used up."""
        scene = Scene()
        scene.sync("A")
        scene.sync("B")
        scene.machine.stop()
        scene.events()
        scene.gone("B")
        scene.wait(BUDGET)
        self.assertEqual(scene.events(), ["A 503"])
        scene.done()
        self.assertEqual(scene.events()[1:], ["stopped"])
        self.assertEqual(len(scene.debts()[1]), 2)

    def test_rehearsal(self) -> None:
        """Who rehearses hears how it ended, however long the thaw takes."""
        scene = Scene()
        scene.rehearse("R", 5)
        scene.machine.stop()
        scene.events()
        scene.wait(BUDGET)
        scene.done()
        self.assertEqual(scene.events()[1:], ["R 500", "stopped"])


class ThawNowTests(SynchronousTestCase):
    """An administrator ends the present window."""

    def test_idle(self) -> None:
        """With none open there is nothing to do, before and after the agent's end."""
        scene = Scene()
        scene.thaw_now("T")
        scene.machine.stop()
        scene.thaw_now("U")
        self.assertEqual(scene.events(), ["T 200", "stopped", "U 200"])
        self.assertEqual(scene.answers["T"].window, None)

    def test_freezing(self) -> None:
        """A freeze is broken off and undone; who waits for it hears 500, and why."""
        scene = Scene()
        scene.sync("A")
        scene.thaw_now("T")
        self.assertEqual(scene.events(), ["freeze w1", "cancel freeze", "thaw stopped"])
        scene.done()
        lines = ("ended by T", "p: not frozen: ended by T")
        self.assertEqual(scene.events(), ["; ".join(("closed stopped", *lines)), "T 500", "A 500"])
        self.assertEqual((scene.answers["A"].lines, scene.answers["T"].state), (lines, "stopped"))
        self.assertEqual([late.answered for late in scene.debts()[1]], [False])

    def test_holding(self) -> None:
        """A hold is thawed; its ``/post-sync`` hears 500."""
        scene = holding("A")
        scene.thaw_now("T")
        scene.done()
        scene.post_sync("P")
        self.assertEqual(
            scene.events(), ["thaw stopped", "closed stopped; ended by T", "T 500", "P 500"]
        )

    def test_flushing(self) -> None:
        """Who joins has its flush broken off, and a window of its own afterwards."""
        scene = holding("A")
        scene.sync("B")
        scene.thaw_now("T")
        self.assertEqual(scene.events(), ["flush w1", "cancel flush", "thaw stopped"])
        scene.done()
        self.assertEqual(scene.events(), ["closed stopped; ended by T", "T 500", "freeze w2"])

    def test_thawing(self) -> None:
        """A thaw goes on as it is, and whoever asks waits for it."""
        scene = holding("A")
        scene.post_sync("P")
        for name in ("T", "U"):
            scene.thaw_now(name)
        self.assertEqual(scene.events(), ["thaw synced"])
        scene.done()
        self.assertEqual(scene.events(), ["closed synced", "P 200", "T 200", "U 200"])

    def test_thaw_fails(self) -> None:
        """What was not thawed is told."""
        scene = holding("A")
        scene.thaw_now("T")
        scene.done("p: not thawed: no")
        self.assertEqual(scene.answers["T"].lines, ("ended by T", "p: not thawed: no"))

    def test_stopping(self) -> None:
        """While the agent ends, whoever asks waits for the thaw as well."""
        scene = holding("A")
        scene.machine.stop()
        scene.thaw_now("T")
        scene.done()
        self.assertEqual(
            scene.events()[1:], ["closed stopped; the agent is shutting down", "T 500", "stopped"]
        )

    def test_rehearsal(self) -> None:
        """A rehearsal ends as stopped too."""
        scene = Scene()
        scene.rehearse("R", 5.0)
        scene.done()
        scene.thaw_now("T")
        scene.done()
        self.assertEqual(scene.answers["R"].state, "stopped")
        self.assertEqual(scene.answers["T"].status, 500)


class ReturningTests(SynchronousTestCase):
    """A requester that comes back from within the delivery of its answer."""

    def test_post_sync_at_once(self) -> None:
        """Its ``/post-sync`` ends the hold that its answer began."""
        scene = Scene()
        scene.then["A"] = lambda: scene.post_sync("P")
        scene.sync("A")
        scene.done()
        scene.done()
        self.assertEqual(
            scene.events(), ["freeze w1", "A 200", "thaw synced", "closed synced", "P 200"]
        )

    def test_sync_after_post_sync(self) -> None:
        """Its next ``/sync`` opens the next window."""
        scene = Scene(at_once=True)
        scene.then["A"] = lambda: scene.post_sync("P")
        scene.then["P"] = lambda: scene.sync("B")
        scene.sync("A")
        self.assertEqual(
            scene.events(),
            [
                "freeze w1",
                "A 200",
                "thaw synced",
                "closed synced",
                "P 200",
                "freeze w2",
                "B 200",
            ],
        )

    def test_turn(self) -> None:
        """It has its turn after those who have waited for the thaw already."""
        scene = Scene()
        scene.sync("A")
        scene.done()
        scene.machine.let_go("p: ended")
        scene.post_sync("P")
        scene.sync("B")
        scene.then["P"] = lambda: scene.sync("C")
        scene.events()
        scene.done()
        self.assertEqual(scene.events(), ["closed broken; p: ended", "P 500", "freeze w2"])
        scene.done()
        self.assertEqual(sorted(scene.events()), ["B 200", "C 200"])

    def test_late_post_sync_before_the_next_window(self) -> None:
        """A ``/post-sync`` that came during a thaw meets no window that opened after it."""
        scene = Scene()
        scene.sync("A")
        scene.done("p: broken")
        scene.post_sync("P")
        scene.then["A"] = lambda: scene.sync("B")
        scene.done()
        self.assertEqual(
            scene.events(),
            [
                "freeze w1",
                "thaw failed",
                "closed failed; p: broken",
                "A 500",
                "P 200",
                "freeze w2",
            ],
        )

    def test_budget(self) -> None:
        """After a used up budget it waits for the thaw, and its ``/post-sync`` is a late one."""
        scene = Scene()
        scene.then["A"] = lambda: scene.post_sync("P")
        scene.then["P"] = lambda: scene.sync("B")
        scene.sync("A")
        scene.wait(BUDGET)
        scene.done()
        self.assertEqual(scene.events()[-2:], ["P 200", "freeze w2"])

    def test_stopped(self) -> None:
        """After the end it is refused like all others."""
        scene = Scene()
        scene.then["A"] = lambda: scene.sync("B")
        scene.sync("A")
        scene.machine.stop()
        scene.done()
        self.assertEqual(scene.answers["B"].status, 503)


class AnyStateTests(SynchronousTestCase):
    """Nothing that can come from outside is out of place in any state."""

    def scenes(self) -> dict[str, Scene]:
        """Make a scene in each state."""
        scenes = {
            name: Scene()
            for name in (
                "idle", "freezing", "holding", "flushing", "thawing", "stopping", "stopped"
            )
        }  # fmt: skip
        for name in ("freezing", "holding", "flushing", "thawing", "stopping"):
            scenes[name].sync("A")
        for name in ("holding", "flushing", "thawing", "stopping"):
            scenes[name].done()
        scenes["flushing"].sync("B")
        scenes["thawing"].post_sync("P")
        scenes["stopping"].machine.stop()
        scenes["stopped"].machine.stop()
        return scenes

    def test_every_input(self) -> None:
        """Each input from outside is taken in each state, and each requester is answered."""
        inputs = {
            "sync": lambda scene: scene.sync("X"),
            "post_sync": lambda scene: scene.post_sync("X"),
            "rehearse": lambda scene: scene.rehearse("X", 5.0),
            "thaw_now": lambda scene: scene.thaw_now("X"),
            "gone": lambda scene: (scene.post_sync("X"), scene.gone("X")),
            "let_go": lambda scene: scene.machine.let_go("p: ended"),
            "stop": lambda scene: scene.machine.stop(),
        }
        for name, take in inputs.items():
            for state, scene in self.scenes().items():
                take(scene)
                scene.run_out()
                self.assertEqual(
                    (scene.effects.state, scene.clock.getDelayedCalls()),
                    ("idle", []),
                    (name, state),
                )
                if name in ("sync", "post_sync", "rehearse", "thaw_now"):
                    self.assertIn("X", scene.answers, (name, state))
