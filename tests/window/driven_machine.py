"""A state machine with nothing around it: its effects and its answers are noted in one list."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock

from xohook.window.answers import Answer, Outcome, Requester
from xohook.window.context import WindowContext
from xohook.window.effects import Limits, MachineState
from xohook.window.inputs import WindowInputs
from xohook.window.late_post_syncs import LatePostSync, LatePostSyncs
from xohook.window.machine import new_machine

BUDGET = 50.0
"""Seconds of freeze budget in a scene."""

LIMIT = 120.0
"""Seconds of hold limit in a scene."""

MIDNIGHT = 1772323200.0
"""The time of day at which a scene begins: 2026-03-01 00:00:00 UTC, in seconds since the epoch."""

UNKNOWN = "a local socket"
"""The source of whoever comes from no address."""


class NotedEffects:
    """:class:`~xohook.window.effects.WindowEffects` that are noted, and must come in their order.

    :param scene: where the notes go, and whose machine is told of an end.
    :param at_once: whether all that is asked for is done before the call returns.
    """

    def __init__(self, scene: Scene, at_once: bool) -> None:
        self._scene = scene
        self.at_once = at_once
        self.under_way = ""
        self.is_frozen = False
        self._saved: tuple[int, tuple[LatePostSync, ...]] = (0, ())

    @property
    def state(self) -> str:
        """What an onlooker would call the state."""
        if self.under_way in ("freeze", "thaw"):
            return {"freeze": "freezing", "thaw": "thawing"}[self.under_way]
        return "holding" if self.is_frozen else "idle"

    def window_opened(self, state: MachineState) -> None:
        """See that the new window is in the state."""
        assert state == self._scene.context.state()

    def freeze(self, inputs: WindowInputs, window: str, until: float) -> None:
        """Note it; nothing may be frozen."""
        assert inputs is self._scene.machine
        limits = self._scene.context.limits
        longest = limits.freeze_budget + limits.hold_limit
        assert until == self._scene.clock.seconds() + longest
        assert self.state == "idle", self.state
        self._begin("freeze", f"freeze {window}")

    def flush(self, inputs: WindowInputs) -> None:
        """Note it; everything must be frozen."""
        assert inputs is self._scene.machine
        window = self._scene.context.present.id
        assert (self.state, self.under_way) == ("holding", ""), self.under_way
        self._begin("flush", f"flush {window}")

    def hold(self, until: float) -> None:
        """Hear how long the hold lasts; something must be held."""
        assert self.is_frozen

    def thaw(self, inputs: WindowInputs, outcome: Outcome) -> None:
        """Note it; nothing may be under way."""
        assert inputs is self._scene.machine
        assert not self.under_way, self.under_way
        self._begin("thaw", f"thaw {outcome.value}")

    def cancel(self, why: str) -> tuple[str, ...]:
        """Note it; a freeze or a flush must be under way."""
        assert self.under_way in ("freeze", "flush"), self.under_way
        self._scene.note(f"cancel {self.under_way}")
        self.under_way = ""
        return (f"p: not frozen: {why}",)

    def persist(self, state: MachineState) -> None:
        """Keep what is owed and expected as it is now."""
        assert state == self._scene.context.state()
        late = self._scene.late_post_syncs.present(self._scene.clock.seconds())
        self._saved = len(state.owing), late

    def saved(self) -> tuple[int, tuple[LatePostSync, ...]]:
        """Tell what was saved last, as far as it still counts.

        :return: as :meth:`Scene.debts` has it.
        """
        owed, late_post_syncs = self._saved
        now = self._scene.clock.seconds()
        return owed, tuple(late for late in late_post_syncs if now < late.until)

    def window_closed(self, end: Answer) -> None:
        """Note it."""
        self._scene.note("; ".join((f"closed {end.state}", *end.lines)))

    def stopped(self) -> None:
        """Note it; nothing may be frozen."""
        assert self.state == "idle", self.state
        self._scene.note("stopped")

    def finish(self, *lines: str) -> None:
        """Tell the machine that what is under way is done.

        :param lines: what went wrong in it.
        """
        work, self.under_way = self.under_way, ""
        machine = self._scene.machine
        if work == "freeze" and lines:
            machine.freeze_failed(lines)
        elif work == "freeze":
            self.is_frozen = True
            machine.frozen()
        elif work == "flush":
            machine.flushed(lines)
        else:
            assert work == "thaw", "nothing is under way"
            self.is_frozen = False
            machine.thawed(lines)

    def _begin(self, work: str, note: str) -> None:
        self.under_way = work
        self._scene.note(note)
        if self.at_once:
            self.finish()


class Scene:
    """A machine and those who ask something of it; what happens is noted in order.

    :param at_once: whether all work is done before the call returns.
    :param late_post_syncs: the ``/post-sync`` expected from an earlier run.
    """

    def __init__(
        self, *, at_once: bool = False, late_post_syncs: tuple[LatePostSync, ...] = ()
    ) -> None:
        self.clock = Clock()
        self.effects = NotedEffects(self, at_once)
        self.late_post_syncs = LatePostSyncs(late_post_syncs)
        self.windows_opened = 0
        self.context = WindowContext(
            self.clock,
            self.effects,
            Limits(BUDGET, LIMIT),
            self._new_id,
            self.late_post_syncs,
            lambda: MIDNIGHT + self.clock.seconds(),
        )
        self.machine = new_machine(self.context)
        self.answers: dict[str, Answer] = {}
        self.then: dict[str, Callable[[], None]] = {}
        self.on_answer: Callable[[str, Answer], None] = lambda name, answer: None
        self.on_note: Callable[[str], None] = lambda event: None
        self._requesters: dict[str, Requester] = {}
        self._events: list[str] = []
        self.context.persist()

    def note(self, event: str) -> None:
        """Note an event.

        :param event: what happened.
        """
        self._events.append(event)
        self.on_note(event)

    def events(self) -> list[str]:
        """Tell what has happened since this was asked last.

        :return: the events in their order.
        """
        events, self._events = self._events, []
        return events

    def debts(self) -> tuple[int, tuple[LatePostSync, ...]]:
        """Tell which ``/post-sync`` are still to come.

        :return: how many are owed to the present window, and those expected beyond it.
        """
        window = self.context.window
        return window.owed if window else 0, self.late_post_syncs.present(self.clock.seconds())

    def sync(self, name: str, source: str = UNKNOWN) -> None:
        """Have somebody ask for ``/sync``.

        :param name: who it is, in the notes; each name asks once.
        :param source: where it comes from.
        """
        self.machine.sync(self._requester(name, source))

    def post_sync(self, name: str, source: str = UNKNOWN) -> None:
        """Have somebody ask for ``/post-sync``.

        :param name: who it is, in the notes; each name asks once.
        :param source: where it comes from.
        """
        self.machine.post_sync(self._requester(name, source))

    def rehearse(self, name: str, hold: float) -> None:
        """Have somebody ask for a rehearsal.

        :param name: who it is, in the notes; each name asks once.
        :param hold: seconds of hold.
        """
        self.machine.rehearse(self._requester(name), hold)

    def thaw_now(self, name: str) -> None:
        """Have an administrator end the present window.

        :param name: who it is, in the notes; each name asks once.
        """
        self.machine.thaw_now(self._requester(name))

    def gone(self, name: str) -> None:
        """Have a requester close its connection.

        :param name: who it is.
        """
        self.machine.gone(self._requesters[name])

    def done(self, *lines: str) -> None:
        """Let what is under way be done.

        :param lines: what went wrong in it.
        """
        self.effects.finish(*lines)

    def wait(self, seconds: float) -> None:
        """Let time pass, each call of the clock at its own time.

        :param seconds: how much.
        """
        end = self.clock.seconds() + seconds
        while True:
            due = [each.getTime() for each in self.clock.getDelayedCalls()]
            following = min([*due, end])
            self.clock.advance(max(0.0, following - self.clock.seconds()))
            if following >= end:
                return

    def wait_for_event(self, seconds: float) -> None:
        """Let time pass until something is noted, or so many seconds.

        :param seconds: how much at the most.
        """
        end, noted = self.clock.seconds() + seconds, len(self._events)
        while len(self._events) == noted and self.clock.seconds() < end:
            due = [each.getTime() for each in self.clock.getDelayedCalls()]
            self.clock.advance(min([*due, end]) - self.clock.seconds())

    def run_out(self) -> None:
        """Let everything come to its end: what is under way is done, and holds expire."""
        while self.effects.state != "idle":
            if self.effects.under_way:
                self.done()
            else:
                self.wait(2 * LIMIT)

    def _new_id(self) -> str:
        self.windows_opened += 1
        return f"w{self.windows_opened}"

    def unanswered(self) -> list[str]:
        """Tell which ``/sync`` still wait for their answer.

        :return: their names.
        """
        names = {id(each): name for name, each in self._requesters.items()}
        return [names[id(each)] for each in self.context.unanswered()]

    def _requester(self, name: str, source: str = "") -> Requester:
        def deliver(answer: Answer) -> None:
            assert name not in self.answers, f"{name} was answered twice"
            # Whoever reads the record after this answer must know what the answer promised.
            assert self.effects.saved() == self.debts(), (self.effects.saved(), self.debts())
            self.answers[name] = answer
            self.note(f"{name} {answer.status}")
            self.on_answer(name, answer)
            self.then.get(name, lambda: None)()

        assert name not in self._requesters, f"{name} has asked already"
        self._requesters[name] = Requester(source or name, deliver)
        return self._requesters[name]


def holding(*names: str, late_post_syncs: tuple[LatePostSync, ...] = ()) -> Scene:
    """Make a scene in which a window holds.

    :param names: who has been answered 200 by its freeze.
    :param late_post_syncs: the ``/post-sync`` expected from an earlier run.
    :return: the scene, with its events forgotten.
    """
    scene = Scene(late_post_syncs=late_post_syncs)
    for name in names:
        scene.sync(name)
    scene.done()
    scene.events()
    return scene
