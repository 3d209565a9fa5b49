"""The proof: snapshots of two disks, one after the other, are of one moment while they are held.

The machine of the test is a database under a constant writer on one disk, and on another a ledger
that the writer keeps of what the database has promised to keep. As storage does, each snapshot
takes an image as it is at one moment (a reflink); the disks follow one another, as XAPI has it.
The same snapshots without xohook have to be bad, or the test proves nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import needs
from tests.integration import writer
from tests.integration.agent import Agent, eventually
from tests.integration.databases import (
    Database,
    MariaDBDatabase,
    PostgreSQLDatabase,
    RedisDatabase,
    SQLiteDatabase,
)
from tests.integration.disks import Disk, DiskTestCase, make_image, run
from tests.integration.holds import filesystem

STORAGE = 3072
"""MiB of the storage that the disks lie on."""

SIZE = 512
"""MiB of a disk."""

SOME = 20
"""Numbers that are written from one snapshot to the next where nothing holds the writer."""

BETWEEN = 1.0
"""Seconds from one snapshot to the next where the writer is held."""


class ProofTests(DiskTestCase):
    """Each database, without xohook and with it."""

    def setUp(self) -> None:
        self.need_disks()
        needs.program("dumpe2fs")
        needs.program("xfs_repair")
        self.storage = self.make_disk("xfs", STORAGE).mount

    def test_mariadb(self) -> None:
        """MariaDB, its tables of InnoDB, Aria and MyISAM."""
        self.prove(MariaDBDatabase(self), "ext4", "xfs")

    def test_postgresql(self) -> None:
        """PostgreSQL, with a tablespace on the second disk."""
        self.prove(PostgreSQLDatabase(self), "xfs", "ext4")

    def test_redis(self) -> None:
        """Redis, its append-only file as well as its dump."""
        self.prove(RedisDatabase(self), "ext4", "xfs")

    def test_sqlite(self) -> None:
        """SQLite, with a write-ahead log."""
        self.prove(SQLiteDatabase(self), "xfs", "ext4")

    def prove(self, database: Database, *kinds: str) -> None:
        """Snapshot a database's disks without xohook and with it, and see what came of it."""
        self.database, self.kinds = database, kinds
        places = (database.first, database.second)
        images = [self.storage / f"disk{number}" for number in range(len(kinds))]
        for image, kind in zip(images, kinds, strict=True):
            make_image(image, kind, SIZE)
        disks = [self.mount(image, place) for image, place in zip(images, places, strict=True)]
        database.create()
        self.ledger = database.second / "ledger"
        at_work = self.write()
        free, held = self.take_free(disks), self.take_held(disks)
        self.assertIsNone(at_work.poll(), "the writer has ended")
        at_work.kill()
        at_work.wait()
        database.end()
        for disk in disks:
            disk.close()
        self.assert_bad(free)
        self.assert_good(held)

    def write(self) -> subprocess.Popen[bytes]:
        """Start the writer."""
        client = self.database.client
        at_work = subprocess.Popen(
            [sys.executable, writer.__file__, self.ledger, self.database.text, *client],
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(at_work.wait)
        self.addCleanup(at_work.kill)
        self.wait_for_writes()
        return at_work

    def wait_for_writes(self) -> None:
        """Wait until some more is written."""
        eventually(self.ledger.exists, "there is a ledger")
        enough = len(self.written) + SOME
        eventually(lambda: len(self.written) >= enough, "more is written")

    @property
    def written(self) -> list[int]:
        """What the ledger says."""
        return [int(line) for line in self.ledger.read_text().splitlines()]

    def take_free(self, disks: list[Disk]) -> list[Path]:
        """Take snapshots with nothing held."""
        first = self.snapshot(disks[0], "free")
        self.wait_for_writes()
        return [first, self.snapshot(disks[1], "free")]

    def take_held(self, disks: list[Disk]) -> list[Path]:
        """Take snapshots in a window, as Xen Orchestra does."""
        sections = "".join(
            (
                self.database.section,
                filesystem(disks[0], "first"),
                filesystem(disks[1], "second"),
            )
        )
        agent = Agent.for_test(self, sections=sections)
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 200, f"{answer.body!r}\n{agent.log}")
        first = self.snapshot(disks[0], "held")
        then = len(self.written)
        time.sleep(BETWEEN)
        self.assertEqual(len(self.written), then)
        second = self.snapshot(disks[1], "held")
        self.assertEqual(agent.get("/post-sync").status, 200, agent.log)
        agent.wait_for_outcomes("synced")
        self.wait_for_writes()
        agent.stop()
        return [first, second]

    def snapshot(self, disk: Disk, name: str) -> Path:
        """Keep a disk as it is at this moment."""
        copy = disk.image.with_suffix(f".{name}")
        run("cp", "--reflink=always", disk.image, copy)
        return copy

    def restore(self, images: list[Path]) -> list[Disk]:
        """Mount copies of the disks where the disks were, and start the database on them."""
        places = (self.database.first, self.database.second)
        restored = [self.mount(image, place) for image, place in zip(images, places, strict=True)]
        self.database.start()
        return restored

    def leave(self, restored: list[Disk]) -> None:
        """End the database, and unmount."""
        self.database.end()
        for disk in restored:
            disk.close()

    def faults(self) -> Iterator[str]:
        """Have the database look over all it has, and tell what is missing or wrong."""
        known = set(self.written)
        for table in self.database.tables:
            try:
                kept = self.database.numbers(table)
            except AssertionError as wrong:
                yield f"wrong in {table}: {wrong}"
                continue
            if known - kept:
                yield f"missing in {table}: {sorted(known - kept)}"
            # The writer may have been held between the database and the ledger.
            if len(kept - known) > 1:
                yield f"not known to the ledger, from {table}: {sorted(kept - known)}"

    def assert_bad(self, images: list[Path]) -> None:
        """See that something that was promised is missing."""
        restored = self.restore(images)
        faults = list(self.faults())
        self.leave(restored)
        missing = any(fault.startswith("missing") for fault in faults)
        self.assertTrue(missing, f"nothing missing without xohook: this proves nothing ({faults})")

    def assert_good(self, images: list[Path]) -> None:
        """See that nothing is missing or wrong, and that the filesystems are clean."""
        for image, kind in zip(images, self.kinds, strict=True):
            if kind == "ext4":
                self.assertNotIn("needs_recovery", run("dumpe2fs", "-h", image))
        restored = self.restore(images)
        self.assertGreaterEqual(len(self.written), 2 * SOME)
        self.assertEqual(list(self.faults()), [])
        self.leave(restored)
        for image, kind in zip(images, self.kinds, strict=True):
            check = ("xfs_repair", "-n") if kind == "xfs" else ("e2fsck", "-f", "-n")
            run(*check, image)
