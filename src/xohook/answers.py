"""What windows say to those who asked: outcomes, answers and requesters. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import attrs
from twisted.internet.interfaces import IDelayedCall


class Outcome(str, Enum):
    """How a window ended (docs/hook.rst, Outcomes)."""

    SYNCED = "synced"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    BROKEN = "broken"
    AMBIGUOUS = "ambiguous"
    STOPPED = "stopped"
    RECOVERED = "recovered"
    REHEARSED = "rehearsed"

    @property
    def is_good(self) -> bool:
        """Tell whether all held until it was asked to let go.

        :return: whether it did.
        """
        return self in (Outcome.SYNCED, Outcome.REHEARSED)


@attrs.frozen(kw_only=True)
class Answer:
    """The answer to one request.

    :param status: the HTTP status that says it.
    :param window: the id of the window that it speaks of, None where there is none.
    :param state: the window's state, or its outcome once it has ended.
    :param lines: what went wrong, a line each.
    :param hold: seconds that the hold which begins with this answer may last.
    """

    status: int
    window: str | None = None
    state: str = "idle"
    lines: tuple[str, ...] = ()
    hold: float | None = None


@attrs.define(eq=False)
class Requester:
    """Whoever waits for one answer.

    :param source: who that is, for the log.
    :param deliver: takes the answer; called once at the most.
    :param overdue: the call that answers in the end, whatever happens.
    """

    source: str
    deliver: Callable[[Answer], None]
    overdue: IDelayedCall | None = None
