"""Runs the command ``xohook`` in tests."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import free_port
from xohook.cli import main


class CommandTestCase(SynchronousTestCase):
    """Runs the command on a configuration of the test's own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.state = self.directory / "state"
        self.file = self.directory / "xohook.ini"
        self.port = free_port()

    def configure(self, *options: str, listen: str | None = None, sections: str = "") -> None:
        """Write the configuration."""
        lines = (
            "[xohook]",
            f"listen = {listen or self.port}",
            f"state_directory = {self.state}",
            "runtime_directory = /dev/shm/xohook-test-not-made",
            *options,
            sections,
        )
        self.file.write_text("\n".join(lines))

    def run_command(self, *arguments: str, good: bool = True) -> Result:
        """Run the command, which is to exit with 0, or with 1 where it is not to find all good."""
        result = CliRunner().invoke(main, [*arguments, "-c", str(self.file)])
        # A traceback would exit with 1 too.
        self.assertIsInstance(result.exception, SystemExit | None, result.exc_info)
        self.assertEqual(result.exit_code, 0 if good else 1, result.output)
        return result

    def keep(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file beside the configuration."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return path
