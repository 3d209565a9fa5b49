"""What a failed test prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

#: Tests that fail with much to say, each in another way.
FAILING = """
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase, TestCase
import tests

LONG = "hay \\u20ac " * 500_000

class SynchronousTests(SynchronousTestCase):
    def deep(self, calls):
        if calls:
            self.deep(calls - 1)
        self.fail(LONG)

    def test_assertion(self):
        self.assertIn("needle", LONG)

    def test_calls(self):
        self.deep(300)

    def test_difference(self):
        self.assertEqual(LONG.split(), [])

    def test_raised(self):
        raise AssertionError(LONG)

    def test_statement(self):
        assert False, LONG

    def test_text(self):
        self.assertEqual(LONG, "needle")

    def test_undecoded(self):
        self.fail("\\udcff" * 500_000)

    def test_wrong_error(self):
        with self.assertRaises(KeyError):
            raise ValueError(LONG)

class ReactorTests(TestCase):
    async def test_awaited(self):
        self.assertEqual(LONG, "needle")

    def test_deferred(self):
        return fail(AssertionError(LONG))

    def test_error(self):
        raise RuntimeError(LONG)
"""

#: What trial puts before each failure.
SEPARATOR = "=" * 79


class PrintedTests(SynchronousTestCase):
    """A failed test prints at most 10 KB, in whatever way it fails."""

    def printed(self, *options: str) -> list[bytes]:
        """Run the failing tests; give what each printed."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "test_failing.py").write_text(FAILING, encoding="utf-8")
        paths = [str(directory), *filter(None, sys.path)]
        done = subprocess.run(
            [sys.executable, "-m", "twisted.trial", *options, "test_failing"],
            check=False,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stdout.split(SEPARATOR.encode())[1:]

    def assert_short(self, printed: list[bytes]) -> None:
        """See that all failed, and how much each printed."""
        self.assertEqual(len(printed), FAILING.count("def test_"))
        for text in printed:
            self.assertLess(len(text), 10_000, text[:200])

    def test_one_process(self) -> None:
        """In one process, as a developer runs a single module."""
        printed = self.printed()
        self.assert_short(printed)
        [assertion] = [text for text in printed if b"SynchronousTests.test_assertion" in text]
        self.assertIn(b"'needle' not in 'hay", assertion)
        self.assertIn(b"bytes left out]", assertion)

    def test_workers(self) -> None:
        """In two processes, which report to a third."""
        self.assert_short(self.printed("--jobs=2"))
