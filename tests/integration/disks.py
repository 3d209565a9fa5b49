"""Filesystems of a test's own, in image files: real ones that it may freeze, fill and copy.

Nothing that a test freezes outlives it: each filesystem has a small program beside it that thaws
and unmounts when the test is done with it, when the test's process dies, and when it takes too
long. No test writes to such a filesystem itself; it would be stuck where something is wrong.
"""

from __future__ import annotations

import errno
import os
import subprocess
from fcntl import ioctl
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests import needs
from tests.integration.agent import eventually
from xohook.processes.guards.freezer import FIFREEZE, FITHAW

#: Within so many seconds all is to be let go, under a hold limit of ten minutes (the issue's rule).
LET_GO = 20.0

#: Seconds after which a filesystem is thawed whatever its test is at: more than any test takes on a
#: busy machine.
LONGEST = 1200

#: Sizes in MiB: the smallest that mkfs.btrfs(8) makes is 109 MiB, and mkfs.xfs(8) 300 MiB; an image
#: takes what is written.
SIZES = {"btrfs": 128, "ext4": 96, "xfs": 320}

_RESCUE = """
read -r -t "$2" _
fsfreeze --unfreeze "$1"
read -r _
fsfreeze --unfreeze "$1"
for try in {1..100}; do
  umount "$1" && exit
  sleep 0.1
done
umount --lazy "$1"
"""


def run(*command: str | Path) -> str:
    """Run a program that is to do well within a minute.

    :param command: the program and its arguments.
    :return: what it wrote.
    :raises AssertionError: where it ended badly.
    """
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        words = " ".join(map(str, command))
        raise AssertionError(f"{words}: exit status {done.returncode}\n{done.stderr.decode()}")
    return done.stdout.decode()


def mount_options(image: Path) -> str:
    """Choose the options to mount an image with.

    A copy of an XFS is mounted beside the original only with ``nouuid`` (xfs(5)), and a mount
    namespace that another test has made may keep the original mounted for a while.

    :param image: the image.
    :return: the options, as ``mount -o`` has them.
    """
    with image.open("rb") as opened:
        return "loop,nouuid" if opened.read(4) == b"XFSB" else "loop"


class Disk:
    """A mounted filesystem.

    :param image: the image file, with a filesystem in it.
    :param mount: where to mount it; made where it is missing.
    :param longest: seconds after which it is thawed, whatever goes on.
    """

    def __init__(self, image: Path, mount: Path, longest: int = LONGEST) -> None:
        self.image = image
        self.mount = mount
        mount.mkdir(parents=True, exist_ok=True)
        run("mount", "-o", mount_options(image), image, mount)
        self._rescuer = subprocess.Popen(
            ["bash", "-c", _RESCUE, "rescuer", mount, str(longest)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A test that is interrupted from the keyboard is cleaned up after all the same.
            start_new_session=True,
        )

    @property
    def is_frozen(self) -> bool:
        """Whether it is frozen; asking thaws nothing."""
        directory = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # The kernel's only word for it is to refuse a second freeze (ioctl_fs(2)).
            ioctl(directory, FIFREEZE, 0)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
            raise
        else:
            ioctl(directory, FITHAW, 0)
            return False
        finally:
            os.close(directory)

    def freeze(self) -> None:
        """Freeze it, as another program on the machine would."""
        run("fsfreeze", "--freeze", self.mount)

    def thaw(self) -> None:
        """Thaw it, as another program on the machine would."""
        run("fsfreeze", "--unfreeze", self.mount)

    def begin_write(self) -> subprocess.Popen[bytes]:
        """Write to it in a process of its own, which is stuck for as long as it is frozen.

        :return: the process; it ends with 0 once all is on the disk.
        """
        script = 'echo written >"$1" && sync "$1"'
        return subprocess.Popen(["sh", "-c", script, "sh", self.mount / "written"])

    def release(self) -> None:
        """Have it thawed and unmounted."""
        if self._rescuer.stdin is not None:
            self._rescuer.stdin.close()

    def close(self) -> None:
        """Have it thawed and unmounted, and wait for that.

        :raises AssertionError: where something kept it busy.
        """
        self.release()
        if self._rescuer.wait(60) != 0:
            raise AssertionError(f"{self.mount} was busy to the end")


def make_image(image: Path, kind: str = "ext4", size: int | None = None) -> Path:
    """Make an image file with an empty filesystem.

    :param image: the file.
    :param kind: ``btrfs``, ``ext4`` or ``xfs``.
    :param size: its size in MiB, by default a small one.
    :return: the file.
    """
    with image.open("wb") as file:
        file.truncate((size or SIZES[kind]) * 1024 * 1024)
    run(needs.program(f"mkfs.{kind}"), "-q", image)
    return image


class DiskTestCase(SynchronousTestCase):
    """A test with filesystems of its own."""

    def tearDown(self) -> None:
        """Have all of them thawed: trial does this first of all, before anything is ended."""
        for disk in self.disks:
            disk.release()

    def need_disks(self) -> None:
        """See that there can be any."""
        needs.root()
        for program in ("bash", "fsfreeze", "mount", "mkfs.ext4", "mkfs.xfs"):
            needs.program(program)

    @property
    def disks(self) -> list[Disk]:
        """All filesystems of this test."""
        present: list[Disk] = self.__dict__.setdefault("_disks", [])
        return present

    def make_disk(self, kind: str = "ext4", size: int | None = None) -> Disk:
        """Make an empty filesystem and mount it.

        :param kind: ``btrfs``, ``ext4`` or ``xfs``.
        :param size: its size in MiB, by default a small one.
        :return: the filesystem.
        """
        self.need_disks()
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        return self.mount(make_image(directory / "image", kind, size), directory / "mount")

    def mount(self, image: Path, directory: Path) -> Disk:
        """Mount the filesystem of an image.

        :param image: the image file.
        :param directory: where to mount it.
        :return: the filesystem.
        """
        disk = Disk(image, directory)
        self.addCleanup(disk.close)
        self.disks.append(disk)
        return disk

    def assert_frozen(self, *disks: Disk) -> None:
        """See that these are frozen.

        :param disks: the filesystems.
        """
        for disk in disks:
            if not disk.is_frozen:
                raise AssertionError(f"{disk.mount} is not frozen")

    def assert_let_go(self, *disks: Disk) -> None:
        """See that all can be written to, soon.

        :param disks: the filesystems, by default all of the test.
        """
        writes = [disk.begin_write() for disk in disks or self.disks]

        def done() -> bool:
            return all(write.poll() is not None for write in writes)

        eventually(done, "all filesystems can be written to", LET_GO)
        if any(write.returncode for write in writes):
            raise AssertionError("a filesystem could not be written to")


class DiskReactorTestCase(DiskTestCase, TestCase):
    """A test with filesystems of its own, which runs on the reactor."""
