"""Tests of ``make`` where something that it needs is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PROJECT = Path(__file__).parents[1]

#: A Python that has everything but what Debian packs apart, as python3-venv.
WITHOUT_VENV = """\
#!/bin/sh
case "$*" in
*ensurepip*) exit 1 ;;
esac
exec {python} "$@"
"""


class MissingTests(SynchronousTestCase):
    """``make run`` and ``make test`` fail at once, and name what to install."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def fail_with(self, python: str, target: str) -> str:
        """Run ``make``, which fails before it makes anything; give what it says."""
        venv = self.directory / "venv"
        done = subprocess.run(
            ["make", "--no-print-directory", f"PYTHON={python}", f"VENV={venv}", target],
            cwd=PROJECT,
            check=False,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertFalse(venv.exists())
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr

    def test_venv(self) -> None:
        """Where Python cannot make virtual environments, Debian's package is named."""
        python = self.directory / "python3.99"
        python.write_text(WITHOUT_VENV.format(python=sys.executable))
        python.chmod(0o755)
        for target in ("run", "test", "wheel"):
            self.assertIn("apt install python3.99-venv\n", self.fail_with(str(python), target))

    def test_python(self) -> None:
        """Where there is no such Python, it is named."""
        said = self.fail_with("no-such-python", "run")
        self.assertIn("There is no no-such-python here: apt install python3", said)
