"""Tests for :mod:`xohook.cli.checks.watchdog`."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.settings_for import settings_in
from xohook.cli.checks.watchdog import WATCHDOG, freezing, judge, seconds
from xohook.config.loading import load
from xohook.config.settings import Settings
from xohook.host import mounts


class SecondsTests(SynchronousTestCase):
    """Time spans as systemctl prints them."""

    def test_spans(self) -> None:
        """The units of systemd.time(7) are added up."""
        for text, expected in (("3min", 180.0), ("1min 30s", 90.0), ("2h", 7200.0), ("1.5s", 1.5)):
            self.assertEqual(seconds(text), expected)

    def test_off(self) -> None:
        """A watchdog that is off waits for ever."""
        self.assertEqual([seconds("0"), seconds("infinity")], [math.inf, math.inf])

    def test_nonsense(self) -> None:
        """Everything else is refused."""
        for text in ("", "min", "3 min", "3x", "[not set]"):
            self.assertRaises(ValueError, seconds, text)


class JudgeTests(SynchronousTestCase):
    """A hold that outlasts journald's watchdog is warned of."""

    def judge(self, hold: float, limit: float, budget: float = 50.0) -> list[str]:
        """Give the warnings about limits of so many seconds."""
        settings = settings_in(Path(self.mktemp()))
        settings = attrs.evolve(settings, hold_limit=hold, freeze_budget=budget)
        return [str(each) for each in judge(settings, "filesystem:all", limit)]

    def test_joined(self) -> None:
        """A hold that another ``/sync`` joins counts twice, and both cures are named."""
        [text] = self.judge(120, WATCHDOG)
        for part in ("hold_limit = 2m", "for up to 290s", "after 3m", "to 64s or less", "5min or"):
            self.assertIn(part, text)

    def test_cures(self) -> None:
        """Each cure that the warning names ends it."""
        self.assertEqual(self.judge(64, WATCHDOG), [])
        self.assertEqual(self.judge(120, 300), [])
        self.assertEqual(self.judge(3600, math.inf), [])

    def test_limit(self) -> None:
        """A freeze of just the watchdog's time is too long."""
        self.assertEqual(len(self.judge(65, WATCHDOG)), 1)

    def test_budget_alone(self) -> None:
        """Where the budget alone is too long, no hold limit is proposed."""
        [text] = self.judge(1, WATCHDOG, budget=179.5)
        self.assertNotIn("or less", text)
        self.assertIn("raise WatchdogSec=", text)


class FreezingTests(SynchronousTestCase):
    """Which participants freeze the filesystem of the journal."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.journal = self.directory / "journal"
        self.journal.mkdir(parents=True)

    def configured(self, mount: Path | str) -> Settings:
        """Load a configuration with one participant, which freezes a mount point."""
        file = self.directory / "xohook.ini"
        # The default socket's path would be too long in a directory as deep as this one.
        file.write_text(f"[xohook]\ncontrol = no\n[filesystem:it]\nmount = {mount}\n")
        return load(file, environ={"HOME": str(self.directory)})

    def test_frozen(self) -> None:
        """The one that freezes it is named."""
        mount = mounts.mount_of(self.journal, mounts.table())
        assert mount is not None
        self.assertEqual(freezing(self.configured(mount.point), self.journal), ["filesystem:it"])

    def test_another(self) -> None:
        """One that freezes another filesystem is not."""
        self.assertEqual(freezing(self.configured("/proc"), self.journal), [])

    def test_in_memory(self) -> None:
        """Without a directory on a disk the journal is in memory, and nothing freezes it."""
        self.journal.rmdir()
        self.assertEqual(freezing(self.configured("/"), self.journal), [])
