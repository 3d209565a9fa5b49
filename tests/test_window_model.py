"""The state machine of windows against a small model of what docs/hook.rst says of any run."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.window_course import BUDGET, LIMIT, Scene
from xohook.answers import Answer
from xohook.strays import LIFETIME


class AnyRun(RuleBasedStateMachine):
    """Requests, ends of work, lost participants and time, in any order."""

    @initialize(at_once=st.booleans())
    def begin(self, at_once: bool) -> None:
        """Begin with nothing asked for, and with work that takes time or none."""
        self.scene = Scene(at_once=at_once)
        self.scene.on_answer = self.answered
        self.scene.on_note = self.noted
        self.count = 0
        self.is_stopped = False
        self.asked_at: dict[str, float] = {}
        self.kinds: dict[str, str] = {}
        self.left: set[str] = set()
        self.first_answer: float | None = None
        self.owed = 0
        self.strays: list[tuple[bool, float]] = []
        self.closing: dict[str, int] = {}
        self.stopping = ""

    # The model: what each answer and each request means for what is still to come.

    @property
    def now(self) -> float:
        """The time."""
        return self.scene.clock.seconds()

    def expect(self, answered: bool) -> None:
        """Expect one more ``/post-sync`` beyond the present window."""
        self.strays.append((answered, self.now + LIFETIME))

    def take(self) -> bool:
        """Take the stray that was expected first; tell whether its ``/sync`` had heard 200."""
        return self.strays.pop(0)[0] if self.strays else False

    def forget_old(self) -> None:
        """Forget the strays whose time is up."""
        self.strays = [each for each in self.strays if self.now < each[1]]

    def answered(self, name: str, answer: Answer) -> None:
        """See that an answer is the right one, and what it changes."""
        self.forget_old()
        kind = self.kinds[name]
        if kind == "sync":
            self.sync_answered(name, answer.status)
        elif kind == "late":
            was_answered = self.take()
            right = 503 if self.is_stopped else 500 if was_answered else 200
            assert answer.status == right, (name, answer)
        elif kind == "thaw_now":
            assert name != self.stopping or (answer.status, answer.state) == (500, "stopped")
        elif kind == "now":
            assert answer.status == self.closing.pop(name), (name, answer)

    def sync_answered(self, name: str, status: int) -> None:
        """Owe the ``/post-sync`` of a ``/sync`` that was answered 200, expect any other's."""
        assert self.now - self.asked_at[name] <= BUDGET
        if status != 200:
            assert (status == 503) == self.is_stopped or status == 500
            self.expect(False)
            return
        assert self.scene.work.state == "holding"
        if self.first_answer is None:
            self.first_answer = self.now
        self.owed += 1

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
        """Follow the beginning of a thaw: what the hold was owed is expected from now on.

        A hold ends in time, and synced only if all have come.
        """
        if not event.startswith("thaw"):
            return
        if self.first_answer is not None:
            assert self.now - self.first_answer <= 2 * LIMIT
        assert event != "thaw synced" or self.owed == 0
        self.forget_old()
        for _ in range(self.owed):
            self.expect(True)
        self.owed, self.first_answer = 0, None

    # What can happen.

    @rule()
    def sync(self) -> None:
        """Ask for a snapshot."""
        self.scene.sync(self.name("S", "sync"))

    @rule(seconds=st.sampled_from([1.0, 10.0, 119.0]))
    @precondition(lambda self: self.scene.work.state in ("idle", "holding"))
    def admit(self, seconds: float) -> None:
        """Serve somebody at once, who then waits for its snapshot."""
        self.sync()
        if self.scene.work.under_way:
            self.scene.done()
        self.wait(seconds)

    @rule()
    @precondition(lambda self: self.scene.work.state == "holding")
    def join(self) -> None:
        """Have one snapshot finished while another is asked for."""
        self.sync()
        self.post_sync()

    @rule()
    def post_sync(self) -> None:
        """Finish a snapshot."""
        self.forget_old()
        state = self.scene.work.state
        if self.is_stopped or state in ("thawing", "idle"):
            self.scene.post_sync(self.name("P", "late"))
        else:
            name = self.name("P", "now")
            self.closing[name] = 500 if self.strays else 200
            if state == "holding" and not self.strays and self.owed:
                self.owed -= 1
            self.scene.post_sync(name)

    @rule(hold=st.sampled_from([1.0, 30.0, 500.0]))
    def rehearse(self, hold: float) -> None:
        """Ask for a rehearsal."""
        self.scene.rehearse(self.name("R", "rehearsal"), hold)

    @rule()
    @precondition(lambda self: self.count % 6 == 5)
    def thaw_now(self) -> None:
        """Have an administrator end the present window, which is good only if it thaws already."""
        is_open = self.scene.work.state not in ("idle", "thawing")
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
            self.expect(False)
        elif self.kinds[name] == "rehearsal":
            self.left.add(name)
        self.scene.gone(name)

    @rule(fails=st.booleans())
    @precondition(lambda self: self.scene.work.under_way)
    def done(self, fails: bool) -> None:
        """End what is under way, well or badly."""
        if self.scene.work.under_way == "thaw" and fails:
            # A hold that failed to end well is told to whoever ended it.
            self.closing = dict.fromkeys(self.closing, 500)
        self.scene.done(*(["p: broken"] if fails else []))

    @rule()
    @precondition(lambda self: self.count % 8 == 7)
    def let_go(self) -> None:
        """Have a participant let go by itself."""
        self.scene.windows.let_go("p: ended")

    @rule(seconds=st.sampled_from([1.0, 10.0, 50.0, 599.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, until something happens or so many seconds."""
        self.scene.wait_for_event(seconds)

    @rule()
    @precondition(lambda self: self.count > 15)
    def stop(self) -> None:
        """Tell the agent to end."""
        self.is_stopped = True
        self.scene.windows.stop()

    # What holds at all times.

    @invariant()
    def nobody_waits_too_long(self) -> None:
        """Nobody waits longer than the freeze budget."""
        waiting = self.unanswered()
        for name in waiting:
            assert self.now - self.asked_at[name] < BUDGET, name
        told = [requester.source for requester in self.scene.course.unanswered()]
        assert sorted(told) == sorted(waiting)

    @invariant()
    def debts(self) -> None:
        """Each ``/sync`` answered 200 owes one ``/post-sync``; each other one leaves a stray."""
        self.forget_old()
        owed, strays = self.scene.debts()
        assert owed == self.owed
        assert [(each.answered, each.until) for each in strays] == self.strays

    @invariant()
    def idle(self) -> None:
        """When nothing is open nobody waits, and the clock holds no call."""
        if self.scene.work.state == "idle":
            assert self.unanswered() == []
            assert self.scene.clock.getDelayedCalls() == []

    def teardown(self) -> None:
        """In the end everybody was answered once, and nothing is frozen."""
        self.scene.run_out()
        self.idle()
        self.debts()
        assert set(self.kinds) - self.left == set(self.scene.answers) - self.left


class AnyRunTests(SynchronousTestCase):
    """Runs that nobody has thought of."""

    def test_any_run(self) -> None:
        """Whatever happens in whatever order, what is promised holds."""
        run_state_machine_as_test(
            AnyRun,
            settings=settings(
                max_examples=400, stateful_step_count=30, deadline=None, derandomize=True
            ),
        )
