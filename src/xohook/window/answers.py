"""What requesters are answered: outcomes, answers and requesters. Pure."""

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
        """Return whether all participants stayed frozen until the agent thawed them.

        :return: whether they did.
        """
        return self in (Outcome.SYNCED, Outcome.REHEARSED)


@attrs.frozen(kw_only=True)
class Answer:
    """The answer to one request.

    :param status: the HTTP status.
    :param window: the id of the window that it is about, None if there is none.
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
    """One who waits for an answer.

    :param source: its address, or who it is, for the log.
    :param deliver: takes the answer; called once at most.
    :param overdue: the call that answers when the freeze budget is used up.
    """

    source: str
    deliver: Callable[[Answer], None]
    overdue: IDelayedCall | None = None
