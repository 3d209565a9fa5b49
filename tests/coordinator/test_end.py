"""The ways in which a window ends, its guards, and a shutdown."""

from __future__ import annotations

import gc

from twisted.internet.defer import Deferred

from tests.acting import Actor, Frozen
from tests.coordinator.coordinator_case import CoordinatorTestCase
from xohook.coordinator.coordinator import Coordinator
from xohook.coordinator.executor import GUARD_GRACE, STOP_WAITS
from xohook.errors import ParticipantError
from xohook.state.disk import Disk
from xohook.state.record import Entry


class GuardedTests(CoordinatorTestCase):
    """Guards hold as long as the window does, and a moment more."""

    def test_until(self) -> None:
        """At first until the freeze and the hold are over at the latest, then until the hold is."""
        self.clock.advance(1000.0)
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        [operation] = a.operations
        self.assertEqual(operation.until, 1000.0 + 50.0 + 120.0 + GUARD_GRACE)
        self.clock.advance(10.0)
        a.do()
        self.assertEqual(a.until, 1010.0 + 120.0 + GUARD_GRACE)

    def test_joined(self) -> None:
        """Another answer lets them hold longer, one that is still owed not so long."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        self.clock.advance(30.0)
        coordinator.sync(self.requester())
        self.assertEqual(a.until, 30.0 + 120.0 + GUARD_GRACE)
        coordinator.post_sync(self.requester())
        self.assertEqual(a.until, 30.0 + 60.0 + GUARD_GRACE)

    def test_rehearsal(self) -> None:
        """A rehearsal's guards hold no longer than it does."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.rehearse(self.requester(), 5.0)
        a.do()
        self.assertEqual(a.until, 5.0 + GUARD_GRACE)

    def test_lets_go(self) -> None:
        """What a guard tells by the way that its phase gave it ends the hold as broken."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        a.operations[0].let_go("its guard has ended")
        self.assertEqual(self.stage[1:], ["thaw a broken"])

    def test_does_not_matter(self) -> None:
        """One whose failure does not matter may let go, and the window is as good as before."""
        a = self.actor("a")
        a.abort = False
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        a.operations[0].let_go("its guard has ended")
        self.assertEqual(self.stage, ["freeze a"])
        coordinator.post_sync(self.requester())
        a.do()
        self.assertEqual(self.statuses, [200, 200])


class CancelledTests(CoordinatorTestCase):
    """A requester that goes away breaks off whatever the freeze is at."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.filesystem("disk")
        self.first = self.actor("first", 10)
        self.coordinator = self.keep(self.disk, self.first)
        self.one = self.requester()
        self.coordinator.sync(self.one)

    def leave(self) -> list[str]:
        """Let the requester go; what happens then."""
        begun = len(self.stage)
        self.coordinator.gone(self.one)
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

    def test_filesystem(self) -> None:
        """While the filesystem freezes."""
        self.disk.do()
        self.first.do()
        self.assertEqual(self.leave(), ["freeze disk cancelled", "thaw disk cancelled"])

    def test_next(self) -> None:
        """The next window finds nothing of it: no stamp, no record but for its ``/post-sync``."""
        self.leave()
        self.disk.do()
        self.assertEqual(list(self.state_directory.iterdir()), [])
        self.assertEqual(len(self.record.read().late_post_syncs), 1)
        self.coordinator.post_sync(self.requester())
        self.coordinator.sync(self.requester())
        self.disk.do()
        self.first.do()
        self.disk.do()
        self.assertEqual(self.statuses, [200, 200])


class StopTests(CoordinatorTestCase):
    """A shutdown thaws, and waits for programs, but not for ever."""

    def stop(self, coordinator: Coordinator) -> Deferred[None]:
        return Deferred.fromCoroutine(coordinator.stop())

    def test_idle(self) -> None:
        """With no window open there is nothing to wait for; /sync hears 503 from then on."""
        coordinator = self.keep(self.actor("a"))
        self.successResultOf(self.stop(coordinator))
        coordinator.sync(self.requester())
        self.assertEqual(self.statuses, [503])

    def test_holding(self) -> None:
        """It is over when all is thawed."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        stopped = self.stop(coordinator)
        self.assertEqual(self.stage[1:], ["thaw a stopped"])
        self.assertNoResult(stopped)
        a.do()
        self.successResultOf(stopped)

    def test_program_that_does_not_end(self) -> None:
        """A program that does not end is waited for so long and no longer."""
        a = self.actor("a", holds=False)
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        a.quiet = Deferred()
        stopped = self.stop(coordinator)
        self.clock.advance(STOP_WAITS - 0.1)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.successResultOf(stopped)
        del stopped, coordinator
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])


class EndTests(CoordinatorTestCase):
    """A window can end otherwise than by its /post-sync."""

    def test_let_go(self) -> None:
        """A participant that lets go by itself ends the hold as broken."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        a.operations[0].let_go("connection lost")
        self.assertEqual(self.stage[1:], ["thaw a broken"])
        a.do()
        coordinator.post_sync(self.requester())
        self.assertEqual(self.statuses, [200, 500])

    def test_let_go_of_little_matter(self) -> None:
        """With on_failure = continue the hold goes on, and the window is synced."""
        a = Actor("a", self.stage, abort=False)
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        a.operations[0].let_go("connection lost")
        coordinator.post_sync(self.requester())
        self.assertEqual(self.stage[1:], ["thaw a synced"])
        a.do()
        self.assertEqual(self.statuses, [200, 200])

    def test_unthawed(self) -> None:
        """Where a thaw fails nothing is written to a disk, and the next start is told of it."""
        a = Actor("a", self.stage, freezes_filesystem=True)
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        removed: list[Disk] = []

        async def remove_stamp(disk: Disk) -> None:
            removed.append(disk)

        self.patch(Disk, "remove_stamp", remove_stamp)
        coordinator.post_sync(self.requester())
        frozen = a.unthawed = Frozen()
        a.fail(ParticipantError("no answer"))
        self.assertEqual(self.statuses, [200, 500])
        self.assertEqual(removed, [])
        self.assertEqual([entry.name for entry in self.record.read().entries], ["a"])
        frozen.forget()
        self.assertEqual(self.record.read().entries, ())
        self.assertEqual(len(removed), 1)

    def test_no_window_over_it(self) -> None:
        """While something may be frozen no window opens; the thaw is tried before that is said."""
        a = Actor("a", self.stage)
        coordinator = self.keep(a)
        frozen = Frozen()
        coordinator.unthawed.add(frozen, Entry("filesystem:a", 90, {}, {}))
        coordinator.sync(self.requester())
        self.assertEqual((self.statuses, self.stage, frozen.attempts), ([500], [], 1))
        frozen.is_answering = True
        coordinator.sync(self.requester())
        self.assertEqual((self.stage, frozen.attempts), (["freeze a"], 2))

    def test_tried_again(self) -> None:
        """The thaw is tried again after 1 s, and then at least every 30 s."""
        coordinator = self.keep()
        frozen = Frozen()
        coordinator.unthawed.add(frozen, Entry("filesystem:a", 90, {}, {}))
        self.clock.advance(1)
        self.assertEqual(frozen.attempts, 1)
        for _ in range(300):
            self.clock.advance(1)
        self.assertGreaterEqual(frozen.attempts, 10)
        frozen.is_answering = True
        for _ in range(30):
            self.clock.advance(1)
        self.assertFalse(coordinator.unthawed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_tried_at_the_end(self) -> None:
        """It is tried at a shutdown, which goes on where it fails; the record keeps it."""
        coordinator = self.keep()
        frozen = Frozen()
        coordinator.unthawed.add(frozen, Entry("filesystem:a", 90, {}, {}))
        self.successResultOf(Deferred.fromCoroutine(coordinator.stop()))
        self.assertEqual(frozen.attempts, 1)
        self.assertEqual([entry.name for entry in self.record.read().entries], ["filesystem:a"])

    def test_own_fault(self) -> None:
        """A fault of the thaw itself ends the window, as failed, and not the agent."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        self.patch(Disk, "remove_stamp", lambda _: 1 / 0)
        coordinator.post_sync(self.requester())
        a.do()
        self.assertEqual(self.statuses, [200, 500])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        coordinator.sync(self.requester())
        self.assertEqual(self.stage[-1], "freeze a")

    def test_thaw_now(self) -> None:
        """An administrator ends it; the answer comes when all is thawed."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.sync(self.requester())
        a.do()
        coordinator.thaw_now(self.requester())
        self.assertEqual((self.stage[1:], self.statuses), (["thaw a stopped"], [200]))
        a.do()
        self.assertEqual((self.statuses, self.answers[1].state), ([200, 500], "stopped"))

    def test_gone(self) -> None:
        """A requester that goes away during the freeze has it broken off and undone."""
        a = self.actor("a")
        coordinator = self.keep(a)
        requester = self.requester()
        coordinator.sync(requester)
        coordinator.gone(requester)
        self.assertEqual(self.stage[1:], ["freeze a cancelled", "thaw a cancelled"])

    def test_rehearsal(self) -> None:
        """A rehearsal holds as long as it was asked to, and ends by itself."""
        a = self.actor("a")
        coordinator = self.keep(a)
        coordinator.rehearse(self.requester(), 5.0)
        a.do()
        self.clock.advance(4.9)
        self.assertEqual(self.stage, ["freeze a"])
        self.clock.advance(0.1)
        self.assertEqual(self.stage[1:], ["thaw a rehearsed"])
        a.do()
        self.assertEqual(self.statuses, [200])
