"""What is frozen and thawed: the interface that every kind of participant has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred


@attrs.frozen
class Operation:
    """One freeze or thaw that a participant is asked for.

    :param window: the window's id.
    :param timeout: seconds that it may take; the caller cancels it then.
    :param outcome: when thawing, how the window ends; empty when freezing.
    :param persist: writes into the record what the next start needs to find this operation's
        process; to be called before anything is done.
    :param until: when freezing, the time of the monotonic clock at which a guard lets go, unless it
        is told another one.
    :param let_go: when freezing, to be called with the reason if the participant lets go before
        it is asked to.
    """

    window: str
    timeout: float
    outcome: str
    persist: Callable[[Mapping[str, Any]], None]
    until: float = 0.0
    let_go: Callable[[str], None] = lambda _: None


class Unthawed(Protocol):
    """What may still be frozen after its thaw: filesystems, or what programs have frozen.

    :param name: the name of the participant that froze it.
    :param points: the mount points of filesystems; nothing can be written to them.
    :param may_be_frozen: whether anything may still be frozen.
    :param problem: why, as far as that is known; afterwards, why its thaw failed.
    :param process: the process that the next start has to wait for or end, as the record names it;
        empty where there is none.
    :param on_thawed: called once each when nothing is frozen any more, or its thaw was run.
    :param changed: called when the record has to be written again.
    """

    name: str
    problem: str
    on_thawed: list[Callable[[], None]]
    changed: Callable[[], None]

    @property
    def points(self) -> tuple[str, ...]:
        """The mount points of filesystems."""

    @property
    def may_be_frozen(self) -> bool:
        """Whether anything may still be frozen."""

    @property
    def process(self) -> Mapping[str, Any]:
        """The process that the next start has to wait for or end."""

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it."""

    async def attempt(self) -> None:
        """Try to thaw it. If this is cancelled, the attempt goes on by itself."""

    def forget(self) -> None:
        """Treat all as thawed, as the administrator says."""


class Participant(Protocol):
    """One participant; it knows only freeze and thaw.

    :param name: ``KIND:NAME``.
    :param order: lower orders freeze first.
    :param freeze_timeout: seconds that its freeze may take.
    :param thaw_timeout: seconds that its thaw may take.
    :param abort: whether a freeze of it that fails ends the window.
    :param holds: whether there is something to thaw.
    :param freezes_filesystem: whether it freezes filesystems, so that nothing can be written to
        them; it comes after the others of its order.
    """

    name: str
    order: int
    freeze_timeout: float
    thaw_timeout: float
    abort: bool
    holds: bool
    freezes_filesystem: bool

    @property
    def prepare(self) -> Callable[[Operation], Deferred[None]] | None:
        """Prepares the freeze, before anything in the window is frozen.

        Its Deferred fires when that is done; the thaw ends what it started. None if there is
        nothing to prepare.
        """

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Freeze.

        :param operation: what is asked for.
        :return: fires with the end of the output; fails with
            :exc:`~xohook.errors.ParticipantError`; can be cancelled.
        """

    def extend(self, until: float) -> None:
        """Hold until another time than the freeze said.

        :param until: the time of the monotonic clock at which a guard lets go.
        """

    def thaw(self, operation: Operation) -> Deferred[bytes]:
        """Thaw.

        :param operation: what is asked for.
        :return: as :meth:`freeze`.
        """

    @property
    def unthawed(self) -> Unthawed | None:
        """What may still be frozen and has to be thawed; None if nothing is."""

    def tail(self) -> bytes:
        """Return what an operation wrote that was cancelled.

        :return: the end of the output so far.
        """

    def when_quiet(self) -> Deferred[None]:
        """Wait for the end of a cancelled operation.

        :return: fires when nothing of it runs any more, or cannot be waited for.
        """

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record; none where it thaws without the agent.
        """
