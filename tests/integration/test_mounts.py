"""The mount table of a real system: odd names, hidden mounts, subvolumes, overlays and loops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs

from tests import needs
from tests.host.test_mounts import ODD
from tests.integration.agent import COMMAND, Agent
from tests.integration.disks import Disk, DiskTestCase, run
from tests.participants.test_frozen import filesystem
from xohook.cli.checks import filesystem_checks
from xohook.errors import StartError
from xohook.host import mounts
from xohook.participants.frozen import refuse_frozen

MOUNT_ALL = 'for each in "$0"/*; do mount -t tmpfs "" "$each"; done; exec "$@"'
"""Starts a program where a filesystem without a source is mounted on each of some directories."""

COVER = 'mount --bind "$0" "$1"; shift; exec "$@"'
"""Starts a program where one directory is mounted over another."""


class NamespaceTestCase(DiskTestCase):
    """Agents, and checks, in a mount namespace of their own."""

    def setUp(self) -> None:
        self.need_disks()
        self.launcher = (needs.program("unshare"), "-m", "sh", "-ec")

    def agent(self, disk: Disk, *launcher: str | Path) -> Agent:
        """Start an agent that freezes a filesystem, after some mounts."""
        section = f"[filesystem:data]\nmount = {disk.mount}"
        agent = Agent(Path(self.mktemp()).resolve(), sections=section)
        agent.launcher = (*self.launcher, *map(str, launcher))
        self.addCleanup(agent.stop)
        agent.start()
        return agent

    def check(self, agent: Agent, *sections: str) -> str:
        """Run ``xohook check`` where an agent was started, on other sections."""
        agent.configure(sections="\n".join(sections))
        done = subprocess.run(
            [*agent.launcher, sys.executable, "-c", COMMAND, "check", "-c", agent.configuration],
            env=agent.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=60,
        )
        return done.stdout.decode()


class OddTests(NamespaceTestCase):
    """A mount elsewhere, however odd, concerns nobody."""

    def test_window(self) -> None:
        """A window is good, and ``check`` says so beforehand."""
        directory = Path(self.mktemp()).resolve()
        for number, odd in enumerate((*ODD, " ", "\t", "\n", "\\", "#", "\udcff")):
            (directory / f"{number}{odd}x").mkdir(parents=True)
        disk = self.make_disk()
        agent = self.agent(disk, MOUNT_ALL, directory)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        said = self.check(agent, "[filesystem:data]", f"mount = {disk.mount}")
        self.assertNotIn("Traceback", said)
        self.assertIn(f"ok       [filesystem:data] mount = {disk.mount}: {disk.mount}", said)


class HiddenTests(NamespaceTestCase):
    """A mount that another one hides is never taken for that other one."""

    def setUp(self) -> None:
        super().setUp()
        self.disk, self.other = self.make_disk(), self.make_disk()
        # Where the hidden filesystem was there is a plain directory of the one that hides it.
        (self.other.mount / self.disk.mount.name).mkdir()
        self.cover = self.disk.mount.parent
        self.words = f"{self.disk.mount} is hidden by the filesystem mounted on {self.cover}: "

    def test_window(self) -> None:
        """Nothing is frozen in its place, and the answer names both."""
        agent = self.agent(self.disk, COVER, self.other.mount, self.cover)
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(self.words, answer.body.decode())
        self.assertFalse(self.other.is_frozen)

    def test_check(self) -> None:
        """``check`` says so before, for a mount point and for ``auto``."""
        agent = self.agent(self.disk, COVER, self.other.mount, self.cover)
        for mount in (self.disk.mount, "auto"):
            said = self.check(agent, "[filesystem:data]", f"mount = {mount}")
            self.assertIn(f"error    [filesystem:data] mount = {mount}: {self.words}", said)


PROBE = """
import os, re, sys
from pathlib import Path
from xohook.host import mounts

os.chroot(sys.argv[1])
table = mounts.table()
for mount in table:
    reached = None
    try:
        opened = os.open(mount.point, os.O_PATH)
        told = Path(f"/proc/self/fdinfo/{opened}").read_text()
        reached = int(re.search(r"mnt_id:\\s*([0-9]+)", told)[1])
    except FileNotFoundError:
        pass
    hider = mounts.hidden_by(mount, table)
    assert (reached == mount.id) == (hider is None), (mount, reached, hider)
    if sys.argv[2] in str(mount.point):
        print(mount.source, "hidden by", hider.source if hider else None)
"""
"""Compares what is said to be hidden with where the kernel comes to, for each mount there is."""


class KernelTests(NamespaceTestCase):
    """What the table is taken to mean is what the kernel makes of it."""

    def probe(self, *steps: str, root: str = "/") -> list[str]:
        """Look at all mounts after some steps in a directory ``d``, which is made for them."""
        directory = Path(self.mktemp()).resolve()
        (directory / "d").mkdir(parents=True)
        script = "\n".join(('cd "$0"', *steps, 'exec "$@"'))
        words = (directory, sys.executable, "-c", PROBE, root if root == "/" else directory / root)
        done = subprocess.run(
            [*self.launcher, script, *words, "/d/"],
            env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/usr/sbin:/bin"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.splitlines()

    def test_covered(self) -> None:
        """Mounts below a later mount are hidden by it, and those in it are not."""
        said = self.probe(
            "mkdir -p d/a/b d/c",
            "mount -t tmpfs one d/a/b && mkdir d/a/b/x && mount -t tmpfs two d/a/b/x",
            "mount --bind d/a/b d/c && mount -t tmpfs three d/c",
            "mount -t tmpfs cover d/a && mkdir -p d/a/b/x && mount -t tmpfs four d/a/b/x",
        )
        self.assertEqual(
            said,
            [
                "one hidden by cover",
                "two hidden by cover",
                "one hidden by three",
                "three hidden by None",
                "cover hidden by None",
                "four hidden by None",
            ],
        )

    def test_stacked(self) -> None:
        """Of mounts on one point the last is reached; another mount beneath it is not."""
        said = self.probe(
            "mkdir -p d/a",
            "mount -t tmpfs one d/a && mkdir d/a/x && mount -t tmpfs two d/a/x",
            "mount -t tmpfs three d/a && mkdir d/a/x",
        )
        self.assertEqual(
            said, ["one hidden by three", "two hidden by three", "three hidden by None"]
        )

    def test_over_the_root(self) -> None:
        """A mount over the root directory is not reached, and hides nothing."""
        said = self.probe("mkdir d/a && mount -t tmpfs one d/a", "mount -t tmpfs over /")
        self.assertEqual(said, ["one hidden by None"])

    def test_chroot(self) -> None:
        """With a plain directory as the root, whose mount is in no table, the same holds."""
        said = self.probe(
            "mkdir -p d/proc d/d/a/b && mount -t proc proc d/proc",
            "mount -t tmpfs one d/d/a/b && mount -t tmpfs two d/d/a",
            root="d",
        )
        self.assertEqual(said, ["one hidden by two", "two hidden by None"])


class KeptOnTests(DiskTestCase):
    """The runtime directory is not kept on what is frozen, in whatever way."""

    def setUp(self) -> None:
        self.need_disks()

    def refused(self, directory: Path, disk: Disk) -> str:
        """Tell why a directory is not accepted where a filesystem is frozen."""
        error = self.assertRaises(
            StartError,
            refuse_frozen,
            "runtime_directory",
            directory / "run",
            [filesystem(disk.mount)],
        )
        return str(error)

    def bind(self, what: Path) -> Path:
        """Mount a directory in another place too."""
        place = Path(self.mktemp()).resolve()
        place.mkdir()
        run("mount", "--bind", what, place)
        self.addCleanup(run, "umount", place)
        return place

    def test_subvolume(self) -> None:
        """In a subvolume of btrfs, whose device is another one for stat(2)."""
        btrfs = needs.program("btrfs")
        disk = self.make_disk("btrfs")
        subvolume = disk.mount / "sub"
        run(btrfs, "subvolume", "create", subvolume)
        self.assertNotEqual(subvolume.stat().st_dev, disk.mount.stat().st_dev)
        self.assertIn(f"lies on the filesystem of {disk.mount}", self.refused(subvolume, disk))

    def test_mounted_subvolume(self) -> None:
        """In a subvolume of btrfs that is mounted elsewhere, as / and /home often are."""
        btrfs = needs.program("btrfs")
        disk = self.make_disk("btrfs")
        run(btrfs, "subvolume", "create", disk.mount / "sub")
        self.assertIn(
            f"lies on the filesystem of {disk.mount}",
            self.refused(self.bind(disk.mount / "sub"), disk),
        )

    def test_twice(self) -> None:
        """Two subvolumes of one btrfs are one filesystem, which two sections cannot freeze."""
        btrfs = needs.program("btrfs")
        disk = self.make_disk("btrfs")
        run(btrfs, "subvolume", "create", disk.mount / "sub")
        again = self.bind(disk.mount / "sub")
        second = attrs.evolve(filesystem(again), name="filesystem:again")
        found = [
            str(each) for each in filesystem_checks.examine([filesystem(disk.mount), second], [])
        ]
        self.assertIn(
            f"{again} is on the filesystem that [filesystem:disk] freezes too", " ".join(found)
        )

    def test_bind(self) -> None:
        """In a directory of it that is mounted elsewhere."""
        disk = self.make_disk()
        directory = disk.mount / "directory"
        directory.mkdir()
        self.assertIn(
            f"lies on the filesystem of {disk.mount}", self.refused(self.bind(directory), disk)
        )

    def test_overlay(self) -> None:
        """On an overlay whose upper directory lies there."""
        disk = self.make_disk()
        place = Path(self.mktemp()).resolve()
        for each in (place / "lower", place / "over", disk.mount / "up,per", disk.mount / "work"):
            each.mkdir(parents=True)
        upper = str(disk.mount / "up,per").replace(",", "\\,")
        options = f"lowerdir={place / 'lower'},upperdir={upper},workdir={disk.mount / 'work'}"
        run("mount", "-t", "overlay", "-o", options, "over", place / "over")
        self.addCleanup(run, "umount", place / "over")
        self.assertIn(
            f"is kept in a file on the filesystem of {disk.mount}",
            self.refused(place / "over", disk),
        )

    def test_loop(self) -> None:
        """On a filesystem whose image lies there; ``auto`` freezes it before its carrier."""
        carrier = self.make_disk(size=512)
        image = carrier.mount / "image"
        with image.open("wb") as file:
            file.truncate(96 * 1024 * 1024)
        run("mkfs.ext4", "-q", image)
        place = Path(self.mktemp()).resolve()
        # Deeper than the carrier's, and less deep: the order of the mount points says nothing.
        for mount in (place / "a/b/c/d/e/f/g/h", carrier.mount.parent / "i"):
            mount.mkdir(parents=True)
            run("mount", "-o", "loop", image, mount)
            try:
                self.assertIn(
                    f"is kept in a file on the filesystem of {carrier.mount}",
                    self.refused(mount, carrier),
                )
                found = mounts.freezable(mounts.table(), Path("/sys"))
                order = [each.point for each in found]
                self.assertLess(order.index(mount), order.index(carrier.mount))
            finally:
                run("umount", mount)

    def test_elsewhere(self) -> None:
        """What lies on another filesystem is accepted."""
        disk, other = self.make_disk(), self.make_disk("btrfs")
        refuse_frozen("runtime_directory", other.mount / "run", [filesystem(disk.mount)])
        refuse_frozen("runtime_directory", disk.mount / "run", [filesystem(other.mount)])
