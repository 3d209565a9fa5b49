"""Tests for :mod:`xohook.mounts`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook import mounts
from xohook.errors import StartError
from xohook.settings import CommandSettings

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
        error = self.assertRaises(StartError, mounts.refuse_frozen, directory, [freezer])
        self.assertIn(f"runtime_directory = {directory}", str(error))
        self.assertIn("[command:disk]", str(error))

    def test_elsewhere(self) -> None:
        """Another filesystem may be frozen, and one that is not there."""
        directory = Path(self.mktemp()).absolute()
        elsewhere = [command("fsfreeze", "-f", mount) for mount in ("/proc", "/not/there")]
        mounts.refuse_frozen(directory, elsewhere)
        here = command("fsfreeze", "-f", str(directory.parent))
        self.assertRaises(StartError, mounts.refuse_frozen, directory, [*elsewhere, here])
