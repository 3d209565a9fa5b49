"""Tests for :mod:`xohook.state.stamp`: the file, written and read."""

from __future__ import annotations

import json
import resource
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import RecordError
from xohook.state.record import Entry, boot_id
from xohook.state.stamp import Stamp, StampData

ENTRY = Entry("command:a", 40, {"thaw": ["true"]}, {})


class StampTests(SynchronousTestCase):
    """What is pressed is read again, by this system or by one that comes from a snapshot."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.stamp = Stamp(self.directory)

    def test_none(self) -> None:
        """Where there is none there is nothing to read, and lifting it is no mistake."""
        self.assertIsNone(self.stamp.read())
        self.stamp.remove()

    def test_round_trip(self) -> None:
        """It tells the window, its time, this boot and who was at rest."""
        self.stamp.write("w1", 1234.5, [ENTRY])
        expected = StampData(window="w1", time=1234.5, boot=boot_id(), at_rest=(ENTRY,))
        self.assertEqual(Stamp(self.directory).read(), expected)

    def test_again(self) -> None:
        """A later one takes the place of the earlier, and nothing is left beside it."""
        self.stamp.write("w1", 1234.5, [])
        self.stamp.write("w1", 1234.5, [ENTRY])
        read = self.stamp.read()
        assert read is not None
        self.assertEqual(read.at_rest, (ENTRY,))
        self.assertEqual(list(self.directory.iterdir()), [self.stamp.path])

    def test_lift(self) -> None:
        """Lifted, it is gone."""
        self.stamp.write("w1", 1234.5, [])
        self.stamp.remove()
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_private(self) -> None:
        """It is nobody else's to read: a participant's environment may hold what is secret."""
        self.stamp.write("w1", 1234.5, [ENTRY])
        self.assertEqual(self.stamp.path.stat().st_mode & 0o777, 0o600)

    def test_unwritable(self) -> None:
        """What cannot be written, or taken away, is told with the reason."""
        self.directory.rmdir()
        error = self.assertRaises(RecordError, self.stamp.write, "w1", 1234.5, [])
        told = f"cannot write the stamp {self.stamp.path}: No such file or directory"
        self.assertEqual(str(error), told)
        error = self.assertRaises(RecordError, self.stamp.remove)
        told = f"cannot remove the stamp {self.stamp.path}: No such file or directory"
        self.assertEqual(str(error), told)

    def test_no_open_files(self) -> None:
        """Where no file can be opened it cannot be written, and the reason is told."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            error = self.assertRaises(RecordError, self.stamp.encode, "w1", 1234.5, [])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        told = f"cannot write the stamp {self.stamp.path}: Too many open files"
        self.assertEqual(str(error), told)

    def test_unreadable(self) -> None:
        """What cannot be read is told with the reason."""
        self.stamp.path.mkdir()
        error = self.assertRaises(RecordError, self.stamp.read)
        self.assertEqual(str(error), f"cannot read the stamp {self.stamp.path}: Is a directory")

    def test_corrupt(self) -> None:
        """What makes no sense is not guessed at; the administrator is told what to do."""
        good = {"version": 1, "window": "w1", "time": 1.5, "boot": "b", "at_rest": []}
        wrong: tuple[dict[str, object], ...]
        wrong = ({"version": 2}, {"at_rest": [1]}, {"at_rest": [{}]}, {"at_rest": 1}, {"more": 1})
        texts = ["", "{", "[]", '"x"', "1", "null", "{}", "\x80"]
        texts += [json.dumps({**good, **change}) for change in wrong]
        self.stamp.path.touch(mode=0o600)
        for text in texts:
            self.stamp.path.write_bytes(text.encode("latin-1"))
            error = self.assertRaises(RecordError, self.stamp.read)
            self.assertIn(f"cannot understand the stamp {self.stamp.path}: ", str(error), text)
            self.assertIn("by hand and remove the file", str(error))
