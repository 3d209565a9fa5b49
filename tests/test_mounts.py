"""Tests for :mod:`xohook.mounts`."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook import mounts
from xohook.errors import StartError
from xohook.settings import CommandSettings, FilesystemSettings, ScriptsSettings

MOUNTINFO = r"""
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:22 / /run rw,nosuid shared:2 - tmpfs tmpfs rw
26 24 8:17 / /srv/with\040blank rw - xfs /dev/sdb1 rw
27 25 8:33 / /run rw - ext2 /dev/sdc1 rw
""".lstrip()


def command(*freeze: str) -> CommandSettings:
    """Make a participant of a command line."""
    return CommandSettings(
        name="command:disk",
        order=40,
        freeze=freeze or None,
        thaw=("true",),
        account=None,
        directory=None,
        environment={},
        freeze_timeout=30.0,
        thaw_timeout=30.0,
        abort=True,
    )


def filesystem(mount: Path | None) -> FilesystemSettings:
    """Make a participant of a mount point."""
    return FilesystemSettings(
        name="filesystem:disk",
        order=90,
        mount=mount,
        freeze_timeout=30.0,
        thaw_timeout=30.0,
        abort=True,
    )


class MountOfTests(SynchronousTestCase):
    """A path's filesystem is found."""

    def kind(self, path: str) -> str | None:
        mount = mounts.mount_of(Path(path), MOUNTINFO)
        return None if mount is None else mount.kind

    def test_root(self) -> None:
        """What no other mount holds lies on the root's."""
        self.assertEqual(self.kind("/usr"), "ext4")

    def test_not_made_yet(self) -> None:
        """What is not there yet will lie where its nearest parent does."""
        self.assertEqual(self.kind("/usr/not/made/yet"), "ext4")

    def test_hidden(self) -> None:
        """Of two mounts on one point the later one counts."""
        self.assertEqual(self.kind("/run"), "ext2")

    def test_escaped(self) -> None:
        """A blank in a mount's path is the kernel's octal escape."""
        points = [mount.point for mount in mounts._parse(MOUNTINFO)]
        self.assertIn(Path("/srv/with blank"), points)

    def test_unknown(self) -> None:
        """An empty table tells nothing."""
        self.assertIsNone(mounts.mount_of(Path("/usr"), ""))


class FreezableTests(SynchronousTestCase):
    """What ``auto`` takes."""

    def setUp(self) -> None:
        self.sys = Path(self.mktemp()).absolute()
        self.sys.mkdir()

    def carry(self, device: str, file: str) -> None:
        """Have a loop device carry a file."""
        directory = self.sys / "dev/block" / device / "loop"
        directory.mkdir(parents=True)
        (directory / "backing_file").write_text(f"{file}\n")

    def test_order(self) -> None:
        """Local filesystems on disks are taken, deeper ones first and the root last."""
        self.assertEqual(mounts.freezable(MOUNTINFO, self.sys), ("/srv/with blank", "/run", "/"))

    def test_left_out(self) -> None:
        """Another mount of the same device, one that is read-only and one on a network are not."""
        lines = (
            "30 24 8:17 /sub /again rw - xfs /dev/sdb1 rw",
            "31 24 8:49 / /still ro - ext4 /dev/sdd1 rw",
            "32 24 8:65 / /still2 rw - ext4 /dev/sde1 ro",
            "33 24 0:50 / /far rw - nfs4 server:/ rw",
            "34 24 7:9 / /snap/x ro - squashfs /dev/loop9 ro",
        )
        table = MOUNTINFO + "\n".join(lines)
        self.assertEqual(mounts.freezable(table, self.sys), mounts.freezable(MOUNTINFO, self.sys))

    def test_loop(self) -> None:
        """A filesystem in a file comes before the one that carries the file, however deep."""
        table = (
            "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
            "25 24 8:2 / /proc/sys rw - ext4 /dev/sda2 rw\n"
            "26 24 7:0 / /tmp rw - ext4 /dev/loop0 rw\n"
        )
        self.carry("7:0", "/proc/sys/image")
        self.assertEqual(mounts.freezable(table, self.sys), ("/tmp", "/proc/sys", "/"))


class FrozenByTests(SynchronousTestCase):
    """What a command freezes is read from its command line."""

    def frozen(self, *freeze: str) -> tuple[str, ...]:
        return tuple(map(str, mounts.frozen_by(command(*freeze))))

    def test_plain(self) -> None:
        """Both spellings of the flag count, and a path before the program too."""
        self.assertEqual(self.frozen("fsfreeze", "-f", "/srv"), ("/srv",))
        self.assertEqual(self.frozen("/sbin/fsfreeze", "--freeze", "/srv"), ("/srv",))

    def test_behind_another(self) -> None:
        """The program may stand behind another one."""
        self.assertEqual(self.frozen("sudo", "-n", "fsfreeze", "-f", "/srv"), ("/srv",))

    def test_in_a_shell(self) -> None:
        """The program may stand in a shell's script."""
        self.assertEqual(self.frozen("sh", "-c", "sync; fsfreeze -f /srv; true"), ("/srv",))

    def test_filesystem(self) -> None:
        """A filesystem freezes its mount; ``auto`` all that can be frozen on this machine."""
        self.assertEqual(mounts.frozen_by(filesystem(Path("/srv"))), (Path("/srv"),))
        found = mounts.freezable(mounts.table(), Path("/sys"))
        self.assertEqual(mounts.frozen_by(filesystem(None)), tuple(map(Path, found)))

    def test_scripts(self) -> None:
        """What scripts freeze is not known."""
        scripts = ScriptsSettings(
            name="scripts:x",
            order=40,
            directory=Path("/srv"),
            account=None,
            environment={},
            freeze_timeout=30.0,
            thaw_timeout=30.0,
            abort=True,
        )
        self.assertEqual(mounts.frozen_by(scripts), ())

    def test_others(self) -> None:
        """An unfreeze, another program, a broken script and no program freeze nothing."""
        for words in (
            ("fsfreeze", "-u", "/srv"),
            ("sync", "-f", "/srv"),
            ("sh", "-c", "fsfreeze -f '/srv"),
            (),
        ):
            self.assertEqual(self.frozen(*words), ())


class RefuseFrozenTests(SynchronousTestCase):
    """The runtime directory is not on what is frozen."""

    def test_refused(self) -> None:
        """Where a participant freezes its filesystem the error names both, made or not."""
        directory = Path(self.mktemp()).absolute()
        freezer = command("fsfreeze", "-f", str(directory.parent))
        error = self.assertRaises(
            StartError, mounts.refuse_frozen, "runtime_directory", directory, [freezer]
        )
        self.assertIn(f"runtime_directory = {directory}", str(error))
        self.assertIn("[command:disk]", str(error))

    def test_filesystem(self) -> None:
        """A filesystem participant is refused likewise."""
        directory = Path(self.mktemp()).absolute()
        freezer = filesystem(directory.parent)
        error = self.assertRaises(
            StartError, mounts.refuse_frozen, "runtime_directory", directory, [freezer]
        )
        self.assertIn("[filesystem:disk] freezes", str(error))

    def test_elsewhere(self) -> None:
        """Another filesystem may be frozen, and one that is not there."""
        directory = Path(self.mktemp()).absolute()
        elsewhere = [command("fsfreeze", "-f", mount) for mount in ("/proc", "/not/there")]
        mounts.refuse_frozen("control", directory, elsewhere)
        here = command("fsfreeze", "-f", str(directory.parent))
        self.assertRaises(
            StartError, mounts.refuse_frozen, "runtime_directory", directory, [*elsewhere, here]
        )

    def test_out_of_sight(self) -> None:
        """What lies below a directory that the agent may not search is none that it can tell."""
        closed = Path(self.mktemp()).absolute()
        closed.mkdir()
        closed.chmod(0)
        self.addCleanup(closed.chmod, 0o700)
        if os.geteuid() == 0:
            # Root may search any directory, and nobody (65534) may not.
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        self.assertRaises(PermissionError, (closed / "mount").stat)
        mounts.refuse_frozen(
            "control", Path("/proc"), [command("fsfreeze", "-f", str(closed / "mount"))]
        )
        mounts.refuse_frozen("control", closed / "run", [command("fsfreeze", "-f", "/proc")])

    def test_too_long(self) -> None:
        """A name that is too long for any filesystem is on none."""
        too_long = Path(self.mktemp()).absolute() / ("x" * 300)
        too_long.parent.mkdir()
        mounts.refuse_frozen("control", too_long.parent, [command("fsfreeze", "-f", str(too_long))])
        here = command("fsfreeze", "-f", str(too_long.parent))
        self.assertRaises(StartError, mounts.refuse_frozen, "control", too_long, [here])
