"""Tests for :mod:`xohook.processes.guards.launch`, run as the agent runs it."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.processes.guards import launch
from xohook.processes.guards.launch import EXIT_CANNOT_RUN, explain, places


class LauncherTests(SynchronousTestCase):
    """It becomes the program that it is told, once it is told all."""

    def launch(self, orders: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-I", "-S", "-B", launch.__file__],
            input=orders,
            capture_output=True,
            env={},
            timeout=60,
            check=False,
        )

    def orders(self, *arguments: str, directory: str = "/") -> bytes:
        return marshal.dumps((arguments, {"PATH": "/usr/bin:/bin"}, directory, None))

    def test_no_orders(self) -> None:
        """An agent that died before it gave orders has started nothing."""
        done = self.launch(b"")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_half_orders(self) -> None:
        """An agent that died while it gave them has started nothing either."""
        witness = Path(self.mktemp()).absolute()
        whole = self.orders("touch", str(witness))
        for length in (1, len(whole) // 2, len(whole) - 1):
            self.assertNotEqual(self.launch(whole[:length]).returncode, 0)
        self.assertFalse(witness.exists())
        self.assertEqual(self.launch(whole).returncode, 0)
        self.assertTrue(witness.exists())

    def test_streams(self) -> None:
        """All that the program writes goes where its standard output goes."""
        done = self.launch(self.orders("sh", "-c", "echo out; echo err >&2; exit 5"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (5, b"out\nerr\n", b""))

    def test_report(self) -> None:
        """What keeps the program from running is told on standard error."""
        done = self.launch(self.orders("/no/such/program"))
        self.assertEqual(
            (done.returncode, done.stdout, done.stderr),
            (EXIT_CANNOT_RUN, b"", b"/no/such/program: no such program"),
        )

    def test_imports(self) -> None:
        """It imports nothing with its orders: the program's user may not read Python's modules."""
        self.assertIn("marshal", self.imported(b""))
        self.assertEqual(self.imported(self.orders("true")), self.imported(b""))

    def imported(self, orders: bytes) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-I", "-S", "-B", launch.__file__],
            input=orders,
            capture_output=True,
            env={},
            timeout=60,
            check=True,
        )
        return [line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()]


class PlacesTests(SynchronousTestCase):
    """Where a program may be."""

    def test_path(self) -> None:
        """What has a slash in it is a path."""
        self.assertEqual(places("./a", {"PATH": "/bin"}), ["./a"])

    def test_name(self) -> None:
        """A name is looked for in each directory of PATH; an empty one is the present one."""
        self.assertEqual(places("a", {"PATH": "/bin::/usr/bin"}), ["/bin/a", "./a", "/usr/bin/a"])


class ExplainTests(SynchronousTestCase):
    """The system's words where they help, others where they mislead."""

    def test_own_words(self) -> None:
        """Most errors say it themselves."""
        error = PermissionError(13, "Permission denied", "/bin/a")
        self.assertEqual(explain(error, "/bin/a", {}, "/"), "Permission denied")

    def test_interpreter(self) -> None:
        """A file that is there, and yet not found, lacks what runs it."""
        here = str(Path(__file__))
        error = FileNotFoundError(2, os.strerror(2), here)
        self.assertIn("see its first line", explain(error, here, {}, "/"))
