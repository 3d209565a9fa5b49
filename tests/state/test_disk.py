"""The stamp that cannot be removed at once."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xohook.state.disk import REMOVE_AGAIN, Disk
from xohook.state.stamp import Stamp
from xohook.state.waiting_log import WaitingLog


class RemoveAgainTests(SynchronousTestCase):
    """A writer whose answers come when the test gives them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.orders: list[str] = []
        self.answers: list[Deferred[str]] = []
        self.disk = Disk(self.clock, Stamp(Path(self.mktemp())), WaitingLog(), self.ask)

    def ask(self, word: str, *_: bytes) -> Deferred[str]:
        """Take an order."""
        self.orders.append(word)
        self.answers.append(Deferred())
        return self.answers[-1]

    def lift(self) -> None:
        """Order that the stamp be removed."""
        self.lifting = Deferred.fromCoroutine(self.disk.remove_stamp())

    def press(self) -> None:
        """Write the stamp of the next window."""
        pressing = Deferred.fromCoroutine(self.disk.write_stamp("next", 0.0, ()))
        self.answers[-1].callback("")
        self.successResultOf(pressing)

    def test_again(self) -> None:
        """A removal that failed is tried again until one succeeds, and then no more."""
        self.lift()
        self.answers[-1].callback("Input/output error")
        self.successResultOf(self.lifting)
        self.clock.advance(REMOVE_AGAIN)
        self.answers[-1].callback("Input/output error")
        self.clock.advance(REMOVE_AGAIN)
        self.answers[-1].callback("")
        self.assertEqual(self.orders, ["lift"] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_next_window(self) -> None:
        """The stamp of the next window is not removed by it."""
        self.lift()
        self.answers[-1].callback("Input/output error")
        self.press()
        self.clock.advance(REMOVE_AGAIN)
        self.assertEqual(self.orders, ["lift", "press"])

    def test_twice(self) -> None:
        """Nor where it was to be removed twice, and neither could be done."""
        self.lift()
        self.lift()
        for each in self.answers:
            each.callback("Input/output error")
        self.press()
        self.clock.advance(REMOVE_AGAIN)
        self.assertEqual(self.orders, ["lift", "lift", "press"])

    def test_late_answer(self) -> None:
        """Nor where the writer says only in the next window that the removal has failed."""
        self.lift()
        lift = self.answers[-1]
        self.press()
        lift.callback("Input/output error")
        self.clock.advance(REMOVE_AGAIN)
        self.assertEqual(self.orders, ["lift", "press"])
