"""Tests for :mod:`xohook.participants.app`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import ParticipantError
from xohook.participants import Operation
from xohook.participants.app import HEAD_START, App, absent

UNTIL = 170.5


class Answering:
    """An app's end of its connection, in the test's hands."""

    def __init__(self) -> None:
        self.is_open = True
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.call_made: Deferred[Any] = Deferred()

    def call(self, method: str, params: Mapping[str, Any]) -> Deferred[Any]:
        """Note it and wait for the test."""
        self.asked.append((method, params))
        self.call_made = Deferred()
        return self.call_made

    def close(self) -> None:
        """End."""
        self.is_open = False


class AppTestCase(SynchronousTestCase):
    """An app whose answers the test gives."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.remote = Answering()
        self.app = App(self.clock, "orders", self.remote)
        self.let_go: list[str] = []

    def operation(self, outcome: str = "", until: float = UNTIL) -> Operation:
        def note(process: Mapping[str, Any]) -> None:
            raise AssertionError("an app has no process")

        return Operation("w1", 30.0, outcome, note, until, self.let_go.append)

    def frozen(self) -> None:
        """Freeze it."""
        freeze = self.app.freeze(self.operation())
        self.remote.call_made.callback({})
        self.assertEqual(self.successResultOf(freeze), b"")


class FreezeTests(AppTestCase):
    """What an app is asked for when it is to freeze, and what comes of its answer."""

    def test_asked(self) -> None:
        """It hears its name, the window, its timeout, and how long from now it is to hold."""
        self.clock.advance(10)
        self.app.freeze(self.operation())
        params = {"name": "orders", "window": "w1", "timeout": 30.0, "hold": 160.5}
        self.assertEqual(self.remote.asked, [("freeze", params)])

    def test_any_result(self) -> None:
        """Whatever it says that is not an error means that it is frozen."""
        values: list[Any] = [None, {}, "no", False, [1]]
        for value in values:
            freeze = self.app.freeze(self.operation())
            self.remote.call_made.callback(value)
            self.assertEqual(self.successResultOf(freeze), b"")

    def test_error(self) -> None:
        """An error is a failed freeze; it does not hold, and lets go of nothing later."""
        freeze = self.app.freeze(self.operation())
        self.remote.call_made.errback(ParticipantError("busy"))
        self.assertEqual(str(self.failureResultOf(freeze, ParticipantError).value), "busy")
        self.app.end()
        self.assertEqual((self.let_go, self.clock.getDelayedCalls()), ([], []))

    def test_end_while_freezing(self) -> None:
        """The end of its connection before its answer lets go of nothing: it did not hold yet."""
        self.app.freeze(self.operation())
        self.app.end()
        self.assertEqual(self.let_go, [])


class LetGoTests(AppTestCase):
    """A frozen app that goes on by itself."""

    def test_end(self) -> None:
        """It lets go when its connection ends, once."""
        self.frozen()
        self.app.end()
        self.app.end()
        self.assertEqual(self.let_go, ["its connection ended while it was frozen"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hold(self) -> None:
        """It lets go before the hold that it was told of is over, never after."""
        self.frozen()
        self.clock.advance(UNTIL - HEAD_START - 0.01)
        self.assertEqual(self.let_go, [])
        self.clock.advance(0.01)
        [reason] = self.let_go
        self.assertIn("for as long as it was told to", reason)
        self.app.end()
        self.assertEqual(len(self.let_go), 1)

    def test_late_answer(self) -> None:
        """One that answers when the hold is as good as over lets go at once."""
        freeze = self.app.freeze(self.operation(until=1.0))
        self.clock.advance(5.0)
        self.remote.call_made.callback({})
        self.successResultOf(freeze)
        self.clock.advance(0)
        self.assertEqual(len(self.let_go), 1)

    def test_not_extended(self) -> None:
        """A longer hold does not change what it was told."""
        self.frozen()
        self.app.extend(UNTIL + 100)
        self.clock.advance(UNTIL)
        self.assertEqual(len(self.let_go), 1)


class ThawTests(AppTestCase):
    """The thaw of an app."""

    def test_asked(self) -> None:
        """It hears its name, the window and the outcome, and lets go of nothing any more."""
        self.frozen()
        thaw = self.app.thaw(self.operation("synced"))
        params = {"name": "orders", "window": "w1", "outcome": "synced"}
        self.assertEqual(self.remote.asked[1:], [("thaw", params)])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.app.end()
        self.assertEqual(self.let_go, [])
        self.remote.call_made.callback({"anything": 1})
        self.assertEqual(self.successResultOf(thaw), b"")

    def test_error(self) -> None:
        """An error is a failed thaw."""
        self.frozen()
        thaw = self.app.thaw(self.operation("synced"))
        self.remote.call_made.errback(ParticipantError("stuck"))
        self.assertEqual(str(self.failureResultOf(thaw, ParticipantError).value), "stuck")

    def test_gone(self) -> None:
        """One whose connection has ended is thawed already, and is asked for nothing."""
        self.frozen()
        self.remote.is_open = False
        self.app.end()
        self.assertEqual(self.successResultOf(self.app.thaw(self.operation("broken"))), b"")
        self.assertEqual(len(self.remote.asked), 1)

    def test_gone_unnoticed(self) -> None:
        """One that is found gone when it is to thaw may have gone before: it counts as failed."""
        self.frozen()
        self.remote.is_open = False
        thaw = self.app.thaw(self.operation("synced"))
        self.assertIn("its connection ended", str(self.failureResultOf(thaw).value))

    def test_expired_unnoticed(self) -> None:
        """An agent that was stopped until after the hold tells it to thaw, and counts it failed."""
        self.frozen()
        # Time passes, and nothing is called.
        self.clock.rightNow += UNTIL
        thaw = self.app.thaw(self.operation("synced"))
        self.remote.call_made.callback({})
        self.assertIn("for as long as it was told", str(self.failureResultOf(thaw).value))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lapse_that_is_no_matter(self) -> None:
        """One without which the window goes on spoils nothing."""
        self.app.abort = False
        self.frozen()
        self.clock.rightNow += UNTIL
        thaw = self.app.thaw(self.operation("synced"))
        self.remote.call_made.callback({})
        self.assertEqual(self.successResultOf(thaw), b"")

    def test_never_frozen(self) -> None:
        """One whose freeze failed is told to thaw all the same."""
        freeze = self.app.freeze(self.operation())
        self.remote.call_made.errback(ParticipantError("busy"))
        self.failureResultOf(freeze, ParticipantError)
        self.app.thaw(self.operation("failed"))
        self.assertEqual([method for method, _ in self.remote.asked], ["freeze", "thaw"])


class LapseTests(AppTestCase):
    """An agent that was stopped itself learns of what happened meanwhile only when it thaws."""

    def stopped(self, seconds: float) -> None:
        """Let time pass in which the agent does nothing, and none of its calls are made."""
        self.clock.rightNow += seconds

    def thawed(self, outcome: str) -> str:
        """Thaw it, and tell what is wrong with that."""
        thaw = self.app.thaw(self.operation(outcome))
        if self.remote.is_open:
            self.remote.call_made.callback({})
        problems: list[str] = []
        thaw.addErrback(lambda failure: problems.append(failure.getErrorMessage()))
        return "".join(problems)

    def test_expired(self) -> None:
        """A good end is not to be trusted where the hold had ended before, though it is thawed."""
        self.frozen()
        self.stopped(UNTIL - HEAD_START)
        self.assertIn("for as long as it was told to", self.thawed("synced"))
        self.assertEqual([method for method, _ in self.remote.asked], ["freeze", "thaw"])

    def test_in_time(self) -> None:
        """Before that it is."""
        self.frozen()
        self.stopped(UNTIL - HEAD_START - 1)
        self.assertEqual(self.thawed("synced"), "")

    def test_ended(self) -> None:
        """Nor is it where the connection had ended before."""
        self.frozen()
        self.remote.is_open = False
        self.assertIn("its connection ended", self.thawed("synced"))

    def test_noticed_in_the_thaw_of_others(self) -> None:
        """It is not forgotten where it is noticed when the window's end is settled already."""
        self.frozen()
        self.remote.is_open = False
        self.app.end()
        self.assertIn("its connection ended", self.thawed("synced"))
        self.remote.is_open = True
        self.frozen()
        self.assertEqual(self.thawed("synced"), "")
        self.frozen()
        self.clock.advance(UNTIL)
        self.assertIn("for as long as it was told to", self.thawed("synced"))

    def test_no_matter(self) -> None:
        """An app without which the window goes on may go away at any time."""
        self.app.abort = False
        self.frozen()
        self.remote.is_open = False
        self.app.end()
        self.assertEqual(self.thawed("synced"), "")

    def gone_in_its_thaw(self) -> Deferred[bytes]:
        """Have its connection end after it was told to thaw, before it has said that it did."""
        self.frozen()
        thaw = self.app.thaw(self.operation("synced"))
        self.remote.is_open = False
        self.remote.call_made.errback(ParticipantError("its connection ended before it answered"))
        return thaw

    def test_ended_in_its_thaw(self) -> None:
        """Of one that matters nobody knows then whether it had held until the end."""
        failure = self.failureResultOf(self.gone_in_its_thaw(), ParticipantError)
        self.assertIn("its connection ended", failure.getErrorMessage())

    def test_ended_in_its_thaw_of_little_matter(self) -> None:
        """One without which the window goes on spoils nothing by that; by a refusal it does."""
        self.app.abort = False
        self.assertEqual(self.successResultOf(self.gone_in_its_thaw()), b"")
        self.remote.is_open = True
        self.frozen()
        thaw = self.app.thaw(self.operation("synced"))
        self.remote.call_made.errback(ParticipantError("no way"))
        self.assertIn("no way", self.failureResultOf(thaw, ParticipantError).getErrorMessage())

    def test_rehearsed(self) -> None:
        """A rehearsal has a good end too."""
        self.frozen()
        self.remote.is_open = False
        self.assertIn("its connection ended", self.thawed("rehearsed"))

    def test_other_ends(self) -> None:
        """A window that is not good anyway is not made worse by it."""
        for outcome in ("broken", "stopped", "expired", "failed", "cancelled", "ambiguous"):
            self.frozen()
            self.remote.is_open = False
            self.assertEqual(self.thawed(outcome), "")
            self.remote.is_open = True

    def test_of_little_matter(self) -> None:
        """Nor is one in which the app does not matter."""
        self.app.abort = False
        self.frozen()
        self.remote.is_open = False
        self.assertEqual(self.thawed("synced"), "")


class BesidesTests(AppTestCase):
    """What else a participant is asked."""

    def test_nothing_to_do(self) -> None:
        """Nothing is owed, printed, or waited for."""
        self.assertEqual((self.app.recovery_data(), self.app.tail()), ({}, b""))
        self.assertIsNone(self.successResultOf(self.app.when_quiet()))
        self.assertEqual((self.app.freezes_filesystem, self.app.unthawed), (False, None))
        self.assertIsNone(self.app.prepare)


class AbsentTests(AppTestCase):
    """An app that has to take part and is not registered."""

    def test_freeze(self) -> None:
        """Its freeze fails, and says what to do; there is nothing to thaw."""
        app = absent(self.clock, "orders")
        error = self.failureResultOf(app.freeze(self.operation()), ParticipantError).value
        self.assertIn("not registered, and required: start the app", str(error))
        self.assertEqual((app.name, app.holds), ("app:orders", False))
