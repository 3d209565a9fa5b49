"""Tests for :mod:`xohook.coordinator.participant_runs`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.acting import Actor, Frozen
from xohook.coordinator.participant_runs import ParticipantRun, WindowTerms
from xohook.errors import ParticipantError, RecordError
from xohook.participants import Unthawed
from xohook.state.record import Entry


class StepTestCase(SynchronousTestCase):
    """One run, its participant in the test's hands."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stage: list[str] = []
        self.actor = Actor("a", self.stage)
        self.unwritable = False
        self.seen: list[str] = []
        self.a_run = ParticipantRun(self.actor, self.clock, self.write, self.changed)

    def write(self) -> None:
        self.stage.append(f"record {dict(self.a_run.process)}")
        if self.unwritable:
            raise RecordError("cannot write the record")

    def changed(self, run: ParticipantRun) -> None:
        self.seen.append(run.phase)

    def freeze(self) -> Deferred[None]:
        return Deferred.fromCoroutine(
            self.a_run.freeze(WindowTerms("w1", 9.0, lambda _, reason: self.stage.append(reason)))
        )

    def thaw(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.a_run.thaw("w1", "synced"))


class FreezeTests(StepTestCase):
    """A freeze, and how it can end."""

    def test_good(self) -> None:
        """It is frozen, and how long that took is kept."""
        freeze = self.freeze()
        self.assertEqual(
            (self.a_run.phase, self.a_run.process), ("freezing", {"pid": 1, "started": 2})
        )
        self.clock.advance(2.5)
        self.actor.do(b"all well")
        self.successResultOf(freeze)
        self.assertEqual(
            (self.a_run.phase, self.a_run.seconds, self.a_run.output),
            ("frozen", 2.5, b"all well"),
        )
        self.assertEqual(self.a_run.process, {})

    def test_asked(self) -> None:
        """The participant hears the window, its own timeout, and no outcome."""
        self.freeze()
        [operation] = self.actor.operations
        self.assertEqual((operation.window, operation.timeout, operation.outcome), ("w1", 30.0, ""))

    def test_fails(self) -> None:
        """A failure is kept with its output, and ends the window."""
        freeze = self.freeze()
        self.actor.fail(ParticipantError("exit status 1", b"oh no"))
        self.failureResultOf(freeze, ParticipantError)
        self.assertEqual(
            (self.a_run.phase, self.a_run.freeze_problem, self.a_run.output),
            ("failed", "exit status 1", b"oh no"),
        )
        self.assertTrue(self.a_run.may_hold)

    def test_continue(self) -> None:
        """With on_failure = continue the window does not end by it."""
        self.actor.abort = False
        freeze = self.freeze()
        self.actor.fail(ParticipantError("exit status 1"))
        self.successResultOf(freeze)
        self.assertEqual((self.a_run.phase, self.a_run.freeze_problem), ("failed", "exit status 1"))

    def test_timeout(self) -> None:
        """At its timeout, and not before, it is ended."""
        freeze = self.freeze()
        self.clock.advance(29.9)
        self.assertNoResult(freeze)
        self.clock.advance(0.1)
        self.failureResultOf(freeze, ParticipantError)
        self.assertEqual(self.a_run.freeze_problem, "not done within 30s, and told to end")
        self.assertEqual(self.stage[-1], "freeze a cancelled")

    def test_cancelled(self) -> None:
        """One that is broken off counts as failed, so that it is undone."""
        freeze = self.freeze()
        freeze.cancel()
        self.failureResultOf(freeze, CancelledError)
        self.assertEqual((self.a_run.phase, self.a_run.freeze_problem), ("failed", "broken off"))
        self.assertTrue(self.a_run.may_hold)

    def test_process_that_is_being_ended(self) -> None:
        """Until what was broken off is gone its process stands in the record."""
        self.freeze().addErrback(lambda _: None)
        self.clock.advance(30.0)
        self.assertEqual(self.a_run.process, {"pid": 1, "started": 2})
        self.assertEqual(self.a_run.output, b"so far")
        self.actor.quiet = Deferred()
        self.thaw()
        self.assertEqual(self.a_run.process, {"pid": 1, "started": 2})
        self.actor.quiet.callback(None)
        self.assertEqual(self.a_run.process, {"pid": 2, "started": 2})

    def test_record_first(self) -> None:
        """Where the record cannot be written the freeze fails with the reason."""
        self.unwritable = True
        self.failureResultOf(self.freeze(), ParticipantError)
        self.assertEqual(self.a_run.freeze_problem, "cannot write the record")

    def test_quiet_first(self) -> None:
        """What was broken off before must be gone before it begins."""
        self.actor.quiet = Deferred()
        freeze = self.freeze()
        self.assertEqual(self.stage, [])
        self.actor.quiet.callback(None)
        self.assertEqual(self.stage, ["freeze a", "record {'pid': 1, 'started': 2}"])
        self.actor.do()
        self.successResultOf(freeze)

    def test_fault(self) -> None:
        """A fault of the program itself is told as one."""
        freeze = self.freeze()
        self.actor.fail(ZeroDivisionError("by zero"))
        self.failureResultOf(freeze, ParticipantError)
        self.assertIn("a fault of xohook itself: ZeroDivisionError", self.a_run.freeze_problem)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class PrepareTests(StepTestCase):
    """What comes before the first freeze."""

    def setUp(self) -> None:
        super().setUp()
        self.actor.need_preparing()

    def prepare(self) -> Deferred[None]:
        terms = WindowTerms("w1", 9.0, lambda _, reason: self.stage.append(reason))
        return Deferred.fromCoroutine(self.a_run.prepare(terms))

    def test_good(self) -> None:
        """It is prepared, and may hold from the beginning of that on; its freeze follows."""
        prepare = self.prepare()
        self.assertEqual(self.a_run.phase, "preparing")
        self.assertTrue(self.a_run.may_hold)
        self.actor.do()
        self.successResultOf(prepare)
        self.assertEqual((self.a_run.phase, self.stage[0]), ("prepared", "prepare a"))
        freeze = self.freeze()
        self.actor.do()
        self.successResultOf(freeze)
        self.assertEqual(self.a_run.phase, "frozen")

    def test_nothing_to_do(self) -> None:
        """One that needs none is as it was."""
        self.actor.prepare = None
        self.successResultOf(self.prepare())
        self.assertEqual((self.a_run.phase, self.stage), ("waiting", []))

    def test_told(self) -> None:
        """It hears until when a guard holds, and how to tell that it has let go."""
        self.prepare()
        [operation] = self.actor.operations
        self.assertEqual((operation.window, operation.until), ("w1", 9.0))
        operation.let_go("its guard has ended")
        self.assertEqual(self.stage[-1], "its guard has ended")

    def test_fails(self) -> None:
        """A failure ends the window, and what it may have started is ended by its thaw."""
        prepare = self.prepare()
        self.actor.fail(ParticipantError("no such directory"))
        self.failureResultOf(prepare, ParticipantError)
        self.assertEqual(self.a_run.freeze_problem, "no such directory")
        self.assertTrue(self.a_run.may_hold)

    def test_continue(self) -> None:
        """With on_failure = continue it is left out of the freeze, its reason kept."""
        self.actor.abort = False
        prepare = self.prepare()
        self.actor.fail(ParticipantError("no such directory"))
        self.successResultOf(prepare)
        begun = len(self.stage)
        self.successResultOf(self.freeze())
        self.assertEqual(len(self.stage), begun)
        self.assertEqual(self.a_run.freeze_problem, "no such directory")

    def test_timeout(self) -> None:
        """It may take as long as a freeze."""
        prepare = self.prepare()
        self.clock.advance(30.0)
        self.failureResultOf(prepare, ParticipantError)
        self.assertEqual(self.a_run.freeze_problem, "not done within 30s, and told to end")
        self.assertEqual(self.stage[-1], "prepare a cancelled")

    def test_cancelled(self) -> None:
        """Broken off, it counts as failed."""
        prepare = self.prepare()
        prepare.cancel()
        self.failureResultOf(prepare, CancelledError)
        self.assertEqual((self.a_run.phase, self.a_run.freeze_problem), ("failed", "broken off"))


class ThawTests(StepTestCase):
    """A thaw, and how it can end."""

    def setUp(self) -> None:
        super().setUp()
        self.a_run.phase = "frozen"

    def test_good(self) -> None:
        """It is thawed, and hears how the window ended."""
        thaw = self.thaw()
        self.assertEqual(self.a_run.phase, "thawing")
        self.actor.do()
        self.successResultOf(thaw)
        self.assertEqual((self.a_run.phase, self.a_run.thaw_problem), ("thawed", ""))
        self.assertEqual(
            (self.actor.operations[0].outcome, self.actor.operations[0].timeout), ("synced", 20.0)
        )

    def test_fails(self) -> None:
        """A failure is kept, and it is not owed any more."""
        thaw = self.thaw()
        self.actor.fail(ParticipantError("exit status 1", b"oh no"))
        self.successResultOf(thaw)
        self.assertEqual((self.a_run.phase, self.a_run.thaw_problem), ("thawed", "exit status 1"))
        self.assertIsNone(self.a_run.entry())

    def test_unwritable(self) -> None:
        """It goes on where the record cannot be written."""
        self.unwritable = True
        thaw = self.thaw()
        self.actor.do()
        self.successResultOf(thaw)
        self.assertEqual(self.a_run.thaw_problem, "")

    def test_nothing_to_do(self) -> None:
        """What has not begun, has been thawed or holds nothing is not thawed."""
        for phase, holds in (("waiting", True), ("thawed", True), ("frozen", False)):
            self.a_run.phase, self.actor.holds = phase, holds
            self.successResultOf(self.thaw())
        self.assertEqual(self.stage, [])

    def test_first_words(self) -> None:
        """What a failed freeze wrote is not replaced by what its thaw writes."""
        self.a_run.freeze_problem, self.a_run.output = "exit status 1", b"why"
        thaw = self.thaw()
        self.actor.do(b"undone")
        self.successResultOf(thaw)
        self.assertEqual(self.a_run.output, b"why")


class ChangedTests(StepTestCase):
    """Each change of the phase is told, when all else of it is as it says."""

    def test_good(self) -> None:
        """A whole way, prepared first."""
        self.actor.need_preparing()
        terms = WindowTerms("w1", 9.0, lambda _, reason: None)
        prepare = Deferred.fromCoroutine(self.a_run.prepare(terms))
        self.actor.do()
        self.successResultOf(prepare)
        freeze = self.freeze()
        self.actor.do()
        self.successResultOf(freeze)
        thaw = self.thaw()
        self.actor.do()
        self.successResultOf(thaw)
        self.assertEqual(
            self.seen, ["preparing", "prepared", "freezing", "frozen", "thawing", "thawed"]
        )

    def test_failed(self) -> None:
        """The reason is known when a failure is told."""
        problems: list[str] = []
        self.a_run.changed = lambda run: problems.append(run.freeze_problem)
        self.freeze().addErrback(lambda _: None)
        self.actor.fail(ParticipantError("exit status 1"))
        self.assertEqual(problems, ["", "exit status 1"])

    def test_broken_off(self) -> None:
        """So it is when the freeze is broken off."""
        freeze = self.freeze().addErrback(lambda _: None)
        freeze.cancel()
        self.assertEqual(
            (self.seen, self.a_run.freeze_problem), (["freezing", "failed"], "broken off")
        )

    def test_unthawed(self) -> None:
        """What may still be frozen is handed over, and counts as thawed once it is."""
        adopted: list[Unthawed] = []
        self.a_run.adopt = lambda unthawed, _: adopted.append(unthawed)
        self.a_run.phase = "frozen"
        frozen = self.actor.unthawed = Frozen()
        self.thaw()
        self.actor.fail(ParticipantError("no answer"))
        self.assertEqual((self.seen, adopted), (["thawing", "stuck"], [frozen]))
        frozen.forget()
        self.assertEqual(self.seen[-1], "thawed")

    def test_nothing_to_do(self) -> None:
        """Where nothing is done nothing is told."""
        self.successResultOf(self.thaw())
        self.assertEqual(self.seen, [])


class RecordTests(StepTestCase):
    """The record is written where there is something in it for the next start."""

    def test_nothing_owed(self) -> None:
        """A participant that owes nothing and runs no process never has it written."""
        self.patch(self.actor, "recovery_data", dict)
        self.a_run.write = lambda: self.stage.append("record")
        freeze = self.freeze()
        self.assertEqual(self.stage, ["freeze a", "record"])
        self.actor.do()
        self.successResultOf(freeze)
        self.patch(self.actor, "_begin", lambda what, phase: Deferred())
        self.thaw()
        self.assertEqual(self.stage, ["freeze a", "record"])


class EntryTests(StepTestCase):
    """What the record must hold."""

    def test_by_phase(self) -> None:
        """A participant that may hold is in it, from its freeze's beginning to its thaw's end."""
        entry = Entry("a", 40, {"name": "a"}, {})
        for phase in ("freezing", "frozen", "failed", "thawing"):
            self.a_run.phase = phase
            self.assertEqual(self.a_run.entry(), entry)
        for phase in ("waiting", "thawed"):
            self.a_run.phase = phase
            self.assertIsNone(self.a_run.entry())

    def test_flush(self) -> None:
        """One that only flushes is in it while its process runs."""
        self.actor.holds = False
        freeze = self.freeze()
        self.assertEqual(
            self.a_run.entry(), Entry("a", 40, {"name": "a"}, {"pid": 1, "started": 2})
        )
        self.actor.do()
        self.successResultOf(freeze)
        self.assertIsNone(self.a_run.entry())
