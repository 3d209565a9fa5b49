"""Tests for :mod:`xohook.host.mounts`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xohook.errors import ParticipantError
from xohook.host import mounts

MOUNTINFO = rb"""
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:22 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
26 24 8:17 / /srv/with\040blank rw - xfs /dev/sdb1 rw
27 25 8:33 / /run rw - ext2 /dev/sdc1 rw
""".lstrip()

ODD = ("\f", "\r", "\v", "\x1c", "\u0085", "\u2028", "\u00a0", "\u3000")
"""What Python takes for the end of a line or a word in text, and the kernel does not escape."""


def points(found: Sequence[mounts.Mount]) -> list[str]:
    """Tell where they are mounted."""
    return [str(mount.point) for mount in found]


class ParseTests(SynchronousTestCase):
    """The kernel's table is read byte by byte."""

    def test_fields(self) -> None:
        """Each field of a line is where proc(5) has it, with optional fields or without."""
        line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=x\n"
        expected = mounts.Mount(
            id=36,
            parent=35,
            device="98:0",
            root="/mnt1",
            point=Path("/mnt2"),
            kind="ext3",
            source="/dev/root",
            is_writable=True,
        )
        self.assertEqual(mounts.parse(line), (expected,))
        self.assertEqual(mounts.parse(line.replace(b" master:1 shared:2", b"")), (expected,))

    def test_escaped(self) -> None:
        """What the kernel escapes is put back: a space, a tab, a newline, a backslash, a hash."""
        line = rb"36 35 98:0 / /a\040b\011c\012d\134e\043f rw - ext3 /dev/root rw"
        self.assertEqual(points(mounts.parse(line)), ["/a b\tc\nd\\e#f"])

    def test_not_escaped(self) -> None:
        """What only Python takes for white space ends neither a line nor a field."""
        for odd in ODD:
            line = f"36 35 98:0 / /a{odd}b rw - ext3 /dev/{odd} rw\n".encode()
            (mount,) = mounts.parse(line)
            self.assertEqual((str(mount.point), mount.source), (f"/a{odd}b", f"/dev/{odd}"))

    def test_no_source(self) -> None:
        """A filesystem may be mounted from nothing, not even a name."""
        (mount,) = mounts.parse(b"36 35 0:9 / /a rw - tmpfs  rw\n")
        self.assertEqual((mount.kind, mount.source, mount.is_writable), ("tmpfs", "", True))

    def test_not_utf8(self) -> None:
        """A name that is no text stands as Python's file names have it."""
        self.assertEqual(
            points(mounts.parse(b"36 35 0:9 / /\xff rw - tmpfs none rw\n")), ["/\udcff"]
        )

    def test_overlay(self) -> None:
        """The directory that an overlay writes to is found among its options."""
        line = rb"36 35 0:9 / /a rw - overlay over rw,lowerdir=/l,upperdir=/u\054\040v,workdir=/w"
        (mount,) = mounts.parse(line)
        self.assertEqual(mount.upper, "/u, v")


class HiddenTests(SynchronousTestCase):
    """What no path leads to is told apart."""

    def hider(self, id_: int, table: bytes) -> int | None:
        """Tell the id of the mount that hides another."""
        found = mounts.parse(table)
        (mount,) = (each for each in found if each.id == id_)
        hider = mounts.hidden_by(mount, found)
        return None if hider is None else hider.id

    COVERED = (
        b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        b"25 24 8:17 / /srv/data rw - ext4 /dev/sdb1 rw\n"
        b"26 24 8:33 / /srv rw - ext4 /dev/sdc1 rw\n"
    )

    def test_above(self) -> None:
        """A mount on a directory above hides one that was there before."""
        self.assertEqual(self.hider(25, self.COVERED), 26)
        self.assertIsNone(self.hider(26, self.COVERED))

    def test_below(self) -> None:
        """A mount in another one is hidden with that one, and not by it."""
        table = self.COVERED + b"27 25 8:49 / /srv/data/in rw - ext4 /dev/sdd1 rw\n"
        self.assertEqual(self.hider(27, table), 26)
        table = self.COVERED + b"27 26 8:49 / /srv/data rw - ext4 /dev/sdd1 rw\n"
        self.assertIsNone(self.hider(27, table))

    def test_similar_name(self) -> None:
        """A mount on a directory whose name only begins alike hides nothing."""
        table = self.COVERED.replace(b"/srv rw", b"/sr rw")
        self.assertIsNone(self.hider(25, table))

    def test_stacked(self) -> None:
        """Of several mounts on one point the last is reached, and it is the one to unmount."""
        table = (
            b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
            b"25 24 8:17 / /srv rw - ext4 /dev/sdb1 rw\n"
            b"26 25 8:33 / /srv rw - ext4 /dev/sdc1 rw\n"
            b"27 26 8:49 / /srv rw - ext4 /dev/sdd1 rw\n"
        )
        self.assertEqual(
            [self.hider(each, table) for each in (24, 25, 26, 27)], [None, 27, 27, None]
        )

    def test_over_the_root(self) -> None:
        """What is mounted over the root directory is not reached, nor what is mounted in it."""
        table = (
            b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
            b"25 24 8:17 / / rw - ext4 /dev/sdb1 rw\n"
            b"26 25 8:33 / /srv rw - ext4 /dev/sdc1 rw\n"
        )
        self.assertEqual([self.hider(each, table) for each in (24, 25, 26)], [None, 24, 24])

    def test_chroot(self) -> None:
        """Where the root directory is in no listed mount, those at the top are reached."""
        table = (
            b"25 24 8:17 / /srv/data rw - ext4 /dev/sdb1 rw\n26 24 0:4 / /proc rw - proc proc rw\n"
        )
        self.assertEqual([self.hider(each, table) for each in (25, 26)], [None, None])

    def test_mount_at(self) -> None:
        """The words for a mount point that leads elsewhere say what hides it, and what to do."""
        found = mounts.parse(self.COVERED)
        self.assertEqual(mounts.mount_at(Path("/srv"), found).id, 26)
        hidden = (
            "/srv/data is hidden by the filesystem mounted on /srv: unmount that one, or mount"
            " /srv/data again on top of it"
        )
        for point, words in (
            ("/srv/other", "nothing is mounted on /srv/other"),
            ("/srv/data", hidden),
        ):
            error = self.assertRaises(ParticipantError, mounts.mount_at, Path(point), found)
            self.assertEqual(str(error), words)


class FreezableTests(SynchronousTestCase):
    """What ``auto`` takes."""

    def setUp(self) -> None:
        self.sys = Path(self.mktemp()).absolute()
        self.sys.mkdir()

    def found(self, table: bytes) -> list[str]:
        """Tell what is taken."""
        return points(mounts.freezable(mounts.parse(table), self.sys))

    def carry(self, device: str, file: str) -> None:
        """Have a loop device carry a file."""
        directory = self.sys / "dev/block" / device / "loop"
        directory.mkdir(parents=True)
        (directory / "backing_file").write_text(f"{file}\n")

    def test_order(self) -> None:
        """Local filesystems on disks are taken, deeper ones first and the root last."""
        self.assertEqual(self.found(MOUNTINFO), ["/srv/with blank", "/run", "/"])

    def test_left_out(self) -> None:
        """Another mount of the same device, one that is read-only and one on a network are not."""
        lines = (
            b"30 24 8:17 /sub /again rw - xfs /dev/sdb1 rw",
            b"31 24 8:49 / /still ro - ext4 /dev/sdd1 rw",
            b"32 24 8:65 / /still2 rw - ext4 /dev/sde1 ro",
            b"33 24 0:50 / /far rw - nfs4 server:/ rw",
            b"34 24 7:9 / /snap/x ro - squashfs /dev/loop9 ro",
        )
        table = MOUNTINFO + b"\n".join(lines)
        self.assertEqual(self.found(table), self.found(MOUNTINFO))

    def test_loop(self) -> None:
        """A filesystem in a file comes before the one that carries the file, however deep."""
        table = (
            b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
            b"25 24 8:2 / /proc/sys rw - ext4 /dev/sda2 rw\n"
            b"26 24 7:0 / /tmp rw - ext4 /dev/loop0 rw\n"
        )
        self.carry("7:0", "/proc/sys/image")
        self.assertEqual(self.found(table), ["/tmp", "/proc/sys", "/"])

    def test_partition(self) -> None:
        """A partition of a loop device, and what device mapper makes of it, count likewise."""
        table = (
            b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
            b"25 24 8:2 / /proc/sys rw - ext4 /dev/sda2 rw\n"
            b"26 24 253:0 / /tmp rw - ext4 /dev/mapper/x rw\n"
        )
        self.carry("7:0", "/proc/sys/image")
        (self.sys / "dev/block/7:0/loop0p1").mkdir()
        (self.sys / "dev/block/253:0/slaves").mkdir(parents=True)
        (self.sys / "dev/block/253:0/slaves/loop0p1").symlink_to(self.sys / "dev/block/7:0/loop0p1")
        self.assertEqual(self.found(table), ["/tmp", "/proc/sys", "/"])

    def test_hidden(self) -> None:
        """A filesystem is frozen by a mount that is not hidden, if there is one."""
        table = HiddenTests.COVERED
        self.assertEqual(self.found(table), ["/srv", "/"])
        (lost,) = mounts.hidden_filesystems(mounts.parse(table))
        self.assertEqual(points(lost), ["/srv/data", "/srv"])
        table += b"27 24 8:17 /sub /again ro - ext4 /dev/sdb1 rw\n"
        self.assertEqual(self.found(table), ["/again", "/srv", "/"])
        self.assertEqual(mounts.hidden_filesystems(mounts.parse(table)), ())

    def test_whole_first(self) -> None:
        """Of a filesystem's mounts the one of its own root is taken before one of a part."""
        table = (
            b"24 1 0:9 / / rw - overlay over rw\n"
            b"25 24 8:1 /hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
            b"26 24 8:1 / /data rw - ext4 /dev/sda1 rw\n"
        )
        self.assertEqual(self.found(table), ["/data"])

    def test_many(self) -> None:
        """The work for many mounts grows with their number, not with its square."""

        def calls(number: int) -> int:
            """Count the calls of functions, C's too, that so many mounts take."""
            line = "%d 24 8:%d / /srv/%d rw - ext4 /dev/x rw\n"
            table = b"24 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + b"".join(
                (line % (100 + each, 100 + each, each)).encode() for each in range(number)
            )
            count = 0

            def note(_: FrameType, event: str, __: Any) -> None:
                nonlocal count
                count += event.endswith("call")

            sys.setprofile(note)
            try:
                found = self.found(table)
            finally:
                sys.setprofile(None)
            self.assertEqual(len(found), number + 1)
            return count

        # Ten times the mounts: a quadratic search takes about a hundred times the calls.
        self.assertLess(calls(500), 15 * calls(50))
