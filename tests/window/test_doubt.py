"""The state machine of windows: a ``/post-sync`` that may be another window's."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.window.driven_machine import LIMIT, Scene, holding
from xohook.window.late_post_syncs import LIFETIME, LatePostSync

A, B = "192.0.2.1", "192.0.2.2"
A6 = "2001:db8::1"


def late(source: str = "", *, answered: bool = True, until: float = 600.0) -> LatePostSync:
    """Make one that window w0 has left."""
    return LatePostSync("w0", answered, until, source)


def scene_after(*late_post_syncs: LatePostSync) -> Scene:
    """Make a scene in which a window holds for A, and these are expected."""
    scene = Scene(late_post_syncs=late_post_syncs)
    scene.sync("S", A)
    scene.done()
    scene.events()
    return scene


class Xo:
    """A requester that takes snapshots of a VM again and again.

    :param scene: where.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._count = 0

    def snapshot(
        self, source: str = A, *, fails: bool = False, loses_post_sync: bool = False
    ) -> str:
        """Take one.

        :param source: where it comes from.
        :param fails: whether a participant cannot be frozen.
        :param loses_post_sync: whether no ``/post-sync`` comes.
        :return: the outcome of its window.
        """
        self._count += 1
        scene = self._scene
        scene.sync(f"S{self._count}", source)
        scene.done(*(["p: broken"] if fails else []))
        if fails:
            scene.done()
        if loses_post_sync:
            scene.wait(LIMIT)
        else:
            scene.post_sync(f"P{self._count}", source)
        if scene.effects.under_way:
            scene.done()
        [end] = [event for event in scene.events() if event.startswith("closed ")]
        return end.split()[1].rstrip(";")


class HoldTests(SynchronousTestCase):
    """One that comes during a hold."""

    def test_ambiguous(self) -> None:
        """One that may be an earlier window's ends the hold, and the line says all about it."""
        scene = scene_after(late(A))
        scene.wait(10)
        scene.post_sync("P", A)
        scene.done()
        why = (
            f"a /post-sync from {A} may have been that of window w0, which had ended before: do not"
            " trust this snapshot; take another one after 00:10:00 UTC, when that /post-sync is no"
            " longer expected"
        )
        self.assertEqual(scene.events(), ["thaw ambiguous", f"closed ambiguous; {why}", "P 500"])

    def test_expectations_are_conserved(self) -> None:
        """It takes one: the window that it ended adds nothing to what was expected before."""
        scene = scene_after(late(A))
        scene.wait(10)
        scene.post_sync("P", A)
        self.assertEqual(scene.debts(), (0, (late(A),)))

    def test_other_one_hears_500(self) -> None:
        """The one that stays may be the answered window's: whoever sends it is not told 200."""
        scene = scene_after(late(A, answered=False))
        scene.post_sync("P", A)
        scene.done()
        scene.post_sync("Q", A)
        self.assertEqual(scene.events()[-2:], ["P 500", "Q 500"])

    def test_all_that_it_may_be(self) -> None:
        """Each earlier window that it may be of is named, and the doubt lasts as long as any."""
        scene = scene_after(
            late(A), LatePostSync("v", True, 90.0, A), late(B), late(A, until=100.0)
        )
        scene.post_sync("P", A)
        scene.done()
        [line] = scene.answers["P"].lines
        self.assertIn("that of window w0 or window v, which", line)
        self.assertIn("after 00:10:00 UTC", line)

    def test_another_address(self) -> None:
        """With another address's expected there is no doubt, and its own one is not this window's.

        It takes that one, hears 500, and leaves the hold alone.
        """
        scene = scene_after(late(B))
        scene.post_sync("P", B)
        self.assertEqual((scene.events(), scene.debts()), (["P 500"], (1, ())))
        scene.post_sync("Q", A)
        scene.done()
        self.assertEqual(scene.events(), ["thaw synced", "closed synced", "Q 200"])

    def test_another_address_is_expected_still(self) -> None:
        """The window's own leaves another address's expected."""
        scene = scene_after(late(B))
        scene.post_sync("P", A)
        self.assertEqual(scene.events(), ["thaw synced"])
        self.assertEqual(scene.debts(), (0, (late(B),)))

    def test_another_family(self) -> None:
        """One that was left over IPv6 may be that of a requester that comes over IPv4."""
        scene = scene_after(late(A6))
        scene.post_sync("P", A)
        self.assertEqual(scene.events(), ["thaw ambiguous"])

    def test_not_known_whose(self) -> None:
        """One whose source is not known may be anybody's."""
        scene = scene_after(late())
        scene.post_sync("P", A)
        self.assertEqual(scene.events(), ["thaw ambiguous"])

    def test_nobodys(self) -> None:
        """One from an address that owes none is not taken for the window's: it ends ambiguous.

        The window's own stays expected, for none that is expected can be this one.
        """
        scene = scene_after()
        scene.post_sync("P", B)
        scene.done()
        self.assertEqual(scene.answers["P"].state, "ambiguous")
        [line] = scene.answers["P"].lines
        self.assertIn(f"a /post-sync came from {B}, and the /sync that it belongs to did not", line)
        self.assertEqual([each.source for each in scene.debts()[1]], [A])

    def test_twice(self) -> None:
        """A second one of the same address does not stand for another requester's."""
        scene = Scene()
        scene.sync("S", A)
        scene.sync("T", B)
        scene.done()
        scene.post_sync("P", A)
        scene.post_sync("Q", A)
        self.assertEqual(scene.events()[-2:], ["P 200", "thaw ambiguous"])

    def test_nothing_owed(self) -> None:
        """It spoils no rehearsal, which owes nothing."""
        scene = Scene(late_post_syncs=(late(A),))
        scene.rehearse("R", 5)
        scene.done()
        scene.post_sync("P", A)
        self.assertEqual(scene.events(), ["freeze w1", "P 500"])
        self.assertEqual(scene.debts(), (0, ()))

    def test_forgotten(self) -> None:
        """After ten minutes it is no longer expected."""
        scene = scene_after(late(A, until=10.0))
        scene.wait(10)
        scene.post_sync("P", A)
        self.assertEqual(scene.events(), ["thaw synced"])


class NoHoldTests(SynchronousTestCase):
    """One that comes while nothing is held."""

    def test_any_of_them_was_answered(self) -> None:
        """It hears 500 if any that it may be had been answered 200, and 200 if none had."""
        for sources, status in (((A, A), 500), ((A, B), 200), ((A, A6), 500), ((A, ""), 500)):
            failed, answered = sources
            scene = Scene(late_post_syncs=(late(failed, answered=False), late(answered)))
            scene.post_sync("P", A)
            self.assertEqual(scene.answers["P"].status, status, sources)
            self.assertEqual(len(scene.debts()[1]), 1)

    def test_line(self) -> None:
        """The line names each answered window that it may be of."""
        scene = Scene(
            late_post_syncs=(
                LatePostSync("w1", True, 600.0, A),
                LatePostSync("w2", False, 600.0, A),
                LatePostSync("w3", True, 600.0, A),
            )
        )
        scene.post_sync("P", A)
        self.assertEqual(
            scene.answers["P"].lines,
            ("window w1 or window w3 had ended before: do not trust this snapshot",),
        )

    def test_in_the_thaw(self) -> None:
        """One that comes while a window thaws counts from then on, though it is answered later."""
        scene = holding("S")
        scene.machine.let_go("p: ended")
        scene.post_sync("P")
        self.assertEqual(scene.debts(), (0, ()))
        self.assertEqual(scene.effects.saved(), (0, ()))
        scene.wait(LIFETIME)
        scene.done()
        self.assertEqual(scene.events()[-1], "P 500")


class EndOfDoubtTests(SynchronousTestCase):
    """A VM that is snapshotted more often than every ten minutes."""

    def setUp(self) -> None:
        self.scene = Scene()
        self.xo = Xo(self.scene)

    def outcomes(self, seconds: float, every: float, source: str = A) -> list[str]:
        """Take snapshots for so long; their outcomes come back."""
        outcomes = []
        for _ in range(int(seconds / every)):
            self.scene.wait(every)
            outcomes.append(self.xo.snapshot(source))
        return outcomes

    def test_one_expired(self) -> None:
        """It is synced again ten minutes after a window that got no ``/post-sync``."""
        self.assertEqual(self.xo.snapshot(loses_post_sync=True), "expired")
        self.assertEqual(self.outcomes(660, every=60), ["ambiguous"] * 9 + ["synced"] * 2)

    def test_reverted_to_a_checkpoint(self) -> None:
        """It is synced again ten minutes after a hold that was reverted to: none comes for that.

        Its memory is that of the checkpoint: the hold goes on, and ends at its limit.
        """
        scene = self.scene
        scene.sync("before", A)
        scene.done()
        scene.wait(LIMIT)
        scene.done()
        scene.events()
        self.assertEqual(self.outcomes(900, every=300), ["ambiguous", "synced", "synced"])

    def test_another_address(self) -> None:
        """Where another requester's is missing it is synced all the time."""
        self.xo.snapshot(B, loses_post_sync=True)
        self.assertEqual(self.outcomes(180, every=60), ["synced"] * 3)

    def test_failures_in_between(self) -> None:
        """Failed windows whose ``/post-sync`` comes do not lengthen the doubt."""
        self.xo.snapshot(loses_post_sync=True)
        outcomes = []
        for _ in range(6):
            self.scene.wait(50)
            self.assertEqual(self.xo.snapshot(fails=True), "failed")
            self.scene.wait(50)
            outcomes.append(self.xo.snapshot())
        self.assertEqual(outcomes, ["ambiguous"] * 5 + ["synced"])

    def test_late_ones(self) -> None:
        """One that comes after all ends the doubt at once."""
        self.xo.snapshot(loses_post_sync=True)
        self.scene.wait(60)
        self.scene.post_sync("late", A)
        self.assertEqual(self.xo.snapshot(), "synced")
