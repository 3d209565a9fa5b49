"""Tests for :mod:`xohook.coordinator.recovery`: what record and stamp together call for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xohook.coordinator.recovery import recover
from xohook.errors import RecordError
from xohook.state.record import Entry, Record, State, boot_id
from xohook.state.stamp import Stamp


class RecoverTestCase(SynchronousTestCase):
    """A record and a stamp, and participants whose thaw leaves a line in a journal."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.record = Record(self.directory)
        self.stamp = Stamp(self.directory)
        self.journal = self.directory / "journal"
        self.journal.touch()

    def entry(self, name: str, order: int, **owed: Any) -> Entry:
        told: Mapping[str, Any] = {
            "timeout": 30.0,
            "account": None,
            "directory": "/",
            "environment": {},
            **owed,
        }
        return Entry(name, order, told, {})

    def command(self, name: str, order: int) -> Entry:
        script = f'echo "{name} $XOHOOK_OUTCOME $XOHOOK_WINDOW" >>"{self.journal}"'
        return self.entry(f"command:{name}", order, thaw=["sh", "-c", script])

    def write_stamp(self, *at_rest: Entry, boot: str | None = None) -> None:
        """Press a stamp, as another boot of the system where one is given."""
        self.stamp.write("w1", 1234.5, at_rest)
        if boot is not None:
            told = json.loads(self.stamp.path.read_text())
            self.stamp.path.write_text(json.dumps({**told, "boot": boot}))

    def recover(self) -> None:
        """Do what a start of the agent does."""
        recover(Record(self.directory), self.stamp)

    def assert_recovered(self, *journal: str) -> None:
        """See that these ran, in order, and that record and stamp are gone."""
        self.assertEqual(self.journal.read_text().splitlines(), [*journal])
        self.assertEqual(list(self.directory.iterdir()), [self.journal])


class SameBootTests(RecoverTestCase):
    """The system has been up since: the record counts, and the stamp where there is none."""

    def test_nothing(self) -> None:
        """With neither record nor stamp there is nothing to do."""
        self.recover()
        self.assert_recovered()

    def test_stamp_alone(self) -> None:
        """A stamp with no record is that of a window whose record is lost: it is thawed."""
        self.write_stamp(self.command("a", 10), self.command("b", 20))
        self.recover()
        self.assertEqual(
            self.journal.read_text().splitlines(), ["b recovered w1", "a recovered w1"]
        )
        self.assertFalse(self.stamp.path.exists())
        [late] = Record(self.directory).read().late_post_syncs
        self.assertTrue(late.answered)

    def test_left_over(self) -> None:
        """A stamp beside an empty record is what is left of a window that was over: both go."""
        self.write_stamp(self.command("a", 10))
        self.record.write(State(), has_stamp=True)
        self.recover()
        self.assert_recovered()

    def test_left_over_and_unremovable(self) -> None:
        """Where that stamp cannot be removed no later start thaws by it."""
        self.write_stamp(self.command("a", 10))
        self.record.write(State(), has_stamp=True)

        class Unremovable(Stamp):
            def remove(self) -> bool:
                raise RecordError("cannot remove the stamp")

        for _ in range(2):
            with self.assertRaises(RecordError):
                recover(Record(self.directory), Unremovable(self.directory))
        self.recover()
        self.assert_recovered()

    def test_both(self) -> None:
        """Who is thawed, in reverse order, are those of the record."""
        self.write_stamp(self.command("a", 10), self.command("b", 20))
        entries = (self.command("b", 20), self.command("c", 30))
        self.record.write(State(window="w1", entries=entries))
        self.recover()
        self.assert_recovered("c recovered w1", "b recovered w1")

    def test_interrupted_late(self) -> None:
        """A recovery that was cut short after its last thaw does not begin again."""
        self.write_stamp(self.command("a", 10))
        self.record.write(State(window="w1"))
        self.recover()
        self.assert_recovered()

    def test_late_post_syncs(self) -> None:
        """Answers that the window still owed are expected, and kept in the record."""
        self.record.write(State(window="w1", waiting=1, owed=2))
        self.recover()
        late_post_syncs = Record(self.directory).read().late_post_syncs
        self.assertEqual([late.answered for late in late_post_syncs], [True, True, False])
        self.assertEqual([late.source for late in late_post_syncs], ["", "", ""])

    def test_sources_of_late_post_syncs(self) -> None:
        """Each is expected from where its ``/sync`` came; what is not known stays unknown."""
        state = State(
            window="w1",
            waiting=1,
            owed=2,
            waiting_from=("192.0.2.1",),
            owed_from=("192.0.2.2",),
        )
        self.record.write(state)
        self.recover()
        late_post_syncs = Record(self.directory).read().late_post_syncs
        self.assertEqual([late.source for late in late_post_syncs], ["192.0.2.2", "", "192.0.2.1"])


class AnotherBootTests(RecoverTestCase):
    """The disk was restored or cloned, or the system went down in a hold."""

    def test_thaws(self) -> None:
        """Commands are thawed once, in reverse; no /post-sync is expected."""
        self.write_stamp(self.command("a", 10), self.command("b", 20), boot="another")
        self.recover()
        self.assert_recovered("b recovered w1", "a recovered w1")
        self.recover()
        self.assert_recovered("b recovered w1", "a recovered w1")

    def test_scripts(self) -> None:
        """Of a directory of scripts those are thawed that had been begun."""
        scripts = Path(self.mktemp()).resolve()
        scripts.mkdir()
        for name in ("10-a", "20-b", "30-c"):
            (scripts / name).write_text(f'#!/bin/sh\necho {name} "$@" >>"{self.journal}"\n')
            (scripts / name).chmod(0o755)
        begun = ["10-a", "20-b"]
        self.write_stamp(
            self.entry("scripts:s", 10, begun=begun, directory=str(scripts)), boot="another"
        )
        self.recover()
        self.assert_recovered("20-b thaw", "10-a thaw")

    def test_lasting_alone(self) -> None:
        """What ended with the kernel is not thawed: filesystems may be another's by now."""
        at_rest = (
            self.command("a", 10),
            self.entry("session:s", 60, guard=None, client=None, command=["false"]),
            self.entry("filesystem:f", 90, guard=None, mounts=["/nowhere"]),
        )
        self.write_stamp(*at_rest, boot="another")
        self.recover()
        self.assert_recovered("a recovered w1")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_record_of_then(self) -> None:
        """A record that came along tells of those that were frozen after the stamp."""
        self.write_stamp(self.command("a", 10), self.command("b", 20), boot="another")
        entries = (self.command("b", 20), self.command("c", 30))
        self.record.write(State(window="w1", owed=1, entries=entries))
        self.recover()
        self.assert_recovered("c recovered w1", "b recovered w1", "a recovered w1")

    def test_taken_over(self) -> None:
        """Before the first thaw record and stamp are this boot's: a next start goes on by them."""
        seen = Path(self.mktemp()).resolve()
        seen.mkdir()
        keep = f"cp '{self.record.path}' '{self.stamp.path}' '{seen}'"
        owed = self.command("a", 10), self.entry("command:b", 20, thaw=["sh", "-c", keep])
        self.write_stamp(*owed, boot="another")
        self.recover()
        self.assert_recovered("a recovered w1")
        stamp = Stamp(seen).read()
        assert stamp is not None
        self.assertEqual((stamp.window, stamp.time, stamp.boot), ("w1", 1234.5, boot_id()))
        names = [entry.name for entry in Record(seen).read().entries]
        self.assertEqual(names, ["command:a", "command:b"])

    def test_unwritable(self) -> None:
        """Where the stamp cannot be taken over the thaws run all the same."""
        self.write_stamp(self.command("a", 10), boot="another")

        class Unwritable(Stamp):
            def write(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
                raise RecordError("cannot write the stamp")

        recover(Record(self.directory), Unwritable(self.directory))
        self.assert_recovered("a recovered w1")
