"""Tests for :mod:`xohook.config.trust`: who else can change the configuration."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.config import trust
from xohook.errors import StartError

OTHER = 47_401


class TrustedTests(SynchronousTestCase):
    """A configuration with a drop-in."""

    def setUp(self) -> None:
        self.uid = os.geteuid()
        self.directory = Path(self.mktemp()).absolute()
        self.file = self.directory / "xohook.ini"
        self.drop_ins = self.directory / "xohook.ini.d"
        self.drop_in = self.drop_ins / "a.ini"
        self.drop_ins.mkdir(parents=True)
        for each in (self.file, self.drop_in):
            each.touch(mode=0o644)

    def problems(self) -> list[str]:
        return list(trust.problems(self.file, self.uid))

    def test_good(self) -> None:
        """Where nobody else can write nothing is wrong, nor where something is missing."""
        self.assertEqual(self.problems(), [])
        self.drop_in.unlink()
        self.drop_ins.rmdir()
        self.file.unlink()
        self.assertEqual(self.problems(), [])

    def test_open(self) -> None:
        """The file, the directory of drop-ins and a drop-in are judged, each by itself."""
        for each in (self.file, self.drop_in):
            each.chmod(0o646)
            [problem] = self.problems()
            self.assertIn(f"user {self.uid} runs. Others may write to {each} (mode 0646)", problem)
            self.assertIn(f"'chmod go-w {each}'", problem)
            each.chmod(0o644)
        self.drop_ins.chmod(0o777)
        self.assertIn(f"'chmod go-w {self.drop_ins}'", self.problems()[0])

    def test_anothers(self) -> None:
        """Another user's is told with its owner."""
        needs.root()
        os.chown(self.file, OTHER, OTHER)
        [problem] = self.problems()
        self.assertIn(f"{self.file} belongs to user {OTHER}", problem)
        self.assertIn(f"'chown 0 {self.file}'", problem)

    def test_by_hand(self) -> None:
        """Who starts the agent by hand is warned; a service is refused."""
        self.file.chmod(0o666)
        trust.examine(self.file, {})
        error = self.assertRaises(StartError, trust.examine, self.file, {"INVOCATION_ID": "5f1e"})
        self.assertIn(f"Others may write to {self.file}", str(error))
