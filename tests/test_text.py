"""Text that came from others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.text import LONGEST, counted, printable


class PrintableTests(SynchronousTestCase):
    """Making a text safe to show."""

    def test_plain(self) -> None:
        """A text that can be printed stays as it is, in any script."""
        for text in ["", "flush: not done", "größer", "日本", "a" * LONGEST]:
            self.assertEqual(printable(text), text)

    def test_control_characters(self) -> None:
        """Lines, escapes, directions and halves of surrogates are spelled out."""
        for text, shown in [
            ("a\nb", r"a\nb"),
            ("\x1b[2J", r"\x1b[2J"),
            ("\N{RIGHT-TO-LEFT OVERRIDE}", r"\u202e"),
            ("\ud800", r"\ud800"),
        ]:
            self.assertEqual(printable(text), shown)

    def test_cut(self) -> None:
        """What is too long is cut, and shows that it was."""
        self.assertEqual(printable("a" * 6, longest=5), "aaaa…")

    @given(st.text())
    def test_one_line(self, text: str) -> None:
        """Whatever came, one printable line is left."""
        self.assertTrue(printable(text).isprintable())


class CountedTests(SynchronousTestCase):
    """Saying how many there are."""

    def test_plural(self) -> None:
        """One is one, and none is said in words."""
        told = [counted(count, "participant") for count in (0, 1, 2)]
        self.assertEqual(told, ["no participants", "1 participant", "2 participants"])
