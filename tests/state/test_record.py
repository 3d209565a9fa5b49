"""Tests for :mod:`xohook.state.record`."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import RecordError
from xohook.state.record import Entry, Record, State
from xohook.window.late_post_syncs import LatePostSync

ENTRY = Entry("command:a", 40, {"thaw": ["true"]}, {"pid": 12, "started": 345})

FULL = State(
    window="w1",
    waiting=1,
    owed=2,
    waiting_from=("192.0.2.1",),
    owed_from=("192.0.2.2", "2001:db8::1"),
    entries=(ENTRY,),
    late_post_syncs=(LatePostSync("w0", True, 1234.5, "192.0.2.1"),),
)


class RecordTests(SynchronousTestCase):
    """What is written is read again by the next start."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.record = Record(self.directory)

    def read(self) -> State:
        return Record(self.directory).read()

    def change(self, **values: object) -> None:
        """Change what stands in the file."""
        held = json.loads(self.record.path.read_text())
        self.record.path.write_text(json.dumps({**held, **values}))

    def test_nothing(self) -> None:
        """Without a file nothing is owed."""
        self.assertEqual(self.read(), State())

    def test_round_trip(self) -> None:
        """All of it comes back."""
        self.record.write(FULL)
        self.assertEqual(self.read(), FULL)

    def test_removed(self) -> None:
        """When nothing is owed any more there is no file."""
        self.record.write(FULL)
        self.record.write(State())
        self.assertFalse(self.record.path.exists())
        self.record.write(State())

    def test_kept(self) -> None:
        """While there is a stamp an empty record says that nothing is owed."""
        self.record.write(FULL)
        self.record.write(State(), has_stamp=True)
        self.assertTrue(self.record.path.exists())
        self.assertEqual(self.read(), State())
        self.record.write(State())
        self.assertFalse(self.record.path.exists())

    def test_once(self) -> None:
        """What is written already is not written again."""
        self.record.write(FULL)
        before = self.record.path.stat().st_ino
        self.record.write(attrs.evolve(FULL))
        self.assertEqual(self.record.path.stat().st_ino, before)
        self.record.write(attrs.evolve(FULL, owed=1))
        self.assertNotEqual(self.record.path.stat().st_ino, before)

    def test_another_boot(self) -> None:
        """After a boot the thaws are still owed; processes, requesters and times are nothing."""
        self.record.write(FULL)
        self.change(boot_id="another")
        expected = State(window="w1", entries=(attrs.evolve(ENTRY, process={}),))
        self.assertEqual(self.read(), expected)

    def test_without_sources(self) -> None:
        """A record that does not say where requests came from is understood."""
        self.record.write(FULL)
        held = json.loads(self.record.path.read_text())
        del held["waiting_from"], held["owed_from"], held["strays"][0]["source"]
        self.record.path.write_text(json.dumps(held))
        expected = attrs.evolve(
            FULL,
            waiting_from=(),
            owed_from=(),
            late_post_syncs=(LatePostSync("w0", True, 1234.5, ""),),
        )
        self.assertEqual(self.read(), expected)

    def test_wrong_sources(self) -> None:
        """What is no source is not taken for one."""
        for sources in ([1], 1, [None], [["192.0.2.1"]]):
            self.record.write(FULL)
            self.change(owed_from=sources)
            self.assertRaises(RecordError, self.read)

    def test_another_version(self) -> None:
        """The form of another version is not guessed at."""
        self.record.write(FULL)
        self.change(version=2)
        error = self.assertRaises(RecordError, self.read)
        self.assertIn(f"cannot understand the record {self.record.path}: ", str(error))

    def test_unknown(self) -> None:
        """Neither is what this version does not know."""
        self.record.write(FULL)
        self.change(colour="blue")
        self.assertRaises(RecordError, self.read)

    def test_unwritable(self) -> None:
        """What cannot be written is told with the reason; the next time it is tried again."""
        self.record.write(State())
        self.directory.rmdir()
        error = self.assertRaises(RecordError, self.record.write, FULL)
        self.assertEqual(
            str(error),
            f"cannot write the record {self.record.path}: No such file or directory",
        )
        self.directory.mkdir()
        self.record.write(FULL)
        self.assertEqual(self.read(), FULL)

    def test_unreadable(self) -> None:
        """What cannot be read is told with the reason."""
        self.record.path.mkdir()
        error = self.assertRaises(RecordError, self.read)
        self.assertEqual(str(error), f"cannot read the record {self.record.path}: Is a directory")
