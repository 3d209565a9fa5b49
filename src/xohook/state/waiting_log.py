"""The log that waits: while a filesystem is frozen, nothing is written to any disk.

Log files, the journal and a pipe whose reader is stuck may all end on what is frozen. What is
logged meanwhile waits in memory and comes out in order, each event with its own time.
"""

from __future__ import annotations

from collections import deque

from twisted.logger import ILogObserver, LogEvent, Logger, LogPublisher
from zope.interface import implementer

MOST_WAITING = 10_000
"""Events that wait at the most; the oldest beyond that are counted and thrown away."""


@implementer(ILogObserver)
class WaitingLog:
    """Stands between the log's events and those who write them."""

    _log = Logger()

    def __init__(self) -> None:
        self._behind = LogPublisher()
        self._waiting: deque[LogEvent] | None = None
        self._lost = 0

    def attach(self, publisher: LogPublisher) -> None:
        """Take the place of a publisher's observers, which hear by way of this from now on.

        :param publisher: the publisher.
        """
        # Twisted has no public way to ask a publisher for its observers.
        for observer in list(publisher._observers):
            publisher.removeObserver(observer)
            self._behind.addObserver(observer)
        publisher.addObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Pass an event on, or keep it until later.

        :param event: the event.
        """
        if self._waiting is None:
            self._pass_on(event)
            return
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(event)

    def pause(self) -> None:
        """Keep events in memory from now on."""
        if self._waiting is None:
            self._waiting = deque()

    def resume(self) -> None:
        """Write what has waited, and go on writing."""
        waiting, self._waiting = self._waiting or deque(), None
        lost, self._lost = self._lost, 0
        for event in waiting:
            self._pass_on(event)
        if lost:
            self._log.warn("{lost} earlier events did not fit in memory", lost=lost)

    def _pass_on(self, event: LogEvent) -> None:
        # A publisher of Twisted's goes on where an observer raises, and reports it to the others.
        self._behind(event)
