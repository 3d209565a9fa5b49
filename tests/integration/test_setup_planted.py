"""Tests for ``xohook setup`` by root for another user's agent."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests import needs
from tests.integration.command import CommandTestCase


class PlantedTests(CommandTestCase):
    """Root does not print what the user cannot read."""

    def setUp(self) -> None:
        needs.root()
        super().setUp()
        self.user = needs.user("nobody").pw_uid
        above = Path(tempfile.mkdtemp(prefix="xohook-")).resolve()
        self.addCleanup(shutil.rmtree, above)
        above.chmod(0o755)
        self.state = above / "state"
        self.state.mkdir(0o700)
        os.chown(self.state, self.user, 0)
        self.key = self.keep("key", "root-only-key\n")

    def assert_refused(self, name: str) -> None:
        """See that a file of the state directory is refused, and root's key is not printed."""
        self.configure()
        output = self.run_command("setup", good=False).output
        self.assertNotIn("root-only-key", output)
        self.assertIn(f"{self.state / name} belongs to user 0, and the agent is", output)

    def test_name(self) -> None:
        """A link in the place of the VM's name is not followed to a file of root's."""
        self.link("vm")
        self.assert_refused("vm")

    def test_secret(self) -> None:
        """Nor is one in the place of the secret."""
        self.link("secret")
        self.assert_refused("secret")

    def test_hard_link(self) -> None:
        """Nor is a hard link to such a file read."""
        here = self.state.parent / "key"
        here.write_text("root-only-key\n")
        here.chmod(0o600)
        os.link(here, self.state / "vm")
        self.assert_refused("vm")

    def test_own(self) -> None:
        """The user's own files are read."""
        name = self.state / "vm"
        name.write_text("web01\n")
        os.chown(name, self.user, 0)
        self.configure()
        self.assertIn("vm=web01", self.run_command("setup").output)
        self.assertIn("vm=web01", self.run_command("setup").output)

    def link(self, name: str) -> None:
        """Plant a symbolic link of the user's."""
        (self.state / name).symlink_to(self.key)
        os.chown(self.state / name, self.user, 0, follow_symlinks=False)
