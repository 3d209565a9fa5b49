"""What the state machine works with: the present window, its limits, and what it asks for. Pure."""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall

from xohook.answers import Answer, Outcome, Requester


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

    def closed(self, end: Answer) -> None:
        """Take note of a window's end.

        :param end: what is to be said of it.
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
    :param closing: the requesters that wait for its thaw: of ``/post-sync``, or of its end now.
    :param owing: the source of each ``/sync`` that was answered 200 and owes its ``/post-sync``.
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
        """How many ``/post-sync`` its answers are owed."""
        return len(self.owing)
