"""Tests for :mod:`xohook.coordinator.coordinator`: what it shows of a window, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.acting import Actor
from tests.coordinator.coordinator_case import CoordinatorTestCase
from xohook.coordinator.status import Watcher
from xohook.errors import ParticipantError
from xohook.state.record import Record
from xohook.window.answers import Answer
from xohook.window.context import WindowContext


class LookTests(CoordinatorTestCase):
    """What there is to see of a window."""

    def test_first(self) -> None:
        """Before the first one everybody waits."""
        coordinator = self.keep(self.actor("a"))
        status = coordinator.status()
        self.assertEqual((status.answer.state, status.answer.window), ("idle", None))
        self.assertEqual([run.phase for run in status.runs], ["waiting"])
        self.assertEqual((status.is_open, status.opened, status.left), (False, None, None))

    def test_window(self) -> None:
        """While it is open: how far it is; what is left, while anything is held."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        status = coordinator.status()
        self.assertEqual(
            (status.answer.state, status.is_open, status.left), ("freezing", True, None)
        )
        a.do()
        self.clock.advance(20)
        status = coordinator.status()
        self.assertEqual((status.answer.state, status.left), ("holding", 100.0))
        opened = status.opened
        self.assertIsNotNone(opened)
        coordinator.post_sync(self.requester())
        status = coordinator.status()
        self.assertEqual(
            (status.answer.state, status.is_open, status.left), ("thawing", True, None)
        )
        a.do()
        status = coordinator.status()
        self.assertEqual((status.answer.state, status.is_open), ("synced", False))
        self.assertEqual((status.opened, status.left), (opened, None))
        self.assertEqual([run.phase for run in status.runs], ["thawed"])
        self.assertEqual(status.answer.window, self.answers[0].window)

    def test_problems(self) -> None:
        """Why it fails is seen from when that is known."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.fail(ParticipantError("exit status 1"))
        self.assertEqual(coordinator.status().answer.lines, ("a: exit status 1",))
        a.do()
        self.assertEqual(coordinator.status().answer.lines, ("a: exit status 1",))


class WatcherTests(CoordinatorTestCase):
    """Watchers are told of each change, once."""

    def test_window(self) -> None:
        """In their order, with the run that has changed."""
        a = self.actor("a")
        coordinator = self.keep(a)
        told: list[tuple[str, list[str]]] = []
        coordinator.watchers.append(
            lambda answer, changed: told.append((answer.state, [run.phase for run in changed]))
        )
        coordinator.sync(self.requester())
        a.do()
        coordinator.post_sync(self.requester())
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
        coordinator = self.keep(self.actor("a"))
        told: list[str] = []

        def leave(*_: object) -> None:
            coordinator.watchers.remove(leave)

        coordinator.watchers += [leave, lambda answer, _: told.append(answer.state)]
        coordinator.sync(self.requester())
        self.assertEqual(told[:2], ["freezing", "freezing"])

    def test_lines(self) -> None:
        """What went wrong is told once, with the state, and not again with each run."""
        a, b = self.actor("a", 10), self.actor("b", 20)
        coordinator = self.keep(a, b)
        told: list[tuple[int, int]] = []
        coordinator.watchers.append(
            lambda answer, changed: told.append((len(answer.lines), len(changed)))
        )
        coordinator.sync(self.requester())
        a.do()
        b.fail(ParticipantError("exit status 1"))
        b.do()
        a.do()
        self.assertIn((1, 0), told)
        self.assertNotIn((1, 1), told)

    def windows(self, count: int, watchers: Sequence[Watcher] = ()) -> int:
        """Run a window of so many that fail; tell how often it was put into words."""
        said: list[int] = []
        answer = WindowContext.answer

        def note(
            context: WindowContext, status: int, *lines: str, hold: float | None = None
        ) -> Answer:
            said.append(status)
            return answer(context, status, *lines, hold=hold)

        self.patch(WindowContext, "answer", note)
        self.record = Record(Path(self.mktemp()))
        self.record.path.parent.mkdir()
        actors = [Actor(f"a{number}", self.stage, abort=False) for number in range(count)]
        coordinator = self.keep(*actors)
        coordinator.watchers += watchers
        coordinator.sync(self.requester())
        for actor in actors:
            actor.fail(ParticipantError("exit status 1"))
        coordinator.post_sync(self.requester())
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
        coordinator = self.keep(a)

        def fail(*_: object) -> None:
            raise ValueError("no")

        coordinator.watchers.append(fail)
        coordinator.sync(self.requester())
        a.do()
        coordinator.post_sync(self.requester())
        a.do()
        self.assertEqual(self.stage, ["freeze a", "thaw a synced"])
        self.assertTrue(self.flushLoggedErrors(ValueError))
