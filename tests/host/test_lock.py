"""Tests for :mod:`xohook.host.lock`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import StartError
from xohook.host.lock import is_held, lock


class LockTests(SynchronousTestCase):
    """One agent a runtime directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_second(self) -> None:
        """A second one is refused with what to do."""
        lock(self.directory)
        error = self.assertRaises(StartError, lock, self.directory)
        who = f"another agent (process {os.getpid()})"
        expected = f"{who} is running with the runtime directory {self.directory}: stop it"
        self.assertIn(expected, str(error))

    def test_left_file(self) -> None:
        """The file that an agent left behind holds nobody up."""
        (self.directory / "lock").touch()
        lock(self.directory)

    def test_not_inherited(self) -> None:
        """No program that the agent runs inherits it."""
        lock(self.directory)
        target = str((self.directory / "lock").resolve())
        held = [
            int(each.name)
            for each in Path("/proc/self/fd").iterdir()
            if each.is_symlink() and str(each.readlink()) == target
        ]
        self.assertEqual(len(held), 1)
        self.assertTrue(fcntl.fcntl(held[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def test_is_held(self) -> None:
        """Whether it is held can be told without holding it, or making anything."""
        self.assertFalse(is_held(self.directory))
        self.assertEqual(list(self.directory.iterdir()), [])
        (self.directory / "lock").touch()
        self.assertFalse(is_held(self.directory))
        lock(self.directory)
        self.assertTrue(is_held(self.directory))

    def test_no_directory(self) -> None:
        """A directory that is missing is told."""
        missing = self.directory / "missing"
        error = self.assertRaises(StartError, lock, missing)
        self.assertEqual(str(error), f"cannot lock {missing}/lock: No such file or directory")
