"""What the transitions of windows share: the present window, who waits, what is owed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xohook.answers import Answer, Outcome, Requester
from xohook.inputs import Windows
from xohook.strays import Strays

MOST_LIMITS = 2
"""No hold outlasts this many hold limits from its first answer (docs/hook.rst, Windows)."""


class Work(Protocol):
    """What the machine asks for; each is called in the middle of a transition."""

    def freeze(self, window: str) -> None:
        """Freeze all participants, then say ``frozen`` or ``freeze_failed``.

        :param window: the window's id.
        """

    def flush(self, window: str) -> None:
        """Freeze again those with nothing to thaw, then say ``flushed``.

        :param window: the window's id.
        """

    def cancel(self, why: str) -> tuple[str, ...]:
        """Break off the freeze or the flush that is under way; it says nothing any more.

        :param why: the reason.
        :return: a line for each participant that was not done.
        """

    def thaw(self, outcome: Outcome) -> None:
        """Thaw all that was frozen, then say ``thawed``.

        :param outcome: how the window ends, unless a thaw fails.
        """

    def hold(self, until: float) -> None:
        """Hold until then, should nothing else be said.

        :param until: the time of the clock at which the hold ends.
        """

    def save(self) -> None:
        """Write down what is owed and expected; called before any answer that changes it."""

    def closed(self, outcome: Outcome, lines: tuple[str, ...]) -> None:
        """Take note of a window's end.

        :param outcome: how it ended.
        :param lines: why it was not synced.
        """

    def stopped(self) -> None:
        """Take note that no window will open any more and that nothing is frozen."""


@attrs.define
class Limits:
    """The times that bound a window.

    :param freeze_budget: seconds from a ``/sync`` to its answer.
    :param hold_limit: seconds from an answer to the thaw.
    """

    freeze_budget: float
    hold_limit: float


@attrs.define
class Opened:
    """The present window.

    :param id: its id.
    :param state: the word for its present state.
    :param waiting: the ``/sync`` requesters that wait for its freeze, or for its undoing.
    :param joining: those that wait for a flush of their own during the hold.
    :param flushing: those that the present flush is for.
    :param closing: the ``/post-sync`` requesters that wait for its thaw.
    :param owed: how many ``/post-sync`` its answers are owed.
    :param answered: how many ``/sync`` have been answered 200.
    :param first_answer: when the first of them was, in seconds of the clock.
    :param rehearser: who asked for it as a rehearsal.
    :param rehearsal: seconds of hold that a rehearsal asked for.
    :param end: the call that ends the hold.
    :param outcome: how it ends, once that is settled.
    :param lines: why it is not synced.
    """

    id: str
    state: str = "freezing"
    waiting: list[Requester] = attrs.Factory(list)
    joining: list[Requester] = attrs.Factory(list)
    flushing: list[Requester] = attrs.Factory(list)
    closing: list[Requester] = attrs.Factory(list)
    owed: int = 0
    answered: int = 0
    first_answer: float = 0.0
    rehearser: Requester | None = None
    rehearsal: float = 0.0
    end: IDelayedCall | None = None
    outcome: Outcome = Outcome.SYNCED
    lines: tuple[str, ...] = ()


@dataclass
class Course:
    """What the machine's transitions share.

    :param clock: the clock, monotonic.
    :param work: who does what the machine asks for.
    :param limits: the times that bound a window.
    :param new_id: makes the id of a new window.
    :param strays: the ``/post-sync`` that are still expected.
    :param window: the present window.
    :param queue: the ``/sync`` requesters that wait for a window of their own.
    :param late: the ``/post-sync`` requesters that wait for the thaw of a window that is over.
    """

    clock: IReactorTime
    work: Work
    limits: Limits
    new_id: Callable[[], str]
    strays: Strays
    window: Opened | None = None
    queue: list[Requester] = field(default_factory=list)
    late: list[Requester] = field(default_factory=list)

    @property
    def open(self) -> Opened:
        """The present window, where there must be one.

        :return: the window.
        """
        assert self.window is not None
        return self.window

    def unanswered(self) -> list[Requester]:
        """Tell which ``/sync`` requesters still wait for their answer.

        :return: those of the present window, then those that wait for their own.
        """
        present = self.window
        if present is None:
            return list(self.queue)
        return [*present.waiting, *present.joining, *present.flushing, *self.queue]

    def await_answer(self, inputs: Windows, requester: Requester) -> None:
        """Bound the time until a requester is answered; it counts from its arrival.

        :param inputs: the machine, which is told when the time is up.
        :param requester: the requester.
        """
        if requester.overdue is None:
            requester.overdue = self.clock.callLater(
                self.limits.freeze_budget, inputs._overdue, requester
            )

    def expect(self, count: int, answered: bool) -> None:
        """Expect so many ``/post-sync`` beyond the present window.

        :param count: how many.
        :param answered: whether their ``/sync`` had been answered 200.
        """
        window = self.window.id if self.window else "none"
        for _ in range(count):
            self.strays.expect(window, answered, self.clock.seconds())

    def has_strays(self) -> bool:
        """Tell whether a ``/post-sync`` that comes now may be another window's.

        :return: whether any stray is expected.
        """
        return bool(self.strays.present(self.clock.seconds()))

    def take_stray(self) -> Answer:
        """Take the ``/post-sync`` that was expected first: one has come.

        :return: what to say to it.
        """
        stray = self.strays.take(self.clock.seconds())
        if stray is None:
            return Answer(status=200)
        self.work.save()
        if not stray.answered:
            return Answer(status=200, window=stray.window, state="ended")
        line = f"window {stray.window} had ended before: do not trust this snapshot"
        return Answer(status=500, window=stray.window, state="ended", lines=(line,))

    def says(self, status: int, *lines: str, hold: float | None = None) -> Answer:
        """Put an answer about the present window into words, as the window is now.

        :param status: the HTTP status.
        :param lines: what went wrong, a line each.
        :param hold: seconds that the hold which begins with it may last.
        :return: the answer.
        """
        if self.window is None:
            return Answer(status=status, lines=lines, hold=hold)
        window, state = self.window.id, self.window.state
        return Answer(status=status, window=window, state=state, lines=lines, hold=hold)

    def deliver(self, requesters: Iterable[Requester], answer: Answer) -> None:
        """Deliver an answer to each of the requesters, who then wait no more.

        :param requesters: whoever it is for.
        :param answer: the answer.
        """
        for requester in requesters:
            self.forget(requester)
            requester.deliver(answer)

    def forget(self, requester: Requester) -> None:
        """Bound the time of this requester no more.

        :param requester: one that is answered, or gone.
        """
        if requester.overdue is not None and requester.overdue.active():
            requester.overdue.cancel()

    def let_leave(self, requester: Requester) -> bool:
        """Forget a ``/sync`` requester that waits; its ``/post-sync`` is expected all the same.

        :param requester: the requester.
        :return: whether it was waiting for an answer.
        """
        present = self.open
        for waiting in (present.waiting, present.joining, present.flushing, self.queue):
            if requester in waiting:
                waiting.remove(requester)
                self.forget(requester)
                self.expect(1, answered=False)
                self.work.save()
                return True
        return False

    def hold_for(self, inputs: Windows, seconds: float) -> None:
        """End the hold after so many seconds from now instead.

        :param inputs: the machine, which is told when the time is up.
        :param seconds: the seconds; fewer than none are none.
        """
        window = self.open
        if window.end is not None and window.end.active():
            window.end.cancel()
        seconds = max(0.0, seconds)
        window.end = self.clock.callLater(seconds, inputs._limit_passed)
        self.work.hold(self.clock.seconds() + seconds)

    def hold_at_most(self, inputs: Windows, seconds: float) -> None:
        """End the hold after so many seconds from now, unless it ends before.

        :param inputs: the machine, which is told when the time is up.
        :param seconds: the seconds.
        """
        end = self.open.end
        assert end is not None
        self.hold_for(inputs, min(seconds, end.getTime() - self.clock.seconds()))

    def most_left(self) -> float:
        """Tell how long the hold can last from now, whoever joins it.

        :return: seconds.
        """
        last = self.open.first_answer + MOST_LIMITS * self.limits.hold_limit
        return last - self.clock.seconds()

    def admit(self, inputs: Windows, count: int) -> Answer:
        """Let so many ``/sync`` requesters have their snapshots: each owes a ``/post-sync``.

        :param inputs: the machine, which is told when the hold's time is up.
        :param count: how many.
        :return: the answer for each of them.
        """
        window = self.open
        if not window.answered:
            window.first_answer = self.clock.seconds()
        window.owed += count
        window.answered += count
        self.hold_for(inputs, min(self.limits.hold_limit, self.most_left()))
        self.work.save()
        return self.says(200, hold=self.limits.hold_limit)

    def next_flush(self, inputs: Windows) -> None:
        """Flush for those who wish to join, or see whether the window is done.

        :param inputs: the machine, which is told if it is.
        """
        window = self.open
        if window.joining:
            window.flushing, window.joining = window.joining, []
            self.work.flush(window.id)
        elif not window.owed:
            inputs._all_came()

    def leave_hold(self, inputs: Windows, requester: Requester) -> bool:
        """Let a requester leave, and go on without a flush that nobody waits for any more.

        :param inputs: the machine, which is told if the window is done by that.
        :param requester: the requester.
        :return: whether it was waiting for an answer.
        """
        was_flushing = requester in self.open.flushing
        was_waiting = self.let_leave(requester)
        if was_flushing and not self.open.flushing:
            self.work.cancel("nobody waits for it any more")
            self.next_flush(inputs)
        return was_waiting

    def end_hold(self, outcome: Outcome, *lines: str) -> None:
        """Begin the thaw; what has not come is expected, and who was too late to join waits.

        :param outcome: how the window ends, unless a thaw fails.
        :param lines: why it is not synced.
        """
        window = self.open
        if window.flushing:
            self.work.cancel("the hold has ended")
        self.queue = [*window.flushing, *window.joining, *self.queue]
        window.flushing, window.joining = [], []
        self.expect(window.owed, answered=True)
        window.owed = 0
        self.begin_thaw(outcome, *lines)

    def begin_thaw(self, outcome: Outcome, *lines: str) -> None:
        """Begin the thaw of a window whose outcome is settled but for the thaw itself.

        :param outcome: how the window ends, unless a thaw fails.
        :param lines: why it is not synced.
        """
        window = self.open
        if window.end is not None and window.end.active():
            window.end.cancel()
        window.state, window.outcome, window.lines = "thawing", outcome, lines
        self.work.save()
        self.work.thaw(outcome)

    def close(self, lines: tuple[str, ...]) -> Callable[[], None]:
        """End the window after its thaw.

        :param lines: what went wrong with the thaw, a line each.
        :return: delivers the answers that waited for it; to be called when the state is whole.
        """
        window = self.open
        if lines:
            window.lines += lines
            if window.outcome.is_good:
                window.outcome = Outcome.FAILED
        window.state = window.outcome.value
        good = window.outcome.is_good
        waiting, window.waiting = window.waiting, []
        self.expect(len(waiting), answered=False)
        self.window = None
        self.work.save()
        self.work.closed(window.outcome, window.lines)

        def deliver() -> None:
            end = Answer(
                status=200 if good else 500,
                window=window.id,
                state=window.state,
                lines=window.lines,
            )
            refused = 503 if window.outcome is Outcome.STOPPED else 500
            self.deliver(window.closing, end)
            self.deliver([window.rehearser] if window.rehearser else [], end)
            self.deliver(waiting, attrs.evolve(end, status=refused))

        return deliver
