"""Tests for ``xohook check``: what other users can change."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests import needs
from tests.integration.command import CommandTestCase


class WritableTests(CommandTestCase):
    """``xohook check`` warns of what other users can change and root runs or uses."""

    def check(self) -> list[str]:
        """Run it; give its warnings."""
        lines = self.run_command("check").output.splitlines()
        # Another program on this machine may have frozen a filesystem of its own.
        return [line for line in lines if line.startswith("warning") and "frozen now" not in line]

    def test_program(self) -> None:
        """A program that everybody can write to is a warning."""
        program = self.keep("program", "#!/bin/sh\n", 0o777)
        self.configure(sections=f"[command:it]\nfreeze = {program}")
        [line] = self.check()
        self.assertIn("[command:it] freeze: ", line)
        self.assertIn(f"Others may write to {program} (mode 0777)", line)
        self.assertIn(f"chmod go-w {program}", line)

    def test_owner(self) -> None:
        """So is a program of another user, unless it runs as that user."""
        needs.root()
        nobody = needs.user("nobody")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory).chmod(0o755)
            program = Path(directory) / "program"
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
            os.chown(program, nobody.pw_uid, 0)
            self.configure(sections=f"[command:it]\nfreeze = {program}")
            [line] = self.check()
            self.assertIn(f"{program} belongs to user {nobody.pw_uid}", line)
            self.configure(sections=f"[command:it]\nfreeze = {program}\nuser = nobody")
            self.assertEqual(self.check(), [])

    def test_scripts(self) -> None:
        """So is a script in a directory in which everybody can exchange it."""
        scripts = self.directory / "scripts"
        scripts.mkdir()
        scripts.chmod(0o777)
        self.keep("scripts/10-a", "#!/bin/sh\n", 0o755)
        self.configure(sections=f"[scripts:all]\ndirectory = {scripts}")
        [line] = self.check()
        self.assertIn(f"Others may write to {scripts} (mode 0777)", line)

    def test_control(self) -> None:
        """So is a control socket in a sticky directory."""
        self.configure(f"control = {tempfile.gettempdir()}/xohook-test-not-made.sock")
        [line] = self.check()
        self.assertIn("is sticky, so that any user can take the socket's name", line)
