"""What happens in which order, noted by all in one list."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.acting import Actor
from tests.pressing import writer_of
from xohook.coordinator.participant_runs import ParticipantRun, WindowTerms
from xohook.coordinator.sequence import FreezeSequence, NotFrozenError
from xohook.coordinator.unthawed import UnthawedSet
from xohook.errors import ParticipantError
from xohook.state.disk import Disk
from xohook.state.stamp import Stamp
from xohook.state.waiting_log import WaitingLog


class NotedLog(WaitingLog):
    """A log that notes when it pauses and when it resumes.

    :param stage: where to note it.
    """

    def __init__(self, stage: list[str]) -> None:
        super().__init__()
        self._stage = stage
        self._is_paused = False

    def pause(self) -> None:
        """Note it."""
        self._stage.append("paused")
        self._is_paused = True
        super().pause()

    def resume(self) -> None:
        """Note it, where it was paused."""
        if self._is_paused:
            self._stage.append("resumed")
        self._is_paused = False
        super().resume()


class OrderTestCase(SynchronousTestCase):
    """A window whose participants the test moves."""

    def setUp(self) -> None:
        self.stage: list[str] = []
        self.actors: dict[str, Actor] = {}
        self.state_directory = Path(self.mktemp())
        self.state_directory.mkdir()
        self.stamp = Stamp(self.state_directory)

    def ask(self, word: str, *content: bytes) -> Deferred[str]:
        """Do what the writer would do, and note it with what the stamp says then."""
        done = writer_of(self.stamp.path)(word, *content)
        said = self.stamp.read()
        names = " ".join(entry.name for entry in said.at_rest) if said else "off"
        self.stage.append(f"stamp: {names}".rstrip())
        return done

    def actor(self, name: str, order: int, **how: bool) -> Actor:
        self.actors[name] = Actor(name, self.stage, order, **how)
        return self.actors[name]

    def sequence(self) -> FreezeSequence:
        """Put all actors in order, filesystems prepared before."""
        for actor in self.actors.values():
            if actor.freezes_filesystem:
                actor.need_preparing()
        runs = [ParticipantRun(actor, Clock(), lambda: None) for actor in self.actors.values()]
        disk = Disk(Clock(), self.stamp, NotedLog(self.stage), self.ask)
        terms = WindowTerms("w1", 99.0, lambda *_: None)
        return FreezeSequence(terms, 1234.5, runs, disk, UnthawedSet(Clock(), lambda: None))

    def freeze(self, sequence: FreezeSequence) -> Deferred[None]:
        return Deferred.fromCoroutine(sequence.freeze())

    def thaw(self, sequence: FreezeSequence, outcome: str = "synced") -> Deferred[tuple[str, ...]]:
        return Deferred.fromCoroutine(sequence.thaw(outcome))

    def do(self, *names: str) -> None:
        """Let them finish what they are at, one after the other."""
        for name in names:
            self.actors[name].do()

    def noted(self) -> list[str]:
        """Tell what has happened since this was asked last."""
        noted, self.stage[:] = self.stage[:], []
        return noted

    def refusal(self, freeze: Deferred[None]) -> tuple[str, ...]:
        """Give the lines of a freeze that failed."""
        error = self.failureResultOf(freeze, NotFrozenError).value
        assert isinstance(error, NotFrozenError)
        return error.lines


class FreezeTests(OrderTestCase):
    """The way to the hold."""

    def test_filesystem(self) -> None:
        """First the stamp, then who prepares; the log pauses before the first filesystem.

        That one comes after the others of its order. Who is at rest is told to the stamp before:
        it could not be later.
        """
        self.actor("disk", 90, freezes_filesystem=True)
        self.actor("lock", 90)
        self.actor("app", 10)
        self.actor("late", 95)
        sequence = self.sequence()
        freeze = self.freeze(sequence)
        self.assertEqual(self.noted(), ["stamp:", "prepare disk"])
        self.do("disk")
        self.assertEqual(self.noted(), ["freeze app"])
        self.do("app")
        self.assertEqual(self.noted(), ["freeze lock"])
        self.do("lock")
        self.assertEqual(self.noted(), ["stamp: app lock disk", "paused", "freeze disk"])
        self.do("disk")
        self.assertEqual(self.noted(), ["freeze late"])
        self.do("late")
        self.assertEqual(self.noted(), [])
        self.successResultOf(freeze)
        self.assertTrue(sequence.filesystem_frozen)

    def test_several_filesystems(self) -> None:
        """With several filesystems, the stamp and the pause come before the first of them."""
        self.actor("inner", 90, freezes_filesystem=True)
        self.actor("outer", 91, freezes_filesystem=True)
        freeze = self.freeze(self.sequence())
        self.do("inner", "outer", "inner")
        self.assertEqual(
            self.noted()[3:],
            ["stamp: inner outer", "paused", "freeze inner", "freeze outer"],
        )
        self.do("outer")
        self.successResultOf(freeze)
        self.assertEqual(self.noted(), [])

    def test_no_filesystem(self) -> None:
        """Without a filesystem the log never pauses, and the stamp is written again at the end."""
        self.actor("app", 10)
        self.actor("flush", 20, holds=False)
        freeze = self.freeze(self.sequence())
        self.do("app", "flush")
        self.successResultOf(freeze)
        self.assertEqual(self.noted(), ["stamp:", "freeze app", "freeze flush", "stamp: app"])

    def test_nobody(self) -> None:
        """With no participants nothing touches the disk, either way."""
        sequence = self.sequence()
        self.successResultOf(self.freeze(sequence))
        self.successResultOf(self.thaw(sequence))
        self.assertEqual(self.noted(), [])

    def test_first_stamp(self) -> None:
        """Where the first stamp cannot be written nothing is frozen."""
        self.actor("app", 10)
        self.state_directory.rmdir()
        lines = self.refusal(self.freeze(self.sequence()))
        self.assertEqual(
            lines, (f"cannot write the stamp {self.stamp.path}: No such file or directory",)
        )
        self.assertEqual(self.noted(), ["stamp: off"])

    def test_second_stamp(self) -> None:
        """Where the second cannot, no filesystem is frozen, and the log goes on."""
        self.actor("app", 10)
        self.actor("disk", 90, freezes_filesystem=True)
        sequence = self.sequence()
        freeze = self.freeze(sequence)
        self.do("disk")
        self.stamp.path.unlink()
        self.state_directory.rmdir()
        self.do("app")
        self.assertIn("cannot write the stamp", self.refusal(freeze)[0])
        self.assertEqual(self.noted()[-2:], ["freeze app", "stamp: off"])
        self.assertTrue(sequence.runs[0].may_hold)

    def test_last_stamp(self) -> None:
        """Where none freezes a filesystem and the last stamp cannot, the freeze fails too."""
        self.actor("app", 10)
        freeze = self.freeze(self.sequence())
        self.stamp.path.unlink()
        self.state_directory.rmdir()
        self.do("app")
        self.assertIn("cannot write the stamp", self.refusal(freeze)[0])

    def test_not_prepared(self) -> None:
        """One that is not prepared ends the window before anybody is frozen."""
        self.actor("app", 10)
        self.actor("disk", 90, freezes_filesystem=True)
        self.actor("other", 91, freezes_filesystem=True)
        freeze = self.freeze(self.sequence())
        self.actors["disk"].fail(ParticipantError("no such directory"))
        self.assertEqual(self.refusal(freeze), ("disk: no such directory",))
        self.assertEqual(
            self.noted(), ["stamp:", "prepare disk", "prepare other", "prepare other cancelled"]
        )

    def test_goes_on_unprepared(self) -> None:
        """Where it may fail, the others are frozen without it."""
        self.actor("app", 10)
        self.actor("disk", 90, freezes_filesystem=True, abort=False)
        freeze = self.freeze(self.sequence())
        self.actors["disk"].fail(ParticipantError("no such directory"))
        self.do("app")
        self.successResultOf(freeze)
        self.assertNotIn("freeze disk", self.noted())

    def test_cancelled(self) -> None:
        """Broken off in whatever it is at, it breaks that off, and goes on with nothing."""
        for steps in range(4):
            self.stage.clear()
            self.actor("app", 10)
            self.actor("lock", 60)
            self.actor("disk", 90, freezes_filesystem=True)
            freeze = self.freeze(self.sequence())
            self.do(*("disk", "app", "lock")[:steps])
            begun = self.noted()[-1]
            freeze.cancel()
            self.failureResultOf(freeze)
            self.assertEqual(self.noted(), [f"{begun} cancelled"])


class ThawTests(OrderTestCase):
    """The way back."""

    def hold(self) -> FreezeSequence:
        """Freeze, in this order: app, inner and outer (filesystems), late."""
        self.actor("app", 10)
        self.actor("inner", 90, freezes_filesystem=True)
        self.actor("outer", 91, freezes_filesystem=True)
        self.actor("late", 95)
        sequence = self.sequence()
        freeze = self.freeze(sequence)
        self.do("inner", "outer", "app", "inner", "outer", "late")
        self.successResultOf(freeze)
        self.noted()
        return sequence

    def test_reverse(self) -> None:
        """The log resumes when the last filesystem is thawed; the stamp goes at the end."""
        sequence = self.hold()
        thaw = self.thaw(sequence)
        self.do("late", "outer")
        self.assertEqual(
            self.noted(), ["thaw late synced", "thaw outer synced", "thaw inner synced"]
        )
        self.assertTrue(sequence.filesystem_frozen)
        self.do("inner")
        self.assertEqual(self.noted(), ["resumed", "thaw app synced"])
        self.assertFalse(sequence.filesystem_frozen)
        self.do("app")
        self.assertEqual(self.noted(), ["stamp: off"])
        self.assertEqual(self.successResultOf(thaw), ())

    def test_fails(self) -> None:
        """A thaw that fails stops none of this, and is told of."""
        thaw = self.thaw(self.hold())
        self.do("late", "outer")
        self.actors["inner"].fail(ParticipantError("somebody else had thawed it before"))
        self.do("app")
        # Who comes after it hears of that.
        self.assertEqual(self.noted()[-3:], ["resumed", "thaw app failed", "stamp: off"])
        self.assertEqual(
            self.successResultOf(thaw), ("inner: not thawed: somebody else had thawed it before",)
        )

    def test_fails_at_a_bad_end(self) -> None:
        """A window that is not good anyway ends for all as it ends."""
        for outcome, heard in (
            ("broken", "broken"),
            ("expired", "expired"),
            ("rehearsed", "failed"),
        ):
            thaw = self.thaw(self.hold(), outcome)
            self.actors["late"].fail(ParticipantError("exit status 1"))
            self.assertEqual(self.noted(), [f"thaw late {outcome}", f"thaw outer {heard}"])
            self.do("outer", "inner", "app")
            self.assertEqual(self.successResultOf(thaw), ("late: not thawed: exit status 1",))
            self.noted()

    def test_beside_one_that_fails(self) -> None:
        """Those of the same group, which were told before, have heard how it was then."""
        self.actor("first", 10)
        self.actor("one", 20)
        self.actor("other", 20)
        sequence = self.sequence()
        self.freeze(sequence)
        self.do("first", "one", "other")
        self.noted()
        self.thaw(sequence)
        self.actors["one"].fail(ParticipantError("exit status 1"))
        self.do("other")
        self.assertEqual(
            self.noted(), ["thaw one synced", "thaw other synced", "thaw first failed"]
        )

    def test_stamp_stays(self) -> None:
        """Where the stamp cannot be taken off, everything is thawed all the same."""
        sequence = self.hold()
        self.stamp.path.unlink()
        self.state_directory.rmdir()
        thaw = self.thaw(sequence)
        self.do("late", "outer", "inner", "app")
        self.assertEqual(self.successResultOf(thaw), ())

    def test_after_failure(self) -> None:
        """After a freeze that failed the log resumes once no filesystem can be frozen by it."""
        self.actor("app", 10)
        self.actor("disk", 90, freezes_filesystem=True)
        self.actor("never", 95)
        sequence = self.sequence()
        freeze = self.freeze(sequence)
        self.do("disk", "app")
        self.actors["disk"].fail(ParticipantError("it is too late"))
        self.assertEqual(self.refusal(freeze), ("disk: it is too late",))
        self.noted()
        thaw = self.thaw(sequence)
        self.assertEqual(self.noted(), ["thaw disk synced"])
        self.do("disk", "app")
        self.assertEqual(self.noted(), ["resumed", "thaw app synced", "stamp: off"])
        self.successResultOf(thaw)


class HoldTests(OrderTestCase):
    """What is asked of a window that holds."""

    def flush(self, sequence: FreezeSequence) -> Deferred[None]:
        return Deferred.fromCoroutine(sequence.flush())

    def test_flush(self) -> None:
        """Those with nothing to thaw are frozen again, in order."""
        self.actor("second", 20, holds=False)
        self.actor("app", 15)
        self.actor("first", 10, holds=False)
        sequence = self.sequence()
        self.freeze(sequence)
        self.do("first", "app", "second")
        self.noted()
        flush = self.flush(sequence)
        self.do("first", "second")
        self.assertEqual(self.noted(), ["freeze first", "freeze second"])
        self.successResultOf(flush)

    def test_flush_while_still(self) -> None:
        """While nothing can be written nothing is flushed: it would hang, and nothing is dirty."""
        self.actor("flush", 10, holds=False)
        self.actor("disk", 90, freezes_filesystem=True)
        sequence = self.sequence()
        self.freeze(sequence)
        self.do("disk", "flush", "disk")
        self.noted()
        self.successResultOf(self.flush(sequence))
        self.assertEqual(self.noted(), [])

    def test_extend(self) -> None:
        """Whoever holds, or is about to, hears until when."""
        for name, place, holds in (("lock", 10, True), ("flush", 20, False), ("late", 30, True)):
            self.actor(name, place, holds=holds)
        sequence = self.sequence()
        self.freeze(sequence)
        self.do("lock")
        sequence.extend(120.5)
        heard = {name: actor.until for name, actor in self.actors.items()}
        self.assertEqual(heard, {"lock": 120.5, "flush": 0.0, "late": 0.0})
        self.do("flush")
        sequence.extend(121.5)
        self.assertEqual(self.actors["late"].until, 121.5)
