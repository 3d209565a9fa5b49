"""Tests for :mod:`xohook.participants.frozen`."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.config.settings import CommandSettings, FilesystemSettings, ScriptsSettings
from xohook.errors import StartError
from xohook.host import mounts
from xohook.participants import frozen


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


class FrozenByTests(SynchronousTestCase):
    """What a command freezes is read from its command line."""

    def frozen(self, *freeze: str) -> tuple[str, ...]:
        return tuple(map(str, frozen.frozen_by(command(*freeze))))

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
        self.assertEqual(frozen.frozen_by(filesystem(Path("/srv"))), (Path("/srv"),))
        found = mounts.freezable(mounts.table(), Path("/sys"))
        self.assertEqual(frozen.frozen_by(filesystem(None)), tuple(mount.point for mount in found))

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
        self.assertEqual(frozen.frozen_by(scripts), ())

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
            StartError, frozen.refuse_frozen, "runtime_directory", directory, [freezer]
        )
        self.assertIn(f"runtime_directory = {directory}", str(error))
        self.assertIn("[command:disk]", str(error))

    def test_filesystem(self) -> None:
        """A filesystem participant is refused likewise."""
        directory = Path(self.mktemp()).absolute()
        mount = mounts.mount_of(directory, mounts.table())
        assert mount is not None
        freezer = filesystem(mount.point)
        error = self.assertRaises(
            StartError, frozen.refuse_frozen, "runtime_directory", directory, [freezer]
        )
        self.assertIn("[filesystem:disk] freezes", str(error))

    def test_not_mounted(self) -> None:
        """A filesystem that is not mounted is not frozen, and neither is the one around it."""
        directory = Path(self.mktemp()).absolute()
        frozen.refuse_frozen("runtime_directory", directory, [filesystem(directory.parent)])

    def test_elsewhere(self) -> None:
        """Another filesystem may be frozen, and one that is not there."""
        directory = Path(self.mktemp()).absolute()
        elsewhere = [command("fsfreeze", "-f", mount) for mount in ("/proc", "/not/there")]
        frozen.refuse_frozen("control", directory, elsewhere)
        here = command("fsfreeze", "-f", str(directory.parent))
        self.assertRaises(
            StartError, frozen.refuse_frozen, "runtime_directory", directory, [*elsewhere, here]
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
        frozen.refuse_frozen(
            "control", Path("/proc"), [command("fsfreeze", "-f", str(closed / "mount"))]
        )
        frozen.refuse_frozen("control", closed / "run", [command("fsfreeze", "-f", "/proc")])

    def test_too_long(self) -> None:
        """A name that is too long for any filesystem is on none."""
        too_long = Path(self.mktemp()).absolute() / ("x" * 300)
        too_long.parent.mkdir()
        frozen.refuse_frozen("control", too_long.parent, [command("fsfreeze", "-f", str(too_long))])
        here = command("fsfreeze", "-f", str(too_long.parent))
        self.assertRaises(StartError, frozen.refuse_frozen, "control", too_long, [here])
