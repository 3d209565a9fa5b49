"""The coordinator, with participants and a clock in the test's hands."""

from __future__ import annotations

from functools import partial

from tests.coordinator.coordinator_case import CoordinatorTestCase
from xohook.errors import ParticipantError
from xohook.state.record import Record
from xohook.state.stamp import Stamp
from xohook.window.effects import Limits


class OrderTests(CoordinatorTestCase):
    """Lower orders freeze first, equal ones together; thaw runs in reverse."""

    def test_order(self) -> None:
        """Each order waits for the one before it, both ways."""
        last, first, beside = self.actor("c", 30), self.actor("a", 10), self.actor("b", 10)
        coordinator = self.keep(last, first, beside)
        coordinator.sync(self.requester())
        self.assertEqual(self.stage, ["freeze a", "freeze b"])
        first.do()
        self.assertEqual(len(self.stage), 2)
        beside.do()
        self.assertEqual(self.stage[2:], ["freeze c"])
        last.do()
        self.assertEqual(self.statuses, [200])
        coordinator.post_sync(self.requester())
        self.assertEqual(self.stage[3:], ["thaw c synced"])
        last.do()
        self.assertEqual(self.stage[4:], ["thaw a synced", "thaw b synced"])
        first.do()
        self.assertEqual(self.statuses, [200])
        beside.do()
        self.assertEqual(self.statuses, [200, 200])

    def test_failure(self) -> None:
        """One that fails breaks off those beside it; the answer names it alone."""
        first, bad, slow, never = (
            self.actor("first", 10),
            self.actor("bad", 20),
            self.actor("slow", 20),
            self.actor("never", 30),
        )
        coordinator = self.keep(first, bad, slow, never)
        coordinator.sync(self.requester())
        first.do()
        bad.fail(ParticipantError("exit status 1"))
        self.assertEqual(
            self.stage[3:], ["freeze slow cancelled", "thaw bad failed", "thaw slow failed"]
        )
        bad.do()
        slow.do()
        self.assertEqual(self.stage[6:], ["thaw first failed"])
        self.assertEqual(self.answers, [])
        first.do()
        [answer] = self.answers
        self.assertEqual((answer.status, answer.lines), (500, ("bad: exit status 1",)))

    def test_thaw_failure(self) -> None:
        """A thaw that fails stops no other, and the last answer tells."""
        a, b = self.actor("a", 10), self.actor("b", 20)
        coordinator = self.keep(a, b)
        coordinator.sync(self.requester())
        a.do()
        b.do()
        coordinator.post_sync(self.requester())
        b.fail(ParticipantError("exit status 2"))
        a.do()
        self.assertEqual(self.statuses, [200, 500])
        self.assertEqual(self.answers[1].lines, ("b: not thawed: exit status 2",))

    def test_flush(self) -> None:
        """One that joins has what only flushes run again, and is answered then."""
        flush, hold = self.actor("flush", 10, holds=False), self.actor("hold", 20)
        coordinator = self.keep(flush, hold)
        coordinator.sync(self.requester())
        flush.do()
        hold.do()
        coordinator.sync(self.requester())
        self.assertEqual(self.stage[2:], ["freeze flush"])
        self.assertEqual(self.statuses, [200])
        flush.do()
        self.assertEqual(self.statuses, [200, 200])


class RecordedTests(CoordinatorTestCase):
    """The record is written before each step."""

    def test_before_each_step(self) -> None:
        """It names who may hold, and how many are owed, at every moment."""
        a, b = self.actor("a", 10), self.actor("b", 20)
        coordinator = self.keep(a, b)
        seen = []

        def look() -> None:
            state = Record(self.record.path.parent).read()
            seen.append((state.waiting, state.owed, [entry.name for entry in state.entries]))

        coordinator.sync(self.requester())
        look()
        a.do()
        look()
        b.do()
        look()
        coordinator.post_sync(self.requester())
        b.do()
        look()
        self.assertEqual(
            seen, [(1, 0, ["a"]), (1, 0, ["a", "b"]), (0, 1, ["a", "b"]), (0, 0, ["a"])]
        )
        a.do()
        self.assertFalse(self.record.path.exists())

    def test_unwritable(self) -> None:
        """Where it cannot be written nothing is frozen, and /sync hears why."""
        self.record.path.parent.rmdir()
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        [answer] = self.answers
        self.assertEqual(answer.status, 500)
        self.assertIn("a: cannot write the record", answer.lines[0])


class ChangeTests(CoordinatorTestCase):
    """What is to change waits for the end of a window."""

    def test_now(self) -> None:
        """With no window open it is made at once."""
        changes: list[str] = []
        self.keep().between_windows(lambda: changes.append("made"))
        self.assertEqual(changes, ["made"])

    def test_after_the_window(self) -> None:
        """It is made once, when the window has ended."""
        a, b = self.actor("a"), self.actor("b")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        coordinator.between_windows(lambda: coordinator.configure(Limits(5.0, 7.0), [b]))
        a.do()
        coordinator.post_sync(self.requester())
        self.assertEqual(self.stage, ["freeze a", "thaw a synced"])
        a.do()
        coordinator.sync(self.requester())
        self.assertEqual(self.stage[2:], ["freeze b"])
        b.do()
        self.assertEqual(self.answers[-1].hold, 7.0)

    def test_before_the_next_window(self) -> None:
        """Several are made in their order, before a window that waits for this one's end opens."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        for what in ("first", "second"):
            coordinator.between_windows(partial(self.stage.append, what))
        coordinator.post_sync(self.requester())
        coordinator.sync(self.requester())
        a.do()
        self.assertEqual(self.stage, ["freeze a", "thaw a synced", "first", "second", "freeze a"])

    def test_fault(self) -> None:
        """One that meets a fault costs nobody an answer, nor the other changes their turn."""
        a = self.actor("a")
        coordinator = self.keep(a)
        changes: list[str] = []
        coordinator.sync(self.requester())
        coordinator.between_windows(lambda: changes.append(str(1 // 0)))
        coordinator.between_windows(lambda: changes.append("made"))
        a.do()
        coordinator.post_sync(self.requester())
        a.do()
        self.assertEqual(self.statuses, [200, 200])
        self.assertEqual(changes, ["made"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        coordinator.sync(self.requester())
        self.assertEqual(self.stage[-1], "freeze a")


class OverdueTests(CoordinatorTestCase):
    """The budget is used up."""

    def test_names(self) -> None:
        """The answer names each that was not done by then, whatever it was at."""
        disk, slow = self.filesystem("disk"), self.actor("slow", 10)
        disk.freeze_timeout = slow.freeze_timeout = 100.0
        coordinator = self.keep(disk, slow)
        coordinator.sync(self.requester())
        self.clock.advance(50.0)
        [answer] = self.answers
        self.assertEqual(answer.status, 500)
        self.assertIn("disk: not frozen: ", "\n".join(answer.lines))
        disk.do()
        coordinator.sync(self.requester())
        disk.do()
        self.clock.advance(50.0)
        self.assertIn("slow: not frozen: ", "\n".join(self.answers[1].lines))
        self.assertNotIn("disk: ", "\n".join(self.answers[1].lines))


class StampedTests(CoordinatorTestCase):
    """The stamp is on the disk from before the first freeze until after the last thaw."""

    def test_whole_window(self) -> None:
        """It names the window from its beginning, and at the hold who is at rest."""
        a = self.actor("a")
        coordinator = self.keep(a)
        stamp = Stamp(self.state_directory)
        coordinator.sync(self.requester())
        first = stamp.read()
        assert first is not None
        self.assertEqual((self.stage, first.at_rest), (["freeze a"], ()))
        a.do()
        held = stamp.read()
        assert held is not None
        self.assertEqual([entry.name for entry in held.at_rest], ["a"])
        self.assertEqual((held.window, held.time), (self.answers[0].window, first.time))
        coordinator.post_sync(self.requester())
        self.assertIsNotNone(stamp.read())
        a.do()
        self.assertIsNone(stamp.read())

    def test_unwritable(self) -> None:
        """Where it cannot be written the freeze fails with the reason, and nothing is frozen."""
        self.state_directory.rmdir()
        coordinator = self.keep(self.actor("a"))
        coordinator.sync(self.requester())
        [answer] = self.answers
        self.assertEqual((answer.status, self.stage), (500, []))
        self.assertIn("cannot write the stamp", answer.lines[0])


class StepsTests(CoordinatorTestCase):
    """How far each participant has come can be asked for."""

    def test_of_a_window(self) -> None:
        """The steps are those of the window that is asked for, and of no other."""
        a = self.actor("a")
        coordinator = self.keep(a)
        self.assertEqual(coordinator.runs(None), ())
        coordinator.sync(self.requester())
        a.do()
        window = self.answers[0].window
        self.assertEqual([run.phase for run in coordinator.runs(window)], ["frozen"])
        self.assertEqual(coordinator.runs("another"), ())


class AppsTests(CoordinatorTestCase):
    """Who takes part besides, asked anew for each window."""

    def test_each_window(self) -> None:
        """It is settled when a window opens, and for the whole of it."""
        self.apps.append(self.actor("a", 20))
        coordinator = self.keep()
        coordinator.sync(self.requester())
        self.apps.append(self.actor("b", 20))
        self.apps[0].do()
        coordinator.post_sync(self.requester())
        self.assertEqual(self.stage, ["freeze a", "thaw a synced"])
        self.apps.pop(0).do()
        coordinator.sync(self.requester())
        self.assertEqual(self.stage[2:], ["freeze b"])

    def test_order(self) -> None:
        """They have their places among the others."""
        self.apps.append(self.actor("app", 50))
        first = self.actor("first", 40)
        coordinator = self.keep(first)
        coordinator.sync(self.requester())
        self.assertEqual(self.stage, ["freeze first"])
        first.do()
        self.assertEqual(self.stage[1:], ["freeze app"])
