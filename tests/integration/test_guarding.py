"""A guard of filesystems that was never asked to freeze: it ends, and nothing is thawed for it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.disks import DiskReactorTestCase
from tests.integration.footprint import children
from xohook.config.settings import FilesystemSettings
from xohook.participants import Operation
from xohook.participants.filesystem import Filesystem
from xohook.processes import guarding
from xohook.processes.guarding import Guard
from xohook.processes.guards import session

reactor = cast(Any, global_reactor)

FREEZE = Operation("w", 600.0, "", lambda _: None, time.monotonic() + 600.0)
THAW = Operation("w", 600.0, "failed", lambda _: None)


class PreparedTests(DiskReactorTestCase):
    """A window ends between the start of the guard and its freeze; another holds the filesystem."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk = self.make_disk()
        settings = FilesystemSettings(
            name="filesystem:it",
            order=90,
            mount=self.disk.mount,
            freeze_timeout=600.0,
            thaw_timeout=600.0,
            abort=True,
        )
        self.before = set(children(os.getpid()))
        self.filesystem = Filesystem(reactor, settings)

    def guards(self) -> set[int]:
        return set(children(os.getpid())) - self.before

    async def until_quiet(self) -> None:
        """Wait until no guard is left; trial bounds the test."""
        while self.guards():
            await deferLater(reactor, 0.01)

    async def test_broken_off(self) -> None:
        """A guard whose start is broken off ends."""
        prepared: Deferred[None] = self.filesystem.prepare(FREEZE)
        self.assertEqual(len(self.guards()), 1)
        prepared.cancel()
        with self.assertRaises(CancelledError):
            await prepared
        await self.until_quiet()

    async def test_thaw_after_that(self) -> None:
        """The thaw then does not touch what another has frozen."""
        self.disk.freeze()
        prepared = self.filesystem.prepare(FREEZE)
        prepared.cancel()
        with self.assertRaises(CancelledError):
            await prepared
        await self.filesystem.thaw(THAW)
        self.assert_frozen(self.disk)
        await self.until_quiet()

    async def test_killed(self) -> None:
        """Neither does it where the guard was killed before it was asked to freeze."""
        await self.filesystem.prepare(FREEZE)
        self.disk.freeze()
        [guard] = self.guards()
        os.kill(guard, signal.SIGKILL)
        await self.until_quiet()
        await self.filesystem.thaw(THAW)
        self.assert_frozen(self.disk)
        await self.until_quiet()

    async def test_next_start(self) -> None:
        """Nor does the next start, by the record of that moment."""
        await self.filesystem.prepare(FREEZE)
        self.disk.freeze()
        owed = self.filesystem.recovery_data()
        await self.filesystem.thaw(THAW)
        await Filesystem.from_record(reactor, "filesystem:it", owed).thaw(THAW)
        self.assert_frozen(self.disk)
        await self.until_quiet()


class Ended:
    """Hears of a guard's end."""

    def __init__(self) -> None:
        self.result: Deferred[str] = Deferred()

    def heard(self, line: str) -> None:
        """Take a line."""

    def ended(self, reason: str) -> None:
        """Take the end."""
        self.result.callback(reason)


class PathTests(TestCase):
    """Where a guard finds its modules."""

    async def test_standard_library_first(self) -> None:
        """What lies beside xohook does not take the place of the standard library."""
        root = Path(self.mktemp()).absolute()
        root.mkdir()
        (root / "xohook").symlink_to(Path(guarding.__file__).parent)
        (root / "json.py").write_text("raise SystemExit(77)\n")
        self.patch(guarding, "_ROOT", str(root))
        listener = Ended()
        guard = Guard(reactor, session, listener)
        guard.release()
        self.assertNotIn("exit status 77", await listener.result)
