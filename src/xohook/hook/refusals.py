"""Refused requests in the log: the first one at once, those that follow it in summary."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

PERIOD = 60.0
"""Seconds that a summary covers (docs/operation.rst, The log)."""

MOST_SOURCES = 100
"""Sources that are told apart in one summary, which names one: a flood from ever new addresses is
not worth more memory."""


class Refusals:
    """Counts refused requests.

    :param clock: tells when a summary is due.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._is_counting = False
        self._counted: Counter[str] = Counter()
        self._last_reason = ""

    def note(self, source: str, reason: str) -> None:
        """Note one refused request.

        :param source: where it came from.
        :param reason: why it was refused, in words that hold no credential.
        """
        if not self._is_counting:
            self._log.warn(
                "refused a request from {source}: {reason}", source=source, reason=reason
            )
            self._start()
            return
        known = source in self._counted or len(self._counted) < MOST_SOURCES
        self._counted[source if known else "others"] += 1
        self._last_reason = reason

    def _start(self) -> None:
        self._is_counting = True
        self._clock.callLater(PERIOD, self._summarize)

    def _summarize(self) -> None:
        if not self._counted:
            self._is_counting = False
            return
        (source, most), *_ = self._counted.most_common(1)
        self._log.warn(
            "refused {count} more requests in {period:.0f} s, {most} of them from {source};"
            " the last one: {reason}",
            count=self._counted.total(),
            period=PERIOD,
            most=most,
            source=source,
            reason=self._last_reason,
        )
        self._counted.clear()
        self._start()
