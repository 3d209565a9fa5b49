"""Lengths of time as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.durations import format_duration, parse_duration


class ParseDurationTests(SynchronousTestCase):
    """Reading a duration."""

    def test_units(self) -> None:
        """Milliseconds, seconds and minutes are the units, and decimals are allowed."""
        for text, seconds in [("500ms", 0.5), ("50s", 50.0), ("2m", 120.0), ("1.5s", 1.5)]:
            self.assertEqual(parse_duration(text), seconds, text)

    def test_refused(self) -> None:
        """A number without a unit, with another unit, with a sign or in another script is none."""
        for text in [
            "",
            "50",
            "s",
            "1h",
            "-1s",
            "+1s",
            "1 s",
            "1.s",
            ".5s",
            "1e3s",
            "\N{ARABIC-INDIC DIGIT FIVE}s",
            "1s1s",
        ]:
            with self.assertRaises(ValueError, msg=text) as caught:
                parse_duration(text)
            self.assertIn(repr(text), str(caught.exception))


class FormatDurationTests(SynchronousTestCase):
    """Writing a duration."""

    def test_units(self) -> None:
        """The unit is the one that reads best."""
        for seconds, text in [
            (0.0, "0ms"),
            (0.5, "500ms"),
            (1.0, "1s"),
            (1.5, "1.5s"),
            (50.0, "50s"),
            (90.0, "90s"),
            (120.0, "2m"),
            (3600.0, "60m"),
            (3599.1234, "3599.123s"),
            (0.9999, "1s"),
        ]:
            self.assertEqual(format_duration(seconds), text)

    @given(st.integers(min_value=0, max_value=10**9))
    def test_read_back(self, milliseconds: int) -> None:
        """What is written is read back as the same duration."""
        seconds = milliseconds / 1000
        self.assertEqual(parse_duration(format_duration(seconds)), seconds)
