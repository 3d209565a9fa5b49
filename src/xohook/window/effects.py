"""What the state machine works with: the present window, its limits, and its effects. Pure."""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall

from xohook.window.answers import Answer, Outcome, Requester
from xohook.window.inputs import WindowInputs

MOST_LIMITS = 2
"""No hold outlasts this many hold limits from its first answer (docs/hook.rst, Windows)."""

JOIN_SHARE = 0.5
"""The share of a hold limit that the hold must have left for a ``/sync`` to join it: with less, a
snapshot would hardly be taken in time (docs/hook.rst, Windows)."""

LINGER = 60.0
"""Seconds of hold that a ``/post-sync`` leaves that is not the last (docs/hook.rst, Windows)."""


@attrs.define
class Limits:
    """The times that bound a window.

    :param freeze_budget: seconds from a ``/sync`` to its answer.
    :param hold_limit: seconds from an answer to the thaw.
    """

    freeze_budget: float
    hold_limit: float


@attrs.define
class Window:
    """The present window.

    :param id: its id.
    :param state: the word for its present state.
    :param waiting: the ``/sync`` requesters that wait for its freeze, or for the thaw after it
        failed.
    :param joining: those that wait for a flush of their own during the hold.
    :param flushing: those that the present flush is for.
    :param closing: the requesters that wait for its thaw: of ``/post-sync``, or administrators.
    :param owing: the source of each ``/sync`` that was answered 200 and owes its ``/post-sync``.
    :param answered: how many ``/sync`` have been answered 200.
    :param first_answer: when the first of them was, in seconds of the clock.
    :param rehearser: who opened it as a rehearsal.
    :param rehearsal: seconds of hold that a rehearsal asked for.
    :param end: the timer that ends the hold.
    :param outcome: how it ends, once that is settled.
    :param lines: why it is not synced.
    """

    id: str
    state: str = "freezing"
    waiting: list[Requester] = attrs.Factory(list)
    joining: list[Requester] = attrs.Factory(list)
    flushing: list[Requester] = attrs.Factory(list)
    closing: list[Requester] = attrs.Factory(list)
    owing: list[str] = attrs.Factory(list)
    answered: int = 0
    first_answer: float = 0.0
    rehearser: Requester | None = None
    rehearsal: float = 0.0
    end: IDelayedCall | None = None
    outcome: Outcome = Outcome.SYNCED
    lines: tuple[str, ...] = ()

    @property
    def owed(self) -> int:
        """How many ``/post-sync`` it is owed."""
        return len(self.owing)

    def unanswered(self) -> list[Requester]:
        """Return the ``/sync`` requesters that wait for their answer.

        :return: the requesters.
        """
        return [*self.waiting, *self.joining, *self.flushing]

    def longest_hold(self, hold_limit: float, now: float) -> float:
        """Return how long the hold can last from now, whoever joins it.

        :param hold_limit: seconds from an answer to the thaw.
        :param now: the time of the clock.
        :return: seconds.
        """
        return self.first_answer + MOST_LIMITS * hold_limit - now

    def is_too_late_to_join(self, hold_limit: float, now: float) -> bool:
        """Return whether the hold has too little time left for another snapshot.

        :param hold_limit: seconds from an answer to the thaw.
        :param now: the time of the clock.
        :return: whether it has.
        """
        return bool(self.answered) and self.longest_hold(hold_limit, now) < JOIN_SHARE * hold_limit


@attrs.frozen(kw_only=True)
class MachineState:
    """What the machine knows of requests, as a value: for the record and for watchers.

    :param answer: what there is to say of the present window; None if none is open.
    :param waiting: where each ``/sync`` came from that waits for its answer.
    :param owing: where each ``/sync`` came from that was answered 200 and owes its ``/post-sync``.
    """

    answer: Answer | None = None
    waiting: tuple[str, ...] = ()
    owing: tuple[str, ...] = ()


class WindowEffects(Protocol):
    """What the machine decides, for another to carry out.

    Each is called within a transition, and returns at once. What takes time goes on after that,
    and its end is one of the inputs that are passed in.
    """

    def window_opened(self, state: MachineState) -> None:
        """Take note of a new window; the record is first written by its freeze.

        :param state: what the machine knows now.
        """

    def freeze(self, inputs: WindowInputs, window: str, until: float) -> None:
        """Freeze all participants; it ends with ``frozen`` or ``freeze_failed``.

        :param inputs: the machine.
        :param window: the window's id.
        :param until: the time of the clock at which freeze and hold have ended at the latest.
        """

    def flush(self, inputs: WindowInputs) -> None:
        """Freeze those again that have nothing to thaw; it ends with ``flushed``.

        :param inputs: the machine.
        """

    def cancel(self, why: str) -> tuple[str, ...]:
        """Cancel the freeze or the flush that is under way; it then ends with no input.

        :param why: the reason.
        :return: a line for each participant that was not done.
        """

    def hold(self, until: float) -> None:
        """Hold until then, unless a thaw comes before.

        :param until: the time of the clock at which the hold ends.
        """

    def thaw(self, inputs: WindowInputs, outcome: Outcome) -> None:
        """Thaw everything that was frozen; it ends with ``thawed``.

        :param inputs: the machine.
        :param outcome: how the window ends, unless a thaw fails.
        """

    def persist(self, state: MachineState) -> None:
        """Write the record, before any answer that changes what is in it.

        :param state: what the machine knows now.
        """

    def window_closed(self, end: Answer) -> None:
        """Take note of a window's end.

        :param end: what there is to say of it.
        """

    def stopped(self) -> None:
        """Take note that no more windows open and that nothing is frozen."""
