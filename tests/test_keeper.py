"""Tests for :mod:`xohook.keeper` with participants and a clock in the test's hands."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.acting import Actor, Frozen
from tests.pressing import writer_of
from xohook.answers import Answer, Requester
from xohook.course import Course
from xohook.disk import Disk
from xohook.errors import ParticipantError
from xohook.keeper import GUARD_GRACE, STOP_WAITS, Keeper
from xohook.logs import WaitingLog
from xohook.process import IProcessReactor
from xohook.record import Entry, Record
from xohook.sight import Watcher
from xohook.stamp import Stamp
from xohook.strays import Strays
from xohook.work import Limits


class KeeperTestCase(SynchronousTestCase):
    """A keeper whose participants the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stage: list[str] = []
        self.answers: list[Answer] = []
        self.apps: list[Actor] = []
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.record = Record(self.directory)
        self.state_directory = Path(self.mktemp())
        self.state_directory.mkdir()

    def keep(self, *actors: Actor) -> Keeper:
        reactor = cast(IProcessReactor, self.clock)
        stamp = Stamp(self.state_directory)
        disk = Disk(self.clock, stamp, WaitingLog(), writer_of(stamp.path))
        return Keeper(
            reactor, self.record, Strays(), Limits(50.0, 120.0), actors, self.taking_part, disk
        )

    def taking_part(self) -> list[Actor]:
        return list(self.apps)

    def actor(self, name: str, order: int = 40, *, holds: bool = True) -> Actor:
        return Actor(name, self.stage, order, holds=holds)

    def stilling(self, name: str, order: int = 90) -> Actor:
        """Make one that is prepared first, and then stills the disk."""
        actor = Actor(name, self.stage, order, stills=True)
        actor.need_preparing()
        return actor

    def requester(self) -> Requester:
        return Requester("192.0.2.1", self.answers.append)

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


class OrderTests(KeeperTestCase):
    """Lower orders freeze first, equal ones together; thaw runs in reverse."""

    def test_order(self) -> None:
        """Each order waits for the one before it, both ways."""
        last, first, beside = self.actor("c", 30), self.actor("a", 10), self.actor("b", 10)
        keeper = self.keep(last, first, beside)
        keeper.sync(self.requester())
        self.assertEqual(self.stage, ["freeze a", "freeze b"])
        first.do()
        self.assertEqual(len(self.stage), 2)
        beside.do()
        self.assertEqual(self.stage[2:], ["freeze c"])
        last.do()
        self.assertEqual(self.statuses, [200])
        keeper.post_sync(self.requester())
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
        keeper = self.keep(first, bad, slow, never)
        keeper.sync(self.requester())
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
        keeper = self.keep(a, b)
        keeper.sync(self.requester())
        a.do()
        b.do()
        keeper.post_sync(self.requester())
        b.fail(ParticipantError("exit status 2"))
        a.do()
        self.assertEqual(self.statuses, [200, 500])
        self.assertEqual(self.answers[1].lines, ("b: not thawed: exit status 2",))

    def test_flush(self) -> None:
        """One that joins has what only flushes run again, and is answered then."""
        flush, hold = self.actor("flush", 10, holds=False), self.actor("hold", 20)
        keeper = self.keep(flush, hold)
        keeper.sync(self.requester())
        flush.do()
        hold.do()
        keeper.sync(self.requester())
        self.assertEqual(self.stage[2:], ["freeze flush"])
        self.assertEqual(self.statuses, [200])
        flush.do()
        self.assertEqual(self.statuses, [200, 200])


class RecordedTests(KeeperTestCase):
    """The record is written before each step."""

    def test_before_each_step(self) -> None:
        """It names who may hold, and how many are owed, at every moment."""
        a, b = self.actor("a", 10), self.actor("b", 20)
        keeper = self.keep(a, b)
        seen = []

        def look() -> None:
            state = Record(self.record.path.parent).read()
            seen.append((state.waiting, state.owed, [entry.name for entry in state.entries]))

        keeper.sync(self.requester())
        look()
        a.do()
        look()
        b.do()
        look()
        keeper.post_sync(self.requester())
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
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        [answer] = self.answers
        self.assertEqual(answer.status, 500)
        self.assertIn("a: cannot write the record", answer.lines[0])


class ChangeTests(KeeperTestCase):
    """What is to change waits for the end of a window."""

    def test_now(self) -> None:
        """With no window open it is made at once."""
        changes: list[str] = []
        self.keep().between_windows(lambda: changes.append("made"))
        self.assertEqual(changes, ["made"])

    def test_after_the_window(self) -> None:
        """It is made once, when the window has ended."""
        a, b = self.actor("a"), self.actor("b")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        keeper.between_windows(lambda: keeper.configure(Limits(5.0, 7.0), [b]))
        a.do()
        keeper.post_sync(self.requester())
        self.assertEqual(self.stage, ["freeze a", "thaw a synced"])
        a.do()
        keeper.sync(self.requester())
        self.assertEqual(self.stage[2:], ["freeze b"])
        b.do()
        self.assertEqual(self.answers[-1].hold, 7.0)

    def test_before_the_next_window(self) -> None:
        """Several are made in their order, before a window that waits for this one's end opens."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        for what in ("first", "second"):
            keeper.between_windows(partial(self.stage.append, what))
        keeper.post_sync(self.requester())
        keeper.sync(self.requester())
        a.do()
        self.assertEqual(self.stage, ["freeze a", "thaw a synced", "first", "second", "freeze a"])

    def test_fault(self) -> None:
        """One that meets a fault costs nobody an answer, nor the other changes their turn."""
        a = self.actor("a")
        keeper = self.keep(a)
        changes: list[str] = []
        keeper.sync(self.requester())
        keeper.between_windows(lambda: changes.append(str(1 // 0)))
        keeper.between_windows(lambda: changes.append("made"))
        a.do()
        keeper.post_sync(self.requester())
        a.do()
        self.assertEqual(self.statuses, [200, 200])
        self.assertEqual(changes, ["made"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        keeper.sync(self.requester())
        self.assertEqual(self.stage[-1], "freeze a")


class GuardedTests(KeeperTestCase):
    """Guards hold as long as the window does, and a moment more."""

    def test_until(self) -> None:
        """At first until the freeze and the hold are over at the latest, then until the hold is."""
        self.clock.advance(1000.0)
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        [phase] = a.phases
        self.assertEqual(phase.until, 1000.0 + 50.0 + 120.0 + GUARD_GRACE)
        self.clock.advance(10.0)
        a.do()
        self.assertEqual(a.until, 1010.0 + 120.0 + GUARD_GRACE)

    def test_joined(self) -> None:
        """Another answer lets them hold longer, one that is still owed not so long."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        self.clock.advance(30.0)
        keeper.sync(self.requester())
        self.assertEqual(a.until, 30.0 + 120.0 + GUARD_GRACE)
        keeper.post_sync(self.requester())
        self.assertEqual(a.until, 30.0 + 60.0 + GUARD_GRACE)

    def test_rehearsal(self) -> None:
        """A rehearsal's guards hold no longer than it does."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.rehearse(self.requester(), 5.0)
        a.do()
        self.assertEqual(a.until, 5.0 + GUARD_GRACE)

    def test_lets_go(self) -> None:
        """What a guard tells by the way that its phase gave it ends the hold as broken."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        a.phases[0].let_go("its guard has ended")
        self.assertEqual(self.stage[1:], ["thaw a broken"])

    def test_does_not_matter(self) -> None:
        """One whose failure does not matter may let go, and the window is as good as before."""
        a = self.actor("a")
        a.abort = False
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        a.phases[0].let_go("its guard has ended")
        self.assertEqual(self.stage, ["freeze a"])
        keeper.post_sync(self.requester())
        a.do()
        self.assertEqual(self.statuses, [200, 200])


class CancelledTests(KeeperTestCase):
    """A requester that goes away breaks off whatever the freeze is at."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.stilling("disk")
        self.first = self.actor("first", 10)
        self.keeper = self.keep(self.disk, self.first)
        self.one = self.requester()
        self.keeper.sync(self.one)

    def leave(self) -> list[str]:
        """Let the requester go; what happens then."""
        begun = len(self.stage)
        self.keeper.gone(self.one)
        return self.stage[begun:]

    def test_preparing(self) -> None:
        """While one prepares: what it may have started is ended."""
        self.assertEqual(self.leave(), ["prepare disk cancelled", "thaw disk cancelled"])

    def test_freezing(self) -> None:
        """While one freezes: one that is prepared goes first, in reverse order."""
        self.disk.do()
        self.assertEqual(self.leave(), ["freeze first cancelled", "thaw disk cancelled"])
        self.disk.do()
        self.assertEqual(self.stage[-1], "thaw first cancelled")

    def test_stilling(self) -> None:
        """While the disk is being stilled."""
        self.disk.do()
        self.first.do()
        self.assertEqual(self.leave(), ["freeze disk cancelled", "thaw disk cancelled"])

    def test_next(self) -> None:
        """The next window finds nothing of it: no stamp, no record but for its stray."""
        self.leave()
        self.disk.do()
        self.assertEqual(list(self.state_directory.iterdir()), [])
        self.assertEqual(len(self.record.read().strays), 1)
        self.keeper.post_sync(self.requester())
        self.keeper.sync(self.requester())
        self.disk.do()
        self.first.do()
        self.disk.do()
        self.assertEqual(self.statuses, [200, 200])


class OverdueTests(KeeperTestCase):
    """The budget is used up."""

    def test_names(self) -> None:
        """The answer names each that was not done by then, whatever it was at."""
        disk, slow = self.stilling("disk"), self.actor("slow", 10)
        disk.freeze_timeout = slow.freeze_timeout = 100.0
        keeper = self.keep(disk, slow)
        keeper.sync(self.requester())
        self.clock.advance(50.0)
        [answer] = self.answers
        self.assertEqual(answer.status, 500)
        self.assertIn("disk: not frozen: ", "\n".join(answer.lines))
        disk.do()
        keeper.sync(self.requester())
        disk.do()
        self.clock.advance(50.0)
        self.assertIn("slow: not frozen: ", "\n".join(self.answers[1].lines))
        self.assertNotIn("disk: ", "\n".join(self.answers[1].lines))


class StampedTests(KeeperTestCase):
    """The stamp is on the disk from before the first freeze until after the last thaw."""

    def test_whole_window(self) -> None:
        """It names the window from its beginning, and at the hold who is at rest."""
        a = self.actor("a")
        keeper = self.keep(a)
        stamp = Stamp(self.state_directory)
        keeper.sync(self.requester())
        first = stamp.read()
        assert first is not None
        self.assertEqual((self.stage, first.at_rest), (["freeze a"], ()))
        a.do()
        held = stamp.read()
        assert held is not None
        self.assertEqual([entry.name for entry in held.at_rest], ["a"])
        self.assertEqual((held.window, held.time), (self.answers[0].window, first.time))
        keeper.post_sync(self.requester())
        self.assertIsNotNone(stamp.read())
        a.do()
        self.assertIsNone(stamp.read())

    def test_unwritable(self) -> None:
        """Where it cannot be written the freeze fails with the reason, and nothing is frozen."""
        self.state_directory.rmdir()
        keeper = self.keep(self.actor("a"))
        keeper.sync(self.requester())
        [answer] = self.answers
        self.assertEqual((answer.status, self.stage), (500, []))
        self.assertIn("cannot write the stamp", answer.lines[0])


class StepsTests(KeeperTestCase):
    """How far each participant has come can be asked for."""

    def test_of_a_window(self) -> None:
        """The steps are those of the window that is asked for, and of no other."""
        a = self.actor("a")
        keeper = self.keep(a)
        self.assertEqual(keeper.steps(None), ())
        keeper.sync(self.requester())
        a.do()
        window = self.answers[0].window
        self.assertEqual([step.phase for step in keeper.steps(window)], ["frozen"])
        self.assertEqual(keeper.steps("another"), ())


class AppsTests(KeeperTestCase):
    """Who takes part besides, asked anew for each window."""

    def test_each_window(self) -> None:
        """It is settled when a window opens, and for the whole of it."""
        self.apps.append(self.actor("a", 20))
        keeper = self.keep()
        keeper.sync(self.requester())
        self.apps.append(self.actor("b", 20))
        self.apps[0].do()
        keeper.post_sync(self.requester())
        self.assertEqual(self.stage, ["freeze a", "thaw a synced"])
        self.apps.pop(0).do()
        keeper.sync(self.requester())
        self.assertEqual(self.stage[2:], ["freeze b"])

    def test_order(self) -> None:
        """They have their places among the others."""
        self.apps.append(self.actor("app", 50))
        first = self.actor("first", 40)
        keeper = self.keep(first)
        keeper.sync(self.requester())
        self.assertEqual(self.stage, ["freeze first"])
        first.do()
        self.assertEqual(self.stage[1:], ["freeze app"])


class LookTests(KeeperTestCase):
    """What there is to see of a window."""

    def test_first(self) -> None:
        """Before the first one everybody waits."""
        keeper = self.keep(self.actor("a"))
        sight = keeper.look()
        self.assertEqual((sight.answer.state, sight.answer.window), ("idle", None))
        self.assertEqual([step.phase for step in sight.steps], ["waiting"])
        self.assertEqual((sight.is_open, sight.opened, sight.left), (False, None, None))

    def test_window(self) -> None:
        """While it is open: how far it is; what is left, while anything is held."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        sight = keeper.look()
        self.assertEqual((sight.answer.state, sight.is_open, sight.left), ("freezing", True, None))
        a.do()
        self.clock.advance(20)
        sight = keeper.look()
        self.assertEqual((sight.answer.state, sight.left), ("holding", 100.0))
        opened = sight.opened
        self.assertIsNotNone(opened)
        keeper.post_sync(self.requester())
        sight = keeper.look()
        self.assertEqual((sight.answer.state, sight.is_open, sight.left), ("thawing", True, None))
        a.do()
        sight = keeper.look()
        self.assertEqual((sight.answer.state, sight.is_open), ("synced", False))
        self.assertEqual((sight.opened, sight.left), (opened, None))
        self.assertEqual([step.phase for step in sight.steps], ["thawed"])
        self.assertEqual(sight.answer.window, self.answers[0].window)

    def test_problems(self) -> None:
        """Why it fails is seen from when that is known."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.fail(ParticipantError("exit status 1"))
        self.assertEqual(keeper.look().answer.lines, ("a: exit status 1",))
        a.do()
        self.assertEqual(keeper.look().answer.lines, ("a: exit status 1",))


class WatcherTests(KeeperTestCase):
    """Watchers are told of each change, once."""

    def test_window(self) -> None:
        """In their order, with the step that has changed."""
        a = self.actor("a")
        keeper = self.keep(a)
        told: list[tuple[str, list[str]]] = []
        keeper.watchers.append(
            lambda answer, changed: told.append((answer.state, [step.phase for step in changed]))
        )
        keeper.sync(self.requester())
        a.do()
        keeper.post_sync(self.requester())
        a.do()
        self.assertEqual(
            told,
            [
                ("freezing", []),
                ("freezing", ["freezing"]),
                ("freezing", ["frozen"]),
                ("holding", []),
                ("thawing", []),
                ("thawing", ["thawing"]),
                ("thawing", ["thawed"]),
                ("synced", []),
            ],
        )

    def test_leaves(self) -> None:
        """One may leave while it is told; the others are told all the same."""
        keeper = self.keep(self.actor("a"))
        told: list[str] = []

        def leave(*_: object) -> None:
            keeper.watchers.remove(leave)

        keeper.watchers += [leave, lambda answer, _: told.append(answer.state)]
        keeper.sync(self.requester())
        self.assertEqual(told[:2], ["freezing", "freezing"])

    def test_lines(self) -> None:
        """What went wrong is told once, with the state, and not again with each step."""
        a, b = self.actor("a", 10), self.actor("b", 20)
        keeper = self.keep(a, b)
        told: list[tuple[int, int]] = []
        keeper.watchers.append(
            lambda answer, changed: told.append((len(answer.lines), len(changed)))
        )
        keeper.sync(self.requester())
        a.do()
        b.fail(ParticipantError("exit status 1"))
        b.do()
        a.do()
        self.assertIn((1, 0), told)
        self.assertNotIn((1, 1), told)

    def windows(self, count: int, watchers: Sequence[Watcher] = ()) -> int:
        """Run a window of so many that fail; tell how often it was put into words."""
        said: list[int] = []
        says = Course.says

        def note(course: Course, status: int, *lines: str, hold: float | None = None) -> Answer:
            said.append(status)
            return says(course, status, *lines, hold=hold)

        self.patch(Course, "says", note)
        self.record = Record(Path(self.mktemp()))
        self.record.path.parent.mkdir()
        actors = [Actor(f"a{number}", self.stage, abort=False) for number in range(count)]
        keeper = self.keep(*actors)
        keeper.watchers += watchers
        keeper.sync(self.requester())
        for actor in actors:
            actor.fail(ParticipantError("exit status 1"))
        keeper.post_sync(self.requester())
        for actor in actors:
            actor.fail(ParticipantError("exit status 2"))
        self.assertEqual(len(self.answers[-1].lines), count)
        return len(said)

    def test_many(self) -> None:
        """However many steps change, the window is put into words no more often, watched or not."""
        told: list[Answer] = []

        def note(answer: Answer, _: object) -> None:
            told.append(answer)

        self.assertEqual(self.windows(300), self.windows(3))
        self.assertEqual(self.windows(300, [note]), self.windows(3))
        self.assertGreater(len(told), 300 * 4)

    def test_raises(self) -> None:
        """One that raises keeps nobody from being thawed, and is told of in the log."""
        a = self.actor("a")
        keeper = self.keep(a)

        def fail(*_: object) -> None:
            raise ValueError("no")

        keeper.watchers.append(fail)
        keeper.sync(self.requester())
        a.do()
        keeper.post_sync(self.requester())
        a.do()
        self.assertEqual(self.stage, ["freeze a", "thaw a synced"])
        self.assertTrue(self.flushLoggedErrors(ValueError))


class StopTests(KeeperTestCase):
    """A shutdown thaws, and waits for programs, but not for ever."""

    def stop(self, keeper: Keeper) -> Deferred[None]:
        return Deferred.fromCoroutine(keeper.stop())

    def test_idle(self) -> None:
        """With no window open there is nothing to wait for; /sync hears 503 from then on."""
        keeper = self.keep(self.actor("a"))
        self.successResultOf(self.stop(keeper))
        keeper.sync(self.requester())
        self.assertEqual(self.statuses, [503])

    def test_holding(self) -> None:
        """It is over when all is thawed."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        stopped = self.stop(keeper)
        self.assertEqual(self.stage[1:], ["thaw a stopped"])
        self.assertNoResult(stopped)
        a.do()
        self.successResultOf(stopped)

    def test_program_that_does_not_end(self) -> None:
        """A program that does not end is waited for so long and no longer."""
        a = self.actor("a", holds=False)
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        a.quiet = Deferred()
        stopped = self.stop(keeper)
        self.clock.advance(STOP_WAITS - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        del stopped, keeper
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])


class EndTests(KeeperTestCase):
    """A window can end otherwise than by its /post-sync."""

    def test_let_go(self) -> None:
        """A participant that lets go by itself ends the hold as broken."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        keeper.let_go(a, "connection lost")
        self.assertEqual(self.stage[1:], ["thaw a broken"])
        a.do()
        keeper.post_sync(self.requester())
        self.assertEqual(self.statuses, [200, 500])

    def test_let_go_of_little_matter(self) -> None:
        """With on_failure = continue the hold goes on, and the window is synced."""
        a = Actor("a", self.stage, abort=False)
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        keeper.let_go(a, "connection lost")
        keeper.post_sync(self.requester())
        self.assertEqual(self.stage[1:], ["thaw a synced"])
        a.do()
        self.assertEqual(self.statuses, [200, 200])

    def test_unthawed(self) -> None:
        """Where a thaw fails nothing is written to a disk, and the next start is told of it."""
        a = Actor("a", self.stage, stills=True)
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        lifted: list[Disk] = []

        async def lift(disk: Disk) -> None:
            lifted.append(disk)

        self.patch(Disk, "lift", lift)
        keeper.post_sync(self.requester())
        frozen = a.unthawed = Frozen()
        a.fail(ParticipantError("no answer"))
        self.assertEqual(self.statuses, [200, 500])
        self.assertEqual(lifted, [])
        self.assertEqual([entry.name for entry in self.record.read().entries], ["a"])
        frozen.forget()
        self.assertEqual(self.record.read().entries, ())
        self.assertEqual(len(lifted), 1)

    def test_no_window_over_it(self) -> None:
        """While something may be frozen no window opens; the thaw is tried before that is said."""
        a = Actor("a", self.stage)
        keeper = self.keep(a)
        frozen = Frozen()
        keeper.unthawed.add(frozen, Entry("filesystem:a", 90, {}, {}))
        keeper.sync(self.requester())
        self.assertEqual((self.statuses, self.stage, frozen.attempts), ([500], [], 1))
        frozen.is_answering = True
        keeper.sync(self.requester())
        self.assertEqual((self.stage, frozen.attempts), (["freeze a"], 2))

    def test_tried_again(self) -> None:
        """The thaw is tried again after 1 s, and then at least every 30 s."""
        keeper = self.keep()
        frozen = Frozen()
        keeper.unthawed.add(frozen, Entry("filesystem:a", 90, {}, {}))
        self.clock.advance(1)
        self.assertEqual(frozen.attempts, 1)
        for _ in range(300):
            self.clock.advance(1)
        self.assertGreaterEqual(frozen.attempts, 10)
        frozen.is_answering = True
        for _ in range(30):
            self.clock.advance(1)
        self.assertFalse(keeper.unthawed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tried_at_the_end(self) -> None:
        """It is tried at a shutdown, which goes on where it fails; the record keeps it."""
        keeper = self.keep()
        frozen = Frozen()
        keeper.unthawed.add(frozen, Entry("filesystem:a", 90, {}, {}))
        self.successResultOf(Deferred.fromCoroutine(keeper.stop()))
        self.assertEqual(frozen.attempts, 1)
        self.assertEqual([entry.name for entry in self.record.read().entries], ["filesystem:a"])

    def test_own_fault(self) -> None:
        """A fault of the thaw itself ends the window, as failed, and not the agent."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        self.patch(Disk, "lift", lambda _: 1 / 0)
        keeper.post_sync(self.requester())
        a.do()
        self.assertEqual(self.statuses, [200, 500])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        keeper.sync(self.requester())
        self.assertEqual(self.stage[-1], "freeze a")

    def test_thaw_now(self) -> None:
        """An administrator ends it; the answer comes when all is thawed."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.sync(self.requester())
        a.do()
        keeper.thaw_now(self.requester())
        self.assertEqual((self.stage[1:], self.statuses), (["thaw a stopped"], [200]))
        a.do()
        self.assertEqual((self.statuses, self.answers[1].state), ([200, 500], "stopped"))

    def test_gone(self) -> None:
        """A requester that goes away during the freeze has it broken off and undone."""
        a = self.actor("a")
        keeper = self.keep(a)
        requester = self.requester()
        keeper.sync(requester)
        keeper.gone(requester)
        self.assertEqual(self.stage[1:], ["freeze a cancelled", "thaw a cancelled"])

    def test_rehearsal(self) -> None:
        """A rehearsal holds as long as it was asked to, and ends by itself."""
        a = self.actor("a")
        keeper = self.keep(a)
        keeper.rehearse(self.requester(), 5.0)
        a.do()
        self.clock.advance(4.9)
        self.assertEqual(self.stage, ["freeze a"])
        self.clock.advance(0.1)
        self.assertEqual(self.stage[1:], ["thaw a rehearsed"])
        a.do()
        self.assertEqual(self.statuses, [200])
