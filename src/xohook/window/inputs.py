"""What can happen to windows: the inputs of the state machine. Pure."""

from __future__ import annotations

from typing import Protocol

from xohook.window.answers import Requester


class WindowInputs(Protocol):
    """The inputs of the state machine; one agent has one machine.

    The coordinator sends what others request. Whoever carries out an effect reports how it ended.
    Those with an underscore come from the machine itself: a timer, or a decision of a transition.
    """

    # Requests.

    def sync(self, requester: Requester) -> None:
        """Take an authenticated ``/sync``.

        :param requester: who sent it.
        """

    def post_sync(self, requester: Requester) -> None:
        """Take an authenticated ``/post-sync``.

        :param requester: who sent it.
        """

    def rehearse(self, requester: Requester, hold: float) -> None:
        """Open a window without a snapshot, as the administrator requests.

        :param requester: who waits for its end.
        :param hold: the seconds of its hold.
        """

    def thaw_now(self, requester: Requester) -> None:
        """End the present window, as the administrator requests.

        :param requester: who waits for its end.
        """

    def gone(self, requester: Requester) -> None:
        """Take note that a requester has closed its connection.

        :param requester: the requester, answered or not.
        """

    def stop(self) -> None:
        """Thaw, and open no more windows: the agent stops."""

    # How an effect ended.

    def frozen(self) -> None:
        """Take note that every participant is frozen."""

    def freeze_failed(self, lines: tuple[str, ...]) -> None:
        """Take note that participants that matter could not be frozen.

        :param lines: a line for each.
        """

    def flushed(self, lines: tuple[str, ...]) -> None:
        """Take note that the participants with nothing to thaw have run again.

        :param lines: a line for each that failed.
        """

    def let_go(self, line: str) -> None:
        """Take note that a frozen participant has let go by itself.

        :param line: which one, and how.
        """

    def thawed(self, lines: tuple[str, ...]) -> None:
        """Take note that the thaw is over.

        :param lines: a line for each participant whose thaw failed.
        """

    # What the machine sends itself.

    def _overdue(self, requester: Requester) -> None:
        """Take note that a requester's freeze budget is used up.

        :param requester: the requester, not answered yet.
        """

    def _deserted(self) -> None:
        """Take note that nobody waits for this window any more."""

    def _limit_passed(self) -> None:
        """Take note that the hold has lasted as long as it may."""

    def _rehearsed(self) -> None:
        """Take note that the hold of a rehearsal is over."""

    def _last_post_sync(self, requester: Requester) -> None:
        """Take the last ``/post-sync`` that the window was owed.

        :param requester: who sent it.
        """

    def _ambiguous_post_sync(self, requester: Requester) -> None:
        """Take a ``/post-sync`` that may be another window's.

        :param requester: who sent it.
        """

    def _all_came(self) -> None:
        """Take note that the window is owed nothing any more and that nobody joins it."""
