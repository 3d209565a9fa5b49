"""Tests for :mod:`xohook.participants.factory`: what an edited record's entry may say."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import RecordError
from xohook.participants.factory import from_record
from xohook.state.record import Entry

PROGRAM: dict[str, Any] = {"timeout": 5.0, "account": None, "directory": "/", "environment": {}}
COMMAND: dict[str, Any] = {**PROGRAM, "thaw": ["true"]}
FILESYSTEM: dict[str, Any] = {
    "timeout": 5.0,
    "mounts": ["/srv"],
    "filesystems": [{"point": "/srv", "device": "8:1", "kind": "ext4", "source": "/dev/sda1"}],
    "guard": [7, 9],
}
SCRIPTS: dict[str, Any] = {**PROGRAM, "begun": ["a"]}


class ReviveTests(SynchronousTestCase):
    """A value that no agent writes is refused before anything is run with it."""

    def test_good(self) -> None:
        """What an agent writes is taken."""
        of_first_release = {name: FILESYSTEM[name] for name in ("timeout", "mounts", "guard")}
        for name, owed in (
            ("command:it", COMMAND),
            ("scripts:it", SCRIPTS),
            ("filesystem:it", FILESYSTEM),
            ("filesystem:it", of_first_release),
        ):
            self.assertEqual(from_record(mock.Mock(), Entry(name, 40, owed, {})).name, name)

    def test_wrong(self) -> None:
        """All else is told with the participant's name."""
        wrong: tuple[dict[str, Any], ...] = (
            {"thaw": "true"},
            {"thaw": [1]},
            {"thaw": []},
            {"begun": [[]]},
            {"timeout": -1},
            {"timeout": 1e300},
            {"timeout": "soon"},
            {"timeout": None},
            {"directory": None},
            {"environment": []},
            {"environment": {"a": 1}},
            {"account": 1},
            {"account": {"name": "x"}},
        )
        for change in wrong:
            name, owed = ("scripts:it", SCRIPTS) if "begun" in change else ("command:it", COMMAND)
            entry = Entry(name, 40, {**owed, **change}, {})
            error = self.assertRaises(RecordError, from_record, mock.Mock(), entry)
            self.assertIn(f"entry of {name} cannot be understood", str(error))

    def test_wrong_filesystem(self) -> None:
        """So is all else of a filesystem."""
        wrong: tuple[dict[str, Any], ...] = (
            {"mounts": "/srv"},
            {"filesystems": [1]},
            {"filesystems": [{"point": 1}]},
            {"filesystems": [{"place": "/srv"}]},
            {"guard": [1, 9]},
            {"guard": [0, 9]},
            {"guard": ["7", 9]},
            {"guard": 7},
        )
        for change in wrong:
            entry = Entry("filesystem:it", 90, {**FILESYSTEM, **change}, {})
            self.assertRaises(RecordError, from_record, mock.Mock(), entry)
