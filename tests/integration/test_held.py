"""Tests for the participants that hold, with real guards, clients and filesystems."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet import defer
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.process import ProcessReader, reapProcessHandlers
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests import needs
from tests.integration.disks import DiskReactorTestCase, make_image
from tests.integration.footprint import children
from tests.integration.holds import Lock
from xohook.config.settings import FilesystemSettings, SessionSettings
from xohook.errors import ParticipantError
from xohook.host.pids import start_time
from xohook.participants import Operation
from xohook.participants.filesystem import Filesystem
from xohook.participants.session import Session

reactor = cast(Any, global_reactor)

LONG = 600.0
"""Seconds of a hold that is not to end by itself."""


class Notes:
    """What a participant tells the agent."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def freezing(self) -> Operation:
        """Ask for a freeze."""
        until = time.monotonic() + LONG
        return Operation("w", LONG, "", lambda _: None, until, self.lost.append)

    def thawing(self) -> Operation:
        """Ask for a thaw."""
        return Operation("w", LONG, "synced", lambda _: None)


async def until(true: Callable[[], object]) -> None:
    """Wait until something is so; trial bounds the test."""
    while not true():
        await deferLater(reactor, 0.01)


async def until_quiet() -> None:
    """Wait until every guard has ended."""
    await until(lambda: not reapProcessHandlers)
    await until(lambda: not any(isinstance(each, ProcessReader) for each in reactor.getReaders()))


async def problem(work: Deferred[Any]) -> str:
    """Tell why an operation failed; empty where it did not."""
    try:
        await work
    except ParticipantError as error:
        return str(error)
    return ""


class SessionTests(TestCase):
    """A session; its client is a shell unless the test says otherwise."""

    def setUp(self) -> None:
        needs.program("flock")
        self.lock = Lock(Path(self.mktemp()).resolve())
        self.notes = Notes()

    def make(
        self,
        freeze: str = "",
        *,
        command: tuple[str, ...] = ("sh",),
        refuse: str | None = None,
        thaw: str = "flock --unlock 9; echo thawed",
    ) -> Session:
        """Make a session that is let go when the test ends."""
        settings = SessionSettings(
            name="session:lock",
            order=60,
            command=command,
            freeze_input=freeze or f"exec 9<'{self.lock.path}'; flock 9; echo frozen",
            freeze_expect="frozen",
            freeze_refuse=refuse,
            thaw_input=thaw,
            thaw_expect="thawed",
            account=None,
            directory=None,
            environment={},
            freeze_timeout=LONG,
            thaw_timeout=LONG,
            abort=True,
        )
        session = Session(reactor, settings)
        self.addCleanup(self.let_go, session)
        return session

    async def let_go(self, session: Session) -> None:
        """Let go of what a test may have left."""
        if session.recovery_data()["guard"] is not None:
            await problem(session.thaw(self.notes.thawing()))
        await until_quiet()

    async def freeze(self, session: Session) -> str:
        """Freeze; why that failed, if it did."""
        return await problem(session.freeze(self.notes.freezing()))

    async def thaw(self, session: Session) -> str:
        """Thaw; why that failed, if it did."""
        return await problem(session.thaw(self.notes.thawing()))

    async def test_holds(self) -> None:
        """It holds from its freeze to its thaw, which proves it."""
        session = self.make()
        self.assertEqual(await self.freeze(session), "")
        self.assertTrue(self.lock.is_held)
        self.assertEqual(await self.thaw(session), "")
        self.assertFalse(self.lock.is_held)
        self.assertEqual(self.notes.lost, [])

    async def test_refused(self) -> None:
        """A line that means no fails the freeze, though the expected word follows it."""
        session = self.make("echo 'ERROR 1045: Access denied'; echo frozen", refuse="^ERROR")
        self.assertEqual(await self.freeze(session), "ERROR 1045: Access denied")

    async def test_part_of_line(self) -> None:
        """The expected word has to be the whole line."""
        session = self.make("echo 'not frozen'; echo frozen or so; exit 1")
        said = await self.freeze(session)
        self.assertIn("its client has ended (exit status 1)", said)
        self.assertIn("its last words: frozen or so", said)

    async def test_ends(self) -> None:
        """A client that ends before it has said the word fails the freeze."""
        session = self.make("exit 0")
        self.assertIn("its client has ended (exit status 0)", await self.freeze(session))

    async def test_not_there(self) -> None:
        """A client that cannot be run fails the freeze, in words."""
        session = self.make(command=("/nonexistent/client",))
        self.assertIn("cannot run /nonexistent/client", await self.freeze(session))

    async def test_silent(self) -> None:
        """A client that says nothing is ended when the freeze is broken off."""
        session = self.make(f"exec 9<'{self.lock.path}'; flock 9")
        frozen = session.freeze(self.notes.freezing())
        await until(lambda: self.lock.is_held)
        frozen.cancel()
        with self.assertRaises(defer.CancelledError):
            await frozen
        self.assertEqual(await self.thaw(session), "")
        self.assertFalse(self.lock.is_held)

    async def test_ends_in_hold(self) -> None:
        """A client that ends during the hold is told of at once; its last words came after it."""
        session = self.make()
        await self.freeze(session)
        [client] = self.clients(session)
        os.kill(client, signal.SIGKILL)
        await until(lambda: self.notes.lost)
        self.assertEqual(self.notes.lost, ["its client has ended (SIGKILL)"])
        self.assertFalse(self.lock.is_held)

    async def test_guard_killed(self) -> None:
        """A guard that is killed is told of at once, and the thaw ends what it left."""
        session = self.make(
            f"exec 9<'{self.lock.path}'; flock 9; echo frozen; while :; do sleep 600; done"
        )
        await self.freeze(session)
        [client] = self.clients(session)
        os.kill(session.recovery_data()["guard"][0], signal.SIGKILL)
        await until(lambda: self.notes.lost)
        # The client does not read, and so does not notice that its guard has gone.
        self.assertTrue(self.lock.is_held)
        await self.thaw(session)
        self.assertFalse(self.lock.is_held)
        self.assertIsNone(start_time(client))

    async def test_guard_stopped(self) -> None:
        """A guard that is stopped is ended, and its client with it; nothing is proved."""
        session = self.make(
            f"exec 9<'{self.lock.path}'; flock 9; echo frozen; while :; do sleep 600; done"
        )
        await self.freeze(session)
        os.kill(session.recovery_data()["guard"][0], signal.SIGSTOP)
        operation = attrs.evolve(self.notes.thawing(), timeout=8.0)
        said = await problem(session.thaw(operation))
        self.assertEqual(said, "its client did not confirm the thaw; released by the agent")
        self.assertFalse(self.lock.is_held)

    async def test_unproved(self) -> None:
        """A client that does not say that it held until then proves nothing."""
        session = self.make(thaw="echo 'no lock was held'; exit 1")
        await self.freeze(session)
        said = await self.thaw(session)
        self.assertIn("its last words: no lock was held", said)
        self.assertFalse(self.lock.is_held)

    async def test_deaf(self) -> None:
        """A client that neither reads nor heeds SIGTERM is gone when the thaw is."""
        session = self.make(
            f"trap '' TERM; exec 9<'{self.lock.path}'; flock 9; while :; do sleep 600; done"
        )
        frozen = session.freeze(self.notes.freezing())
        await until(lambda: self.lock.is_held)
        frozen.cancel()
        frozen.addErrback(lambda _: None)
        self.assertEqual(await self.thaw(session), "")
        self.assertFalse(self.lock.is_held)

    async def test_flood(self) -> None:
        """A client that floods is bounded, and its word is found in the flood."""
        session = self.make("yes | head -n 300000; echo frozen")
        self.assertEqual(await self.freeze(session), "")
        self.assertLess(len(session._channel.output), 64 * 1024)  # type: ignore[union-attr] # Frozen.

    async def test_waits(self) -> None:
        """A client that waits for a lock is ended when the freeze is broken off."""
        holder = self.lock.hold()
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        session = self.make()
        frozen = session.freeze(self.notes.freezing())
        await until(lambda: self.clients(session) and children(self.clients(session)[0]))
        [waiting] = children(self.clients(session)[0])
        frozen.cancel()
        frozen.addErrback(lambda _: None)
        self.assertEqual(await self.thaw(session), "")
        await until(lambda: start_time(waiting) is None)

    def clients(self, session: Session) -> list[int]:
        """Find the client of a session."""
        return children(session.recovery_data()["guard"][0])


class FilesystemTests(DiskReactorTestCase):
    """A filesystem."""

    def setUp(self) -> None:
        self.need_disks()
        self.notes = Notes()

    def make(self, mount: Path) -> Filesystem:
        """Make a participant."""
        settings = FilesystemSettings(
            name="filesystem:it",
            order=90,
            mount=mount,
            freeze_timeout=LONG,
            thaw_timeout=LONG,
            abort=True,
        )
        filesystem = Filesystem(reactor, settings)
        self.addCleanup(self.let_go, filesystem)
        return filesystem

    async def let_go(self, filesystem: Filesystem) -> None:
        """Let go of what a test may have left."""
        if filesystem.recovery_data()["guard"] is not None:
            await problem(filesystem.thaw(self.notes.thawing()))
        await until_quiet()

    async def freeze(self, filesystem: Filesystem) -> str:
        """Freeze; why that failed, if it did."""
        operation = self.notes.freezing()
        return await problem(filesystem.prepare(operation)) or await problem(
            filesystem.freeze(operation)
        )

    async def thaw(self, filesystem: Filesystem) -> str:
        """Thaw; why that failed, if it did."""
        return await problem(filesystem.thaw(self.notes.thawing()))

    async def test_holds(self) -> None:
        """It is frozen from its freeze to its thaw, which proves it."""
        disk = self.make_disk()
        filesystem = self.make(disk.mount)
        self.assertEqual(await self.freeze(filesystem), "")
        self.assert_frozen(disk)
        self.assertEqual(await self.thaw(filesystem), "")
        self.assertFalse(disk.is_frozen)
        self.assertEqual(self.notes.lost, [])

    async def test_frozen_by_another(self) -> None:
        """What another has frozen is an error, and left as it was."""
        disk = self.make_disk()
        disk.freeze()
        filesystem = self.make(disk.mount)
        said = await self.freeze(filesystem)
        self.assertIn(f"{disk.mount}: somebody else has frozen it already", said)
        await self.thaw(filesystem)
        self.assert_frozen(disk)

    async def test_thawed_by_another(self) -> None:
        """What another has thawed in the hold is not proved."""
        disk = self.make_disk()
        filesystem = self.make(disk.mount)
        await self.freeze(filesystem)
        disk.thaw()
        said = await self.thaw(filesystem)
        self.assertEqual(said, f"{disk.mount}: somebody else had thawed it before")

    async def test_guard_killed(self) -> None:
        """A guard that is killed is told of at once, and the thaw is done in its place."""
        disk = self.make_disk()
        filesystem = self.make(disk.mount)
        await self.freeze(filesystem)
        os.kill(filesystem.recovery_data()["guard"][0], signal.SIGKILL)
        await until(lambda: self.notes.lost)
        self.assertEqual(self.notes.lost, ["its guard has ended (signal 9)"])
        self.assert_frozen(disk)
        self.assertEqual(await self.thaw(filesystem), "")
        self.assertFalse(disk.is_frozen)

    async def test_guard_stopped(self) -> None:
        """A guard that is stopped is ended and thawed for, which proves nothing."""
        disk = self.make_disk()
        filesystem = self.make(disk.mount)
        await self.freeze(filesystem)
        os.kill(filesystem.recovery_data()["guard"][0], signal.SIGSTOP)
        said = await self.thaw(filesystem)
        self.assertEqual(said, "its guard did not answer; thawed in its place")
        self.assertFalse(disk.is_frozen)
        self.assertIsNone(filesystem.unthawed)

    async def test_guard_let_go(self) -> None:
        """A guard whose time was up is told of, and the hold is not proved."""
        disk = self.make_disk()
        filesystem = self.make(disk.mount)
        await self.freeze(filesystem)
        filesystem.extend(time.monotonic())
        await until(lambda: self.notes.lost)
        self.assertFalse(disk.is_frozen)

    async def test_not_there(self) -> None:
        """A mount point that is not there is told of before anything is frozen."""
        said = await self.freeze(self.make(Path("/nonexistent")))
        self.assertEqual(said, "nothing is mounted on /nonexistent")

    async def test_not_mounted(self) -> None:
        """A directory with nothing mounted on it does not stand for the filesystem around it."""
        disk = self.make_disk()
        inside = disk.mount / "inside"
        inside.mkdir()
        said = await self.freeze(self.make(inside))
        self.assertEqual(said, f"nothing is mounted on {inside}")
        self.assertFalse(disk.is_frozen)

    async def test_late(self) -> None:
        """A freeze that is broken off and comes too late is undone as soon as it is done.

        The filesystem's image lies on another filesystem, which is frozen: nothing can be flushed
        until that is thawed.
        """
        outer = self.make_disk()
        inner = self.mount(make_image(outer.mount / "image"), Path(self.mktemp()).resolve())
        subprocess.run(["sh", "-c", 'echo unwritten >"$0"', inner.mount / "dirty"], check=True)
        filesystem = self.make(inner.mount)
        operation = self.notes.freezing()
        await filesystem.prepare(operation)
        guard = filesystem.recovery_data()["guard"][0]
        outer.freeze()
        frozen = filesystem.freeze(operation)
        state = Path(f"/proc/{guard}/stat")
        await until(lambda: state.read_text().rpartition(")")[2].split()[0] == "D")
        frozen.cancel()
        frozen.addErrback(lambda _: None)
        thawed = filesystem.thaw(self.notes.thawing())
        self.assertFalse(thawed.called)
        outer.thaw()
        await thawed
        self.assertFalse(inner.is_frozen)
