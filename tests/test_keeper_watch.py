"""Tests for :mod:`xohook.keeper`: what it shows of a window, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.acting import Actor
from tests.keeper_case import KeeperTestCase
from xohook.answers import Answer
from xohook.course import Course
from xohook.errors import ParticipantError
from xohook.record import Record
from xohook.sight import Watcher


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
