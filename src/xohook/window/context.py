"""The state of the machine: who waits, what is owed, and the one present window. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xohook.window.answers import Answer, Outcome, Requester
from xohook.window.effects import Limits, MachineState, Window, WindowEffects
from xohook.window.inputs import WindowInputs
from xohook.window.late_post_syncs import (
    LatePostSync,
    LatePostSyncs,
    Whose,
    explain_doubt,
    is_same,
    name_windows,
    whose,
)

_log = Logger()


@dataclass
class WindowContext:
    """What the machine's transitions change; it alone owns the present window.

    :param clock: the clock, monotonic.
    :param effects: carries out what the transitions decide.
    :param limits: the times that bound a window.
    :param new_id: makes the id of a new window.
    :param late_post_syncs: the ``/post-sync`` expected from windows that have ended.
    :param time_of_day: returns the time of day, in seconds since the epoch.
    :param window: the present window, None if none is open.
    :param queue: the ``/sync`` requesters that wait for a window of their own.
    :param late: the ``/post-sync`` requesters that wait for the end of a thaw under way, each with
        the late ones that its request may be.
    """

    clock: IReactorTime
    effects: WindowEffects
    limits: Limits
    new_id: Callable[[], str]
    late_post_syncs: LatePostSyncs
    time_of_day: Callable[[], float]
    window: Window | None = None
    queue: list[Requester] = field(default_factory=list)
    late: list[tuple[Requester, tuple[LatePostSync, ...]]] = field(default_factory=list)

    @property
    def present(self) -> Window:
        """The present window, in a state that has one.

        :return: the window.
        """
        assert self.window is not None
        return self.window

    # What others see of it.

    def state(self) -> MachineState:
        """Return what is known of requests, as a value.

        :return: the value.
        """
        window = self.window
        return MachineState(
            answer=None if window is None else self.answer(200, *window.lines),
            waiting=_sources(self.unanswered()),
            owing=() if window is None else tuple(window.owing),
        )

    def unanswered(self) -> list[Requester]:
        """Return the ``/sync`` requesters that wait for their answer.

        :return: those of the present window, then those that wait for their own.
        """
        of_window = [] if self.window is None else self.window.unanswered()
        return [*of_window, *self.queue]

    def persist(self) -> None:
        """Write the record; to be called before any answer that changes what is in it."""
        self.effects.persist(self.state())

    # Answers.

    def answer(self, status: int, *lines: str, hold: float | None = None) -> Answer:
        """Return an answer about the present window, as the window is now.

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
        """Deliver an answer to each of these requesters, who then no longer wait.

        :param requesters: the requesters.
        :param answer: the answer.
        """
        for requester in requesters:
            self.stop_budget(requester)
            try:
                requester.deliver(answer)
            except Exception:  # noqa: BLE001 - the others must get their answers all the same.
                _log.failure(
                    "cannot answer {source}: a fault of xohook itself", source=requester.source
                )

    # Requesters that wait.

    def start_budget(self, inputs: WindowInputs, requester: Requester) -> None:
        """Bound the time until a requester is answered, from its arrival.

        :param inputs: the machine, which gets ``_overdue`` when the time is up.
        :param requester: the requester.
        """
        if requester.overdue is None:
            requester.overdue = self.clock.callLater(
                self.limits.freeze_budget, inputs._overdue, requester
            )

    def stop_budget(self, requester: Requester) -> None:
        """Bound the time of a requester no longer.

        :param requester: one that is answered, or gone.
        """
        if requester.overdue is not None and requester.overdue.active():
            requester.overdue.cancel()

    def leave(self, requester: Requester) -> bool:
        """Remove a ``/sync`` requester that waits; its ``/post-sync`` is expected all the same.

        :param requester: the requester.
        :return: whether it was waiting for an answer.
        """
        window = self.present
        for waiting in (window.waiting, window.joining, window.flushing, self.queue):
            if requester in waiting:
                waiting.remove(requester)
                self.stop_budget(requester)
                self.expect_late([requester.source], answered=False)
                self.persist()
                return True
        return False

    def leave_hold(self, inputs: WindowInputs, requester: Requester) -> bool:
        """Remove a requester, and cancel a flush that nobody waits for any more.

        :param inputs: the machine, which may get ``_all_came``.
        :param requester: the requester.
        :return: whether it was waiting for an answer.
        """
        was_flushing = requester in self.present.flushing
        was_waiting = self.leave(requester)
        if was_flushing and not self.present.flushing:
            self.effects.cancel("nobody waits for it any more")
            self.next_flush(inputs)
        return was_waiting

    # /post-sync.

    def expect_late(self, sources: Iterable[str], answered: bool) -> None:
        """Expect a ``/post-sync`` after the end of the window for each of these ``/sync``.

        :param sources: where each came from.
        :param answered: whether they had been answered 200.
        """
        window = self.window.id if self.window else "none"
        for source in sources:
            self.late_post_syncs.expect(window, answered, self.clock.seconds(), source)

    def whose(self, source: str) -> Whose:
        """Return which window a ``/post-sync`` belongs to that comes during the hold.

        :param source: where it came from.
        :return: whose it is.
        """
        possible = self.late_post_syncs.possible(source, self.clock.seconds())
        return whose(source, self.present.owing, possible)

    def settle(self, source: str) -> None:
        """Take a ``/post-sync`` that is without doubt the present window's.

        :param source: where it came from.
        """
        owing = self.present.owing
        owing.remove(next(each for each in owing if is_same(source, each)))

    def explain_doubt(self, source: str) -> str:
        """Explain why a ``/post-sync`` is not without doubt the present window's.

        :param source: where it came from.
        :return: a line.
        """
        now = self.clock.seconds()
        possible = self.late_post_syncs.possible(source, now)
        return explain_doubt(source, possible, now, self.time_of_day())

    def take_late_post_sync(self, source: str) -> tuple[LatePostSync, ...]:
        """Take a ``/post-sync`` that is not the present window's.

        :param source: where it came from.
        :return: the late ones that it may be.
        """
        possible = self.late_post_syncs.take(source, self.clock.seconds())
        if possible:
            self.persist()
        return possible

    def answer_late_post_sync(self, possible: tuple[LatePostSync, ...]) -> Answer:
        """Return the answer to a ``/post-sync`` that is not the present window's.

        :param possible: the late ones that it may be.
        :return: the answer: 500 if the snapshot may have been taken after a thaw.
        """
        if not possible:
            return self.answer(200)
        answered = [each for each in possible if each.answered]
        if not answered:
            return Answer(status=200, window=possible[-1].window, state="ended")
        line = f"{name_windows(answered)} had ended before: do not trust this snapshot"
        return Answer(status=500, window=answered[-1].window, state="ended", lines=(line,))

    # The freeze.

    def open_window(self, inputs: WindowInputs, requester: Requester, window: Window) -> None:
        """Open a window, and start its freeze.

        :param inputs: the machine, which gets ``_overdue`` when the budget is used up.
        :param requester: who asked for it.
        :param window: the window.
        """
        self.window = window
        self.start_budget(inputs, requester)
        _log.info(
            "window {window} opened by {source}{purpose}",
            window=window.id,
            source=requester.source,
            purpose=" as a rehearsal" if window.rehearser else "",
        )
        self.effects.window_opened(self.state())
        longest = self.limits.freeze_budget + self.limits.hold_limit
        self.effects.freeze(inputs, window.id, self.clock.seconds() + longest)

    def answer_failed_freeze(self) -> None:
        """Answer those who wait for a freeze that has failed, before its thaw is over."""
        window = self.present
        waiting, window.waiting = window.waiting, []
        self.expect_late(_sources(waiting), answered=False)
        self.persist()
        self.deliver(waiting, self.answer(500, *window.lines))

    # The hold.

    def admit(self, inputs: WindowInputs, requesters: Sequence[Requester]) -> Answer:
        """Admit these ``/sync`` requesters to the hold: each owes a ``/post-sync``.

        :param inputs: the machine, which gets ``_limit_passed`` when the hold's time is up.
        :param requesters: the requesters.
        :return: the answer for each of them.
        """
        window = self.present
        if not window.answered:
            window.first_answer = self.clock.seconds()
        window.owing += _sources(requesters)
        window.answered += len(requesters)
        limit = self.limits.hold_limit
        self.hold_for(inputs, min(limit, window.longest_hold(limit, self.clock.seconds())))
        self.persist()
        return self.answer(200, hold=limit)

    def hold_for(self, inputs: WindowInputs, seconds: float) -> None:
        """End the hold so many seconds from now, and not when it was to end before.

        :param inputs: the machine, which gets ``_limit_passed`` then.
        :param seconds: the seconds; a negative number is 0.
        """
        window = self.present
        if window.end is not None and window.end.active():
            window.end.cancel()
        seconds = max(0.0, seconds)
        window.end = self.clock.callLater(seconds, inputs._limit_passed)
        self.effects.hold(self.clock.seconds() + seconds)

    def hold_at_most(self, inputs: WindowInputs, seconds: float) -> None:
        """End the hold so many seconds from now, unless it ends before.

        :param inputs: the machine, which gets ``_limit_passed`` then.
        :param seconds: the seconds.
        """
        end = self.present.end
        assert end is not None
        self.hold_for(inputs, min(seconds, end.getTime() - self.clock.seconds()))

    def hold_rehearsal(self, inputs: WindowInputs) -> None:
        """Hold for as long as a rehearsal asked for, and no longer than any hold.

        :param inputs: the machine, which gets ``_rehearsed`` then.
        """
        window = self.present
        seconds = min(window.rehearsal, self.limits.hold_limit)
        window.end = self.clock.callLater(seconds, inputs._rehearsed)
        self.effects.hold(self.clock.seconds() + seconds)
        self.persist()

    def next_flush(self, inputs: WindowInputs) -> None:
        """Flush for those who want to join, or check whether the window is done.

        :param inputs: the machine, which gets ``_all_came`` if it is.
        """
        window = self.present
        if window.joining:
            window.flushing, window.joining = window.joining, []
            self.effects.flush(inputs)
        elif not window.owed:
            inputs._all_came()

    # The end.

    def end_hold(
        self, inputs: WindowInputs, outcome: Outcome, *lines: str, taken_by: Requester | None = None
    ) -> None:
        """Start the thaw; each ``/post-sync`` that is owed is late, and who was joining waits.

        :param inputs: the machine.
        :param outcome: how the window ends, unless a thaw fails.
        :param lines: why it is not synced.
        :param taken_by: who sent the ``/post-sync`` that ends the hold and may be any window's.
        """
        window = self.present
        if window.flushing:
            self.effects.cancel("the hold has ended")
        self.queue = [*window.flushing, *window.joining, *self.queue]
        window.flushing, window.joining = [], []
        self.expect_late(window.owing, answered=True)
        window.owing = []
        if taken_by is not None:
            self.late_post_syncs.take(taken_by.source, self.clock.seconds())
        self.begin_thaw(inputs, outcome, *lines)

    def begin_thaw(self, inputs: WindowInputs, outcome: Outcome, *lines: str) -> None:
        """Start the thaw of a window whose outcome is settled but for the thaw itself.

        :param inputs: the machine.
        :param outcome: how the window ends, unless a thaw fails.
        :param lines: why it is not synced.
        """
        window = self.present
        if window.end is not None and window.end.active():
            window.end.cancel()
        window.state, window.outcome, window.lines = "thawing", outcome, lines
        self.persist()
        self.effects.thaw(inputs, outcome)

    def close(self, lines: tuple[str, ...], refusal: int = 500) -> Callable[[], None]:
        """End the window after its thaw.

        :param lines: what went wrong with the thaw, a line each.
        :param refusal: the HTTP status for those whose freeze failed.
        :return: delivers the answers that waited for it; to be called last.
        """
        window = self.present
        if lines:
            window.lines += lines
            if window.outcome.is_good:
                window.outcome = Outcome.FAILED
        window.state = window.outcome.value
        end = Answer(
            status=200 if window.outcome.is_good else 500,
            window=window.id,
            state=window.state,
            lines=window.lines,
        )
        waiting, window.waiting = window.waiting, []
        self.expect_late(_sources(waiting), answered=False)
        self.window = None
        self.persist()
        self.effects.window_closed(end)

        def deliver() -> None:
            self.deliver(window.closing, end)
            self.deliver([window.rehearser] if window.rehearser else [], end)
            self.deliver(waiting, attrs.evolve(end, status=refusal))

        return deliver


def _sources(requesters: Iterable[Requester]) -> tuple[str, ...]:
    return tuple(requester.source for requester in requesters)
