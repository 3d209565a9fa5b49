"""Limits how many lines a user's apps have in the log."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

PERIOD = 60.0
"""Seconds that a limit and a summary cover (docs/protocol.rst, register)."""

MOST = 100
"""Lines of a user in that time."""


class LimitedLines:
    """Counts the lines of each user, and sums up those that are left out.

    :param clock: tells when a summary is due.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counted: Counter[int] = Counter()

    def admit(self, uid: int) -> bool:
        """Count one more line.

        :param uid: whose it is.
        :return: whether it is to be written.
        """
        if not self._counted:
            self._clock.callLater(PERIOD, self._summarize)
        self._counted[uid] += 1
        return self._counted[uid] <= MOST

    def _summarize(self) -> None:
        counted, self._counted = self._counted, Counter()
        for uid, count in counted.items():
            if count > MOST:
                self._log.warn(
                    "apps of user {uid} registered or unregistered {count} more times in"
                    " {period:.0f} s",
                    uid=uid,
                    count=count - MOST,
                    period=PERIOD,
                )
