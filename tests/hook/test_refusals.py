"""Refused requests in the log."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from xohook.hook.refusals import MOST_SOURCES, PERIOD, Refusals


class RefusalsTests(SynchronousTestCase):
    """Summing up what was refused."""

    def setUp(self) -> None:
        """Begin with nothing refused."""
        self.clock = Clock()
        self.refusals = Refusals(self.clock)

    def texts(self, events: Sequence[LogEvent]) -> list[str]:
        """Read the log."""
        return [formatEvent(event) for event in events]

    def test_first(self) -> None:
        """The first one is told at once."""
        with capturedLogs() as events:
            self.refusals.note("192.0.2.1", "no token in the URL")
        self.assertEqual(
            self.texts(events), ["refused a request from 192.0.2.1: no token in the URL"]
        )

    def test_summary(self) -> None:
        """Those that follow are told once a minute, with who sent the most and the last reason."""
        with capturedLogs() as events:
            for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2"):
                self.refusals.note(source, "no token in the URL")
            self.refusals.note("192.0.2.2", "no Authorization header")
            self.clock.advance(PERIOD - 1)
            self.assertEqual(len(events), 1)
            self.clock.advance(1)
        self.assertEqual(
            self.texts(events)[1:],
            [
                (
                    "refused 4 more requests in 60 s, 3 of them from 192.0.2.2;"
                    " the last one: no Authorization header"
                )
            ],
        )

    def test_each_summary_counts_anew(self) -> None:
        """A summary tells of its own minute."""
        with capturedLogs() as events:
            for _ in range(3):
                self.refusals.note("192.0.2.1", "no token in the URL")
                self.refusals.note("192.0.2.1", "no token in the URL")
                self.clock.advance(PERIOD)
        self.assertEqual(
            [text.split(" in ")[0] for text in self.texts(events)[1:]],
            [
                "refused 1 more requests",
                "refused 2 more requests",
                "refused 2 more requests",
            ],
        )

    def test_quiet_minute(self) -> None:
        """After a minute without any nothing is told, and the next one is the first again."""
        with capturedLogs() as events:
            self.refusals.note("192.0.2.1", "no token in the URL")
            self.clock.advance(PERIOD)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.refusals.note("192.0.2.2", "no token in the URL")
        self.assertEqual(
            self.texts(events),
            [
                "refused a request from 192.0.2.1: no token in the URL",
                "refused a request from 192.0.2.2: no token in the URL",
            ],
        )

    def test_many_sources(self) -> None:
        """So many sources are told apart, and the rest are counted together."""
        with capturedLogs() as events:
            self.refusals.note("192.0.2.1", "no token in the URL")
            for each in range(2 * MOST_SOURCES):
                self.refusals.note(f"2001:db8::{each}", "no token in the URL")
            self.refusals.note("2001:db8::0", "no token in the URL")
            self.clock.advance(PERIOD)
        self.assertIn(
            f"refused {2 * MOST_SOURCES + 1} more requests in 60 s,"
            f" {MOST_SOURCES} of them from others",
            self.texts(events)[1],
        )
