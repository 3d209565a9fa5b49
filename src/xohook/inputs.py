"""What can happen to windows: the inputs of the state machine. Pure."""

from __future__ import annotations

from typing import Protocol

from xohook.answers import Requester


class Windows(Protocol):
    """The inputs: what can happen to the windows of this agent, one after the other."""

    def sync(self, requester: Requester) -> None:
        """Take an authenticated ``/sync``.

        :param requester: who sent it.
        """

    def post_sync(self, requester: Requester) -> None:
        """Take an authenticated ``/post-sync``.

        :param requester: who sent it.
        """

    def rehearse(self, requester: Requester, hold: float) -> None:
        """Open a window that the administrator asks for.

        :param requester: who waits for its end.
        :param hold: the seconds of its hold.
        """

    def gone(self, requester: Requester) -> None:
        """Note that a requester has closed its connection.

        :param requester: the requester, answered or not.
        """

    def thaw_now(self, requester: Requester) -> None:
        """End the present window: the administrator asks for it.

        :param requester: who waits for its end.
        """

    def stop(self) -> None:
        """Thaw and open no window any more: the agent is told to end."""

    def frozen(self) -> None:
        """Note that every participant is frozen."""

    def freeze_failed(self, lines: tuple[str, ...]) -> None:
        """Note that participants that matter could not be frozen.

        :param lines: a line for each.
        """

    def flushed(self, lines: tuple[str, ...]) -> None:
        """Note that what only flushes has run again.

        :param lines: a line for each that failed.
        """

    def let_go(self, line: str) -> None:
        """Note that a frozen participant has let go by itself.

        :param line: which one, and how.
        """

    def thawed(self, lines: tuple[str, ...]) -> None:
        """Note that the thaw is over.

        :param lines: a line for each whose thaw failed.
        """

    def _overdue(self, requester: Requester) -> None:
        """Note that a requester's freeze budget is used up.

        :param requester: the requester, unanswered.
        """

    def _deserted(self) -> None:
        """Note that nobody waits for this window any more."""

    def _limit_passed(self) -> None:
        """Note that the hold has lasted as long as it may."""

    def _rehearsed(self) -> None:
        """Note that the hold of a rehearsal is over."""

    def _last_post_sync(self, requester: Requester) -> None:
        """Take the ``/post-sync`` that was still owed.

        :param requester: who sent it.
        """

    def _ambiguous_post_sync(self, requester: Requester) -> None:
        """Take a ``/post-sync`` that may be another window's.

        :param requester: who sent it.
        """

    def _all_came(self) -> None:
        """Note that nothing is owed any more and that nobody is joining."""
