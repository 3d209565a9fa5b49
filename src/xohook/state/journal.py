"""The log as systemd's journal takes it: with priorities, and without a second timestamp."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from time import time

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

_PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}
"""What syslog(3) calls Twisted's levels."""

_INFO = 6

DELAYED = 1.0
"""Seconds after which an event is written with its own time: the journal's is that of the writing,
and what happens while a filesystem is frozen is written after the thaw."""


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Tell whether a descriptor is a stream to the journal (systemd.exec(5), ``JOURNAL_STREAM``).

    :param descriptor: the descriptor, standard output's for instance.
    :param environ: the environment.
    :return: whether it is.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def format_event(event: LogEvent, now: float) -> str:
    """Write an event as lines for the journal.

    :param event: the event.
    :param now: the time, in seconds since the epoch.
    :return: its lines, each with its priority in front (sd-daemon(3)); empty where it says nothing.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    when = event.get("log_time", now)
    if now - when > DELAYED:
        moment = datetime.fromtimestamp(when, timezone.utc)
        text = f"[{moment.isoformat(timespec='milliseconds')}] {text}"
    priority = _PRIORITIES.get(event.get("log_level"), _INFO)
    return "".join(f"<{priority}>{line}\n" for line in text.splitlines() if line.strip())


@implementer(ILogObserver)
class JournalObserver:
    """Writes events to a stream to the journal.

    :param write: writes lines to the stream.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        """Write an event.

        :param event: the event.
        """
        lines = format_event(event, time())
        if lines:
            self._write(lines)
