"""The agent's own disks around a freeze: the stamp goes on, and the log falls silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xohook.errors import RecordError
from xohook.logs import WaitingLog
from xohook.record import Entry
from xohook.stamp import Stamp


class Disk:
    """The stamp and the log of one agent.

    :param stamp: the stamp in the state directory.
    :param log: the log that waits.
    :param aside: does work that waits for a disk beside the reactor, one piece after the other.
    """

    _log = Logger()

    def __init__(self, stamp: Stamp, log: WaitingLog, aside: Callable[..., Deferred[Any]]) -> None:
        self._stamp = stamp
        self._waiting_log = log
        self._aside = aside

    async def press(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
        """Put the stamp on the disk, or a new one over the old.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :raises RecordError: where it cannot be written.
        """
        await self._aside(self._stamp.press, window, time, at_rest)

    async def lift(self) -> None:
        """Take the stamp off the disk; where that fails, the log tells."""
        try:
            await self._aside(self._stamp.lift)
        except RecordError as error:
            self._log.error("{error}", error=error)

    def hold_back(self) -> None:
        """Let nothing be written to any disk."""
        self._waiting_log.hold_back()

    def let_out(self) -> None:
        """Write what has waited."""
        self._waiting_log.let_out()
