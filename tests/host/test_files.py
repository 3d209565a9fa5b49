"""Tests for :mod:`xohook.host.files`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.host.files import create_private, write_private

NOBODY = 65534


class WritePrivateTests(SynchronousTestCase):
    """A private file is replaced whole."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "record"

    def test_written(self) -> None:
        """The file has the content, is for its owner alone, and nothing lies beside it."""
        old_mask = os.umask(0)
        self.addCleanup(os.umask, old_mask)
        write_private(self.path, b"one", lasting=True)
        self.assertEqual(self.path.read_bytes(), b"one")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(list(self.directory.iterdir()), [self.path])

    def test_replaced(self) -> None:
        """Who has the old file open reads it to its end; the name leads to the new one."""
        write_private(self.path, b"one")
        with self.path.open("rb") as old:
            write_private(self.path, b"two")
            self.assertEqual(old.read(), b"one")
        self.assertEqual(self.path.read_bytes(), b"two")

    def test_failure(self) -> None:
        """A disk that is full leaves the old file as it was, and no draft."""
        write_private(self.path, b"one")
        full = mock.patch("os.fsync", side_effect=OSError(28, "No space left on device"))
        with full:
            self.assertRaises(OSError, write_private, self.path, b"two", lasting=True)
        self.assertEqual(self.path.read_bytes(), b"one")
        self.assertEqual(list(self.directory.iterdir()), [self.path])

    def test_given_away(self) -> None:
        """What root makes in another user's directory is that user's."""
        needs.root()
        os.chown(self.directory, NOBODY, NOBODY)
        write_private(self.path, b"one")
        self.assertEqual((self.path.stat().st_uid, self.path.stat().st_gid), (NOBODY, NOBODY))


class CreatePrivateTests(SynchronousTestCase):
    """A private file is made once."""

    def test_first_wins(self) -> None:
        """The second to make it changes nothing, and hears so."""
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        path = directory / "secret"
        self.assertTrue(create_private(path, b"one"))
        self.assertFalse(create_private(path, b"two"))
        self.assertEqual(path.read_bytes(), b"one")
        self.assertEqual(list(directory.iterdir()), [path])
