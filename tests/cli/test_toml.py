"""Tests for :mod:`xohook.cli.toml`."""

from __future__ import annotations

import sys
from unittest import SkipTest

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.cli.toml import quote

# What UTF-8 can hold; a secret is read from such a file.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


class QuoteTests(SynchronousTestCase):
    """Any string can be written as a TOML value."""

    def test_literal(self) -> None:
        """What needs no escapes is written as it stands, backslashes and quotes too."""
        self.assertEqual(quote('long "secret" \\ ß'), "'long \"secret\" \\ ß'")

    def test_basic(self) -> None:
        """An apostrophe or a control character calls for escapes."""
        self.assertEqual(quote('it\'s "x" \\'), '"it\'s \\"x\\" \\\\"')
        self.assertEqual(quote("a\tb\x00\x7f"), '"a\\tb\\u0000\\u007F"')

    @given(TEXT)
    def test_read_back(self, text: str) -> None:
        """A TOML parser reads back what was written."""
        if sys.version_info < (3, 11):
            raise SkipTest("the standard library has no TOML parser before Python 3.11")
        import tomllib

        self.assertEqual(tomllib.loads(f"key = {quote(text)}"), {"key": text})
