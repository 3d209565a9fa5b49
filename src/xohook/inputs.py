"""What can happen to windows: the inputs of the state machine. Pure."""

from __future__ import annotations

from typing import Protocol

from xohook.answers import Requester


class Windows(Protocol):
    """The inputs: what can happen to the windows of this agent, one after the other."""

    def sync(self, requester: Requester) -> None:
        """Take an authenticated ``/sync``."""

    def post_sync(self, requester: Requester) -> None:
        """Take an authenticated ``/post-sync``."""

    def rehearse(self, requester: Requester, hold: float) -> None:
        """Open a window that the administrator asks for, with a hold of so many seconds."""

    def gone(self, requester: Requester) -> None:
        """Note that a requester has closed its connection."""

    def stop(self) -> None:
        """Thaw and open no window any more: the agent is told to end."""

    def frozen(self) -> None:
        """Note that every participant is frozen."""

    def freeze_failed(self, lines: tuple[str, ...]) -> None:
        """Note, a line each, which participants that matter could not be frozen."""

    def flushed(self, lines: tuple[str, ...]) -> None:
        """Note that what only flushes has run again; each line tells of one that failed."""

    def let_go(self, line: str) -> None:
        """Note that a frozen participant has let go by itself."""

    def thawed(self, lines: tuple[str, ...]) -> None:
        """Note that the thaw is over; each line tells of a participant whose thaw failed."""

    def _overdue(self, requester: Requester) -> None:
        """Note that a requester's freeze budget is used up."""

    def _deserted(self) -> None:
        """Note that nobody waits for this window any more."""

    def _limit_passed(self) -> None:
        """Note that the hold has lasted as long as it may."""

    def _rehearsed(self) -> None:
        """Note that the hold of a rehearsal is over."""

    def _last_post_sync(self, requester: Requester) -> None:
        """Take the ``/post-sync`` that was still owed."""

    def _ambiguous_post_sync(self, requester: Requester) -> None:
        """Take a ``/post-sync`` that may be another window's."""

    def _all_came(self) -> None:
        """Note that nothing is owed any more and that nobody is joining."""
