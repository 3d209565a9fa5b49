"""What the transitions of windows share: the present window, who waits, what is owed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xohook.answers import Answer, Outcome, Requester
from xohook.inputs import Windows
from xohook.strays import LatePostSync, LatePostSyncs, Whose, is_same, whose
from xohook.work import Limits, Opened, Work

_log = Logger()

MOST_LIMITS = 2
"""No hold outlasts this many hold limits from its first answer (docs/hook.rst, Windows)."""

JOIN_SHARE = 0.5
"""The share of a hold limit that must be left to a hold for a ``/sync`` to join it still: with less
a snapshot would hardly be taken in time (docs/hook.rst, Windows)."""


@dataclass
class Course:
    """What the machine's transitions share.

    :param clock: the clock, monotonic.
    :param work: who does what the machine asks for.
    :param limits: the times that bound a window.
    :param new_id: makes the id of a new window.
    :param late_post_syncs: the ``/post-sync`` that are still expected.
    :param time_of_day: tells the time of day, in seconds since the epoch.
    :param window: the present window.
    :param queue: the ``/sync`` requesters that wait for a window of their own.
    :param late: the ``/post-sync`` requesters that wait for the thaw of a window that is over, each
        with the late_post_syncs that its request may be.
    """

    clock: IReactorTime
    work: Work
    limits: Limits
    new_id: Callable[[], str]
    late_post_syncs: LatePostSyncs
    time_of_day: Callable[[], float]
    window: Opened | None = None
    queue: list[Requester] = field(default_factory=list)
    late: list[tuple[Requester, tuple[LatePostSync, ...]]] = field(default_factory=list)

    @property
    def open(self) -> Opened:
        """The present window, where there must be one.

        :return: the window.
        """
        assert self.window is not None
        return self.window

    def open_window(self, inputs: Windows, requester: Requester, window: Opened) -> None:
        """Open a window, and begin its freeze.

        :param inputs: the machine, which is told when the budget is used up.
        :param requester: who asked for it.
        :param window: the window.
        """
        self.window = window
        self.await_answer(inputs, requester)
        _log.info(
            "window {window} opened by {source}{purpose}",
            window=window.id,
            source=requester.source,
            purpose=" as a rehearsal" if window.rehearser else "",
        )
        self.work.freeze(window.id)

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

    def expect(self, sources: Iterable[str], answered: bool) -> None:
        """Expect a ``/post-sync`` beyond the present window for each of these ``/sync``.

        :param sources: where each came from.
        :param answered: whether they had been answered 200.
        """
        window = self.window.id if self.window else "none"
        for source in sources:
            self.late_post_syncs.expect(window, answered, self.clock.seconds(), source)

    def whose(self, source: str) -> Whose:
        """Tell whose a ``/post-sync`` is that comes during the hold.

        :param source: where it came from.
        :return: whose it is.
        """
        possible = self.late_post_syncs.possible(source, self.clock.seconds())
        return whose(source, self.open.owing, possible)

    def settle(self, source: str) -> None:
        """Take a ``/post-sync`` that is without doubt the present window's.

        :param source: where it came from.
        """
        owing = self.open.owing
        owing.remove(next(each for each in owing if is_same(source, each)))

    def explain_doubt(self, source: str) -> str:
        """Say why a ``/post-sync`` is not without doubt the present window's, and what to do.

        :param source: where it came from.
        :return: a line.
        """
        now = self.clock.seconds()
        possible = self.late_post_syncs.possible(source, now)
        if not possible:
            return (
                f"a /post-sync came from {source}, and the /sync that it belongs to did not: do not"
                " trust this snapshot; see that each requester always comes from one address"
                " (an IP address in the URL, in place of a name, keeps it to one)"
            )
        end = self.time_of_day() + max(each.until for each in possible) - now
        return (
            f"a /post-sync from {source} may have been that of {_name_windows(possible)}, which had"
            " ended before: do not trust this snapshot; take another one after"
            f" {datetime.fromtimestamp(end, timezone.utc):%H:%M:%S} UTC, when that /post-sync is no"
            " longer expected"
        )

    def take_late_post_sync(self, source: str) -> tuple[LatePostSync, ...]:
        """Expect one ``/post-sync`` less: one has come that is not the present window's.

        :param source: where it came from.
        :return: the late_post_syncs that it may be.
        """
        possible = self.late_post_syncs.take(source, self.clock.seconds())
        if possible:
            self.work.save()
        return possible

    def answer_late_post_sync(self, possible: tuple[LatePostSync, ...]) -> Answer:
        """Put the answer to a ``/post-sync`` into words that is not the present window's.

        :param possible: the late_post_syncs that it may be.
        :return: the answer: 500 where the snapshot may have been taken after a thaw.
        """
        if not possible:
            return self.says(200)
        answered = [each for each in possible if each.answered]
        if not answered:
            return Answer(status=200, window=possible[-1].window, state="ended")
        line = f"{_name_windows(answered)} had ended before: do not trust this snapshot"
        return Answer(status=500, window=answered[-1].window, state="ended", lines=(line,))

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
            try:
                requester.deliver(answer)
            except Exception:  # noqa: BLE001 - the others must have their answers all the same.
                _log.failure(
                    "cannot answer {source}: a fault of xohook itself", source=requester.source
                )

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
                self.expect([requester.source], answered=False)
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

    def hold_rehearsal(self, inputs: Windows) -> None:
        """Hold as long as a rehearsal asked for, and no longer than any hold.

        :param inputs: the machine, which is told when the time is up.
        """
        window = self.open
        seconds = min(window.rehearsal, self.limits.hold_limit)
        window.end = self.clock.callLater(seconds, inputs._rehearsed)
        self.work.hold(self.clock.seconds() + seconds)
        self.work.save()

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

    @property
    def is_too_late_to_join(self) -> bool:
        """Whether too little is left to the hold for another snapshot."""
        return bool(self.open.answered) and self.most_left() < JOIN_SHARE * self.limits.hold_limit

    def answer_failed_freeze(self) -> None:
        """Answer those who wait for a freeze that has failed, before its thaw is over."""
        window = self.open
        waiting, window.waiting = window.waiting, []
        self.expect(_sources(waiting), answered=False)
        self.work.save()
        self.deliver(waiting, self.says(500, *window.lines))

    def admit(self, inputs: Windows, requesters: Sequence[Requester]) -> Answer:
        """Let these ``/sync`` requesters have their snapshots: each owes a ``/post-sync``.

        :param inputs: the machine, which is told when the hold's time is up.
        :param requesters: whoever asked.
        :return: the answer for each of them.
        """
        window = self.open
        if not window.answered:
            window.first_answer = self.clock.seconds()
        window.owing += _sources(requesters)
        window.answered += len(requesters)
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

    def end_hold(self, outcome: Outcome, *lines: str, taken_by: Requester | None = None) -> None:
        """Begin the thaw; what has not come is expected, and who was too late to join waits.

        :param outcome: how the window ends, unless a thaw fails.
        :param lines: why it is not synced.
        :param taken_by: who sent the ``/post-sync`` that ends the hold and may be any window's.
        """
        window = self.open
        if window.flushing:
            self.work.cancel("the hold has ended")
        self.queue = [*window.flushing, *window.joining, *self.queue]
        window.flushing, window.joining = [], []
        self.expect(window.owing, answered=True)
        window.owing = []
        if taken_by is not None:
            self.late_post_syncs.take(taken_by.source, self.clock.seconds())
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

    def close(self, lines: tuple[str, ...], refusal: int = 500) -> Callable[[], None]:
        """End the window after its thaw.

        :param lines: what went wrong with the thaw, a line each.
        :param refusal: the HTTP status for those whose ``/sync`` came to nothing.
        :return: delivers the answers that waited for it; to be called when the state is whole.
        """
        window = self.open
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
        self.expect(_sources(waiting), answered=False)
        self.window = None
        self.work.save()
        self.work.closed(end)

        def deliver() -> None:
            self.deliver(window.closing, end)
            self.deliver([window.rehearser] if window.rehearser else [], end)
            self.deliver(waiting, attrs.evolve(end, status=refusal))

        return deliver


def _sources(requesters: Iterable[Requester]) -> list[str]:
    return [requester.source for requester in requesters]


def _name_windows(late_post_syncs: Iterable[LatePostSync]) -> str:
    windows = dict.fromkeys(late.window for late in late_post_syncs)
    return " or ".join(f"window {window}" for window in windows)
