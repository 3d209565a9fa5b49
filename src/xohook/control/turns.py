"""Serves the requests of many connections in turn, within a bound of time."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

TURN = 0.05
"""Seconds that requests may take before timers and others have their turn (docs/protocol.rst,
Messages)."""


class Served(Protocol):
    """A connection that has received something."""

    def wait(self) -> None:
        """Read nothing for now."""

    def serve(self) -> bool:
        """Take one request, or several answers.

        :return: whether it is to be called again.
        """


class Turns:
    """Serves connections in the order in which they asked, a request each.

    :param clock: gives timers and others their turn.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._queue: deque[Served] = deque()
        self._taken = 0.0
        self._is_turn_due = False

    def serve(self, channel: Served) -> None:
        """Serve a connection now if there is time in this turn of the reactor, or else later.

        :param channel: one that has received something.
        """
        if self._taken >= TURN:
            self._put_off(channel)
        else:
            self._serve(channel)

    def _serve(self, channel: Served) -> None:
        begun = self._clock.seconds()
        if channel.serve():
            self._put_off(channel)
        self._taken += self._clock.seconds() - begun
        if self._taken:
            self._want_turn()

    def _put_off(self, channel: Served) -> None:
        channel.wait()
        self._queue.append(channel)
        self._want_turn()

    def _want_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._is_turn_due = False
        self._taken = 0.0
        try:
            # Each of them once: what is put off meanwhile has the next turn.
            for _ in range(len(self._queue)):
                if self._taken >= TURN:
                    break
                self._serve(self._queue.popleft())
        finally:
            # An exception ends this turn alone.
            if self._queue:
                self._want_turn()
