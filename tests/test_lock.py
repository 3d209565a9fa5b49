"""Tests for :mod:`xohook.lock`."""

from __future__ import annotations

import fcntl
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import StartError
from xohook.lock import Lock


class LockTests(SynchronousTestCase):
    """One agent a runtime directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_second(self) -> None:
        """A second one is refused with what to do."""
        Lock(self.directory)
        error = self.assertRaises(StartError, Lock, self.directory)
        expected = f"another agent is running with the runtime directory {self.directory}: stop it"
        self.assertIn(expected, str(error))

    def test_left_file(self) -> None:
        """The file that an agent left behind holds nobody up."""
        (self.directory / "lock").touch()
        Lock(self.directory)

    def test_not_inherited(self) -> None:
        """No program that the agent runs inherits it."""
        Lock(self.directory)
        target = str((self.directory / "lock").resolve())
        held = [
            int(each.name)
            for each in Path("/proc/self/fd").iterdir()
            if each.is_symlink() and str(each.readlink()) == target
        ]
        self.assertEqual(len(held), 1)
        self.assertTrue(fcntl.fcntl(held[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def test_no_directory(self) -> None:
        """A directory that is missing is told."""
        missing = self.directory / "missing"
        error = self.assertRaises(StartError, Lock, missing)
        self.assertEqual(str(error), f"cannot lock {missing}/lock: No such file or directory")
