"""The state machine of windows against a small model of what docs/hook.rst says of any run."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.window.driven_machine import BUDGET, LIMIT, Scene
from xohook.window.answers import Answer
from xohook.window.late_post_syncs import LIFETIME, Whose, may_be_same, whose

ONE = (("192.0.2.1",),)
SEVERAL = (("192.0.2.1", "2001:db8::1"), ("192.0.2.2",), ("2001:db8::3", "192.0.2.3"))
"""The addresses of each requester: of one family, or of two between which it changes."""


@attrs.define(eq=False)
class Snapshot:
    """What one ``/sync`` is for.

    :param addresses: those of its requester.
    :param source: the one that its ``/sync`` came from.
    :param until: ten minutes after its window's end; None before that end.
    :param is_done: whether its ``/post-sync`` has been sent.
    :param is_admitted: whether its ``/sync`` was answered 200, and its window holds.
    """

    addresses: tuple[str, ...]
    source: str
    until: float | None = None
    is_done: bool = False
    is_admitted: bool = False


class AnyRun(RuleBasedStateMachine):
    """Requests, ends of work, lost participants and time, in any order.

    Each ``/post-sync`` is that of one ``/sync``. The machine is not told of which.
    """

    requesters: tuple[tuple[str, ...], ...] = SEVERAL
    faults: ClassVar[list[LogEvent]] = []
    """What the machine has caught and logged."""

    @initialize(at_once=st.booleans())
    def begin(self, at_once: bool) -> None:
        """Begin with nothing asked for, and with work that takes time or none."""
        self.faults.clear()
        self.scene = Scene(at_once=at_once)
        self.scene.on_answer = self.answered
        self.scene.on_note = self.noted
        self.count = 0
        self.is_stopped = False
        self.asked_at: dict[str, float] = {}
        self.kinds: dict[str, str] = {}
        self.left: set[str] = set()
        self.first_answer: float | None = None
        self.snapshots: dict[str, Snapshot] = {}
        self.row_began: float | None = None
        self.closing: dict[str, int] = {}
        self.stopping = ""

    # The model: what each answer and each request means for what is still to come.

    @property
    def now(self) -> float:
        """The time."""
        return self.scene.clock.seconds()

    @property
    def owed(self) -> list[Snapshot]:
        """The snapshots that are being taken in the present hold."""
        return [each for each in self.snapshots.values() if each.is_admitted and not each.is_done]

    @property
    def missing(self) -> list[Snapshot]:
        """The snapshots with no ``/post-sync`` whose window has ended in the last ten minutes."""
        return [
            each
            for each in self.snapshots.values()
            if each.until is not None and not each.is_done and self.now < each.until
        ]

    def miss(self, snapshot: Snapshot) -> None:
        """Note the end of a window before the end of a snapshot: a row begins, or goes on."""
        if not self.missing:
            self.row_began = self.now
        snapshot.is_admitted, snapshot.until = False, self.now + LIFETIME

    def answered(self, name: str, answer: Answer) -> None:
        """See that an answer is the right one, and what it changes."""
        kind = self.kinds[name]
        if kind == "sync":
            self.sync_answered(name, answer.status)
        elif kind == "late":
            assert answer.status == self.closing.pop(name) or self.is_stopped, (name, answer)
        elif kind == "thaw_now":
            assert name != self.stopping or (answer.status, answer.state) == (500, "stopped")
        elif kind == "now":
            assert answer.status == self.closing.pop(name), (name, answer)

    def sync_answered(self, name: str, status: int) -> None:
        """Admit a ``/sync`` that was answered 200, miss any other's ``/post-sync``."""
        assert self.now - self.asked_at[name] <= BUDGET
        snapshot = self.snapshots[name]
        if status != 200:
            assert (status == 503) == self.is_stopped or status == 500
            self.miss(snapshot)
            return
        assert self.scene.effects.state == "holding"
        if self.first_answer is None:
            self.first_answer = self.now
        snapshot.is_admitted = True

    def unanswered(self) -> list[str]:
        """Tell which ``/sync`` still wait."""
        return [
            name
            for name, kind in self.kinds.items()
            if kind == "sync" and name not in self.scene.answers and name not in self.left
        ]

    def name(self, letter: str, kind: str) -> str:
        """Name the next requester."""
        self.count += 1
        name = f"{letter}{self.count}"
        self.asked_at[name], self.kinds[name] = self.now, kind
        return name

    def noted(self, event: str) -> None:
        """Follow the beginning of a thaw.

        A hold ends in time, and is synced only if each snapshot that was taken in it is done.
        """
        if not event.startswith("thaw"):
            return
        if self.first_answer is not None:
            assert self.now - self.first_answer <= 2 * LIMIT
        assert event != "thaw synced" or not self.owed
        for snapshot in self.owed:
            self.miss(snapshot)
        for snapshot in self.snapshots.values():
            snapshot.is_admitted = False
        self.first_answer = None

    # What can happen.

    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        """Ask for a snapshot."""
        addresses = data.draw(st.sampled_from(self.requesters))
        source = data.draw(st.sampled_from(addresses))
        name = self.name("S", "sync")
        self.snapshots[name] = Snapshot(addresses, source)
        self.scene.sync(name, source)

    @rule(data=st.data(), seconds=st.sampled_from([1.0, 10.0, 119.0]))
    @precondition(lambda self: self.scene.effects.state in ("idle", "holding"))
    def admit(self, data: st.DataObject, seconds: float) -> None:
        """Serve somebody at once, who then waits for its snapshot."""
        self.sync(data)
        if self.scene.effects.under_way:
            self.scene.done()
        self.wait(seconds)

    @rule(data=st.data())
    @precondition(lambda self: self.scene.effects.state == "holding")
    def join(self, data: st.DataObject) -> None:
        """Have one snapshot finished while another is asked for."""
        self.sync(data)
        self.post_sync(data)

    @rule(data=st.data())
    def post_sync(self, data: st.DataObject) -> None:
        """Finish a snapshot, from any of its requester's addresses.

        One that is late comes within ten minutes of the end of the first window of its row.
        """
        late = self.missing if self.row_began is not None else []
        if self.row_began is not None and self.now >= self.row_began + LIFETIME:
            late = []
        open_ones = [*self.owed, *late]
        assume(open_ones)
        snapshot = data.draw(st.sampled_from(open_ones))
        self.send_post_sync(snapshot, data.draw(st.sampled_from(snapshot.addresses)))

    def send_post_sync(self, snapshot: Snapshot, source: str) -> None:
        """Send the ``/post-sync`` of a snapshot, and foresee its answer."""
        state = "stopped" if self.is_stopped else self.scene.effects.state
        possible = [
            each
            for each in self.scene.late_post_syncs.present(self.now)
            if may_be_same(source, each.source)
        ]
        window = self.scene.context.window
        meant = whose(source, window.owing if window else (), possible)
        is_present = state == "holding" and meant is not Whose.EARLIER
        name = self.name("P", "now" if is_present else "late")
        right = 500 if any(each.answered for each in possible) else 200
        if is_present:
            right = 200 if meant is Whose.PRESENT else 500
        self.closing[name] = right
        if snapshot.until is not None and self.heard_200(snapshot):
            # Nobody is told that a snapshot is good which was taken after a thaw.
            assert right == 500
        snapshot.is_done = True
        self.scene.post_sync(name, source)

    def heard_200(self, snapshot: Snapshot) -> bool:
        """Tell whether the ``/sync`` of a snapshot was answered 200."""
        name = next(name for name, each in self.snapshots.items() if each is snapshot)
        answer = self.scene.answers.get(name)
        return answer is not None and answer.status == 200

    @rule(hold=st.sampled_from([1.0, 30.0, 500.0]))
    def rehearse(self, hold: float) -> None:
        """Ask for a rehearsal."""
        self.scene.rehearse(self.name("R", "rehearsal"), hold)

    @rule()
    @precondition(lambda self: self.count % 6 == 5)
    def thaw_now(self) -> None:
        """Have an administrator end the present window, which is good only if it thaws already."""
        is_open = self.scene.effects.state not in ("idle", "thawing")
        name = self.name("T", "thaw_now")
        self.scene.thaw_now(name)
        if is_open:
            self.stopping = name

    @rule(data=st.data())
    @precondition(lambda self: self.count % 4 == 3)
    def gone(self, data: st.DataObject) -> None:
        """Somebody closes its connection, be it answered or not."""
        name = data.draw(st.sampled_from(sorted(self.kinds)))
        if name in self.unanswered():
            self.left.add(name)
            self.miss(self.snapshots[name])
        elif self.kinds[name] == "rehearsal":
            self.left.add(name)
        self.scene.gone(name)

    @rule(fails=st.booleans())
    @precondition(lambda self: self.scene.effects.under_way)
    def done(self, fails: bool) -> None:
        """End what is under way, well or badly."""
        if self.scene.effects.under_way == "thaw" and fails:
            # A hold that failed to end well is told to whoever ended it.
            for name in self.closing:
                if self.kinds[name] == "now":
                    self.closing[name] = 500
        self.scene.done(*(["p: broken"] if fails else []))

    @rule()
    @precondition(lambda self: self.count % 8 == 7)
    def let_go(self) -> None:
        """Have a participant let go by itself."""
        self.scene.machine.let_go("p: ended")

    @rule(seconds=st.sampled_from([1.0, 10.0, 50.0, 300.0, 599.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, until something happens or so many seconds."""
        self.scene.wait_for_event(seconds)

    @rule()
    @precondition(lambda self: self.count > 15)
    def stop(self) -> None:
        """Tell the agent to end."""
        self.is_stopped = True
        self.scene.machine.stop()

    # What holds at all times.

    @invariant()
    def nothing_is_hidden(self) -> None:
        """Hear of each fault that the machine has caught, of itself or of this model."""
        for event in self.faults:
            event["log_failure"].raiseException()

    @invariant()
    def nobody_waits_too_long(self) -> None:
        """Nobody waits longer than the freeze budget."""
        waiting = self.unanswered()
        for name in waiting:
            assert self.now - self.asked_at[name] < BUDGET, name
        assert sorted(self.scene.unanswered()) == sorted(waiting)

    @invariant()
    def debts(self) -> None:
        """Doubt does not grow: no more are expected than are missing."""
        owed, late_post_syncs = self.scene.debts()
        assert owed == len(self.owed)
        assert len(late_post_syncs) <= len(self.missing), (late_post_syncs, self.missing)

    @invariant()
    def doubt_ends(self) -> None:
        """Doubt ends: none is expected for longer than the one that is missing the longest."""
        _, late_post_syncs = self.scene.debts()
        ends = [each.until or 0.0 for each in self.missing]
        assert not late_post_syncs or max(each.until for each in late_post_syncs) <= max(ends)

    @invariant()
    def idle(self) -> None:
        """When nothing is open nobody waits, and the clock holds no call."""
        if self.scene.effects.state == "idle":
            assert self.unanswered() == []
            assert self.scene.clock.getDelayedCalls() == []

    def teardown(self) -> None:
        """In the end everybody was answered once, and nothing is frozen."""
        self.scene.run_out()
        self.nothing_is_hidden()
        self.idle()
        self.debts()
        assert set(self.kinds) - self.left == set(self.scene.answers) - self.left


class AnyRunOfOne(AnyRun):
    """Any run with one requester, of one address."""

    requesters = ONE

    @invariant()
    def doubt_ends(self) -> None:
        """Each doubt ends: as many are missing for as long as each that is expected."""
        _, late_post_syncs = self.scene.debts()
        expected = sorted((each.until for each in late_post_syncs), reverse=True)
        missing = sorted((each.until or 0.0 for each in self.missing), reverse=True)
        assert all(a <= b for a, b in zip(expected, missing, strict=False)), (expected, missing)


class AnyRunTests(SynchronousTestCase):
    """Runs that nobody has thought of."""

    def run_any(self, machine: Any) -> None:
        """Run many of them."""

        @implementer(ILogObserver)
        def note(event: LogEvent) -> None:
            if "log_failure" in event:
                AnyRun.faults.append(event)

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=400, stateful_step_count=30, deadline=None, derandomize=True
                ),
            )
        finally:
            # Each has been raised already.
            self.flushLoggedErrors()

    def test_any_run(self) -> None:
        """Whatever happens in whatever order, what is promised holds."""
        self.run_any(AnyRun)

    def test_one_requester(self) -> None:
        """So it does where all come from one address."""
        self.run_any(AnyRunOfOne)
