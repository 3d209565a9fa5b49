"""Whoever is frozen and thawed: the interface that every kind of participant has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred


@attrs.frozen
class Phase:
    """One freeze or thaw that a participant is asked for.

    :param window: the window's id.
    :param timeout: seconds that it may take; who asks sees to it.
    :param outcome: when thawing, how the window ends; empty when freezing.
    :param note: writes into the record what the next start needs to find this phase's process;
        to be called before anything is done.
    """

    window: str
    timeout: float
    outcome: str
    note: Callable[[Mapping[str, Any]], None]


class Participant(Protocol):
    """One participant; it knows only freeze and thaw.

    :param name: ``KIND:NAME``.
    :param order: its place; lower orders freeze first.
    :param freeze_timeout: seconds that its freeze may take.
    :param thaw_timeout: seconds that its thaw may take.
    :param abort: whether a freeze of it that fails ends the window.
    :param holds: whether there is something to thaw.
    """

    name: str
    order: int
    freeze_timeout: float
    thaw_timeout: float
    abort: bool
    holds: bool

    def freeze(self, phase: Phase) -> Deferred[bytes]:
        """Come to rest.

        :param phase: what is asked for.
        :return: fires with the end of the output; fails with
            :exc:`~xohook.errors.ParticipantError`; can be cancelled.
        """

    def thaw(self, phase: Phase) -> Deferred[bytes]:
        """Go on.

        :param phase: what is asked for.
        :return: as :meth:`freeze` has it.
        """

    def when_quiet(self) -> Deferred[None]:
        """Wait for what was broken off.

        :return: fires when nothing of a cancelled phase runs any more, or cannot be waited for.
        """

    def owed(self) -> Mapping[str, Any]:
        """Tell what the next start needs to thaw it.

        :return: plain values for the record.
        """
