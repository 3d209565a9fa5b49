"""Tests for the command ``xohook`` with files that are not what they should be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import needs
from tests.integration.agent import COMMAND
from tests.integration.command import CommandTestCase
from tests.integration.hook_client import PATIENCE


class FileTests(CommandTestCase):
    """The command says in words what is wrong with a file."""

    def run_program(self, *arguments: str | Path, output: str | None = None) -> str:
        """Run the command, which exits with 1; give what it says."""
        with Path(output or os.devnull).open("wb") as target:
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=target if output else subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                timeout=PATIENCE,
                text=True,
                check=False,
            )
        said = (done.stdout or "") + done.stderr
        self.assertEqual(done.returncode, 1, said)
        self.assertNotIn("Traceback", said)
        self.assertNotIn("Exception ignored", said)
        return said

    def test_full_output(self) -> None:
        """A full standard output is said on standard error."""
        needs.device(Path("/dev/full"))
        self.configure()
        for arguments in (("check",), ("setup",), ("setup", "--json")):
            said = self.run_program(*arguments, "-c", self.file, output="/dev/full")
            self.assertEqual(said, "standard output cannot be written: No space left on device\n")
        self.run_program("--help", output="/dev/full")

    def test_fifo(self) -> None:
        """A FIFO in the place of the configuration is not waited for."""
        fifo = self.directory / "fifo"
        os.mkfifo(fifo)
        for subcommand in ("check", "setup", "status", "thaw"):
            said = self.run_program(subcommand, "-c", fifo)
            self.assertIn(f"{fifo}", said)
            self.assertIn("it is a FIFO, and not a regular file", said)

    def test_device(self) -> None:
        """A device is not read to its end, which may never come."""
        for subcommand in ("check", "setup", "status", "thaw"):
            said = self.run_program(subcommand, "-c", "/dev/zero")
            self.assertIn("it is a device, and not a regular file", said)

    def test_long(self) -> None:
        """A configuration of more than 4 MiB is not read."""
        self.file.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
        said = self.run_program("check", "-c", self.file)
        self.assertIn("it is longer than 4 MiB", said)
