"""Tests for the programs of :mod:`xohook.processes.guards` by themselves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import eventually
from tests.integration.disks import Disk, DiskTestCase, make_image, run
from tests.integration.footprint import children
from tests.integration.guards import Guard
from xohook.host.pids import start_time
from xohook.participants.targets import Identity, found, fresh_at

EXTENDED = 3600.0
"""Seconds of a deadline that is not to come."""

NOBODY = 65534
"""A user that has no process of the test's."""

SOON = 0.5
"""Seconds of a deadline that is waited for."""


class FreezerTests(DiskTestCase):
    """The guard of filesystems."""

    def hold(self, kind: str = "ext4") -> Guard:
        """Freeze a filesystem of that kind under a guard."""
        self.disk = self.make_disk(kind)
        guard = Guard.of_filesystems(self, self.disk.mount)
        self.assertRegex(guard.line(), "^1 ready ")
        guard.until(EXTENDED)
        guard.order("freeze")
        self.assertEqual(guard.line(), "3 frozen")
        self.assert_frozen(self.disk)
        return guard

    def rescuer(self, disk: Disk) -> Guard:
        """Start a guard for what another has left frozen, perhaps."""
        guard = Guard("freezer", f"open {found(Identity(str(disk.mount)), None)}")
        self.addCleanup(guard.end)
        guard.order("rescue")
        self.assertRegex(guard.line(), "^1 ready ")
        return guard

    def test_order(self) -> None:
        """It freezes and thaws ext4 and xfs when it is told to, and says so."""
        for kind in ("ext4", "xfs"):
            guard = self.hold(kind)
            write = self.disk.begin_write()
            self.assert_frozen(self.disk)
            self.assertIsNone(write.poll())
            guard.order("thaw")
            self.assertEqual(guard.lines(), ["4 thawed 0"])
            self.assertEqual(write.wait(20), 0)
            self.assertEqual(guard.wait(), 0)

    def test_closed(self) -> None:
        """It thaws when its standard input closes: the agent has died."""
        guard = self.hold()
        guard.close()
        self.assert_let_go()
        self.assertEqual(guard.lines(), ["0 thawed 0"])

    def test_closed_both(self) -> None:
        """It thaws though nobody reads what it says any more."""
        guard = self.hold()
        guard.output.close()
        guard.close()
        self.assert_let_go()

    def test_sigterm(self) -> None:
        """It thaws on SIGTERM, and a signal that is not meant for it changes nothing."""
        guard = self.hold()
        for number in (signal.SIGHUP, signal.SIGINT):
            guard.signal(number)
        self.assert_frozen(self.disk)
        guard.signal(signal.SIGTERM)
        self.assert_let_go()
        self.assertEqual(guard.lines(), ["0 thawed 0"])

    def test_deadline(self) -> None:
        """It thaws when its time is up, though nobody tells it to; the last deadline counts."""
        guard = self.hold()
        guard.until(SOON)
        self.assert_let_go()
        self.assertEqual(guard.lines(), ["0 thawed 0"])

    def test_killed(self) -> None:
        """Killed, it leaves the filesystem frozen; another that comes to the rescue thaws it."""
        guard = self.hold()
        guard.signal(signal.SIGKILL)
        guard.wait()
        self.assert_frozen(self.disk)
        rescuer = self.rescuer(self.disk)
        rescuer.order("thaw")
        self.assert_let_go()
        self.assertEqual(rescuer.lines(), ["3 thawed 0"])

    def test_rescue_of_nothing(self) -> None:
        """A rescue that finds nothing frozen is none the worse for it."""
        rescuer = self.rescuer(self.make_disk())
        rescuer.close()
        self.assertEqual(rescuer.lines(), [f"0 thawed {errno.EINVAL}"])

    def test_thawed_by_another(self) -> None:
        """A thaw that somebody else has done before is told: the hold is not proved."""
        guard = self.hold()
        self.disk.thaw()
        guard.order("thaw")
        self.assertEqual(guard.lines(), [f"4 thawed {errno.EINVAL}"])

    def test_thawed_and_frozen_by_another(self) -> None:
        """A thaw in between is told by what was written, though it is frozen again by then."""
        for kind in ("ext4", "xfs"):
            guard = self.hold(kind)
            self.disk.thaw()
            self.disk.freeze()
            guard.order("thaw")
            self.assertEqual(guard.lines(), ["4 thawed w"])

    def test_written_before(self) -> None:
        """What was written until the freeze does not count as written during the hold."""
        copy = 'while dd if=/dev/zero of="$0" bs=64k count=64; do echo x >>"$0"; done'
        for kind in ("ext4", "xfs"):
            disk = self.make_disk(kind)
            file = disk.mount / "file"
            writer = subprocess.Popen(["sh", "-c", copy, file], stderr=subprocess.DEVNULL)
            self.addCleanup(writer.wait)
            self.addCleanup(writer.kill)
            eventually(file.exists, "it is written to")
            for _ in range(3):
                guard = Guard.of_filesystems(self, disk.mount)
                self.assertRegex(guard.line(), "^1 ready ")
                guard.order("freeze")
                self.assertEqual(guard.line(), "2 frozen")
                guard.order("thaw")
                self.assertEqual(guard.lines(), ["3 thawed 0"])
            writer.kill()

    def test_frozen_by_another(self) -> None:
        """What another has frozen is refused before anything is frozen, and left as it was."""
        first, second, third = (self.make_disk() for _ in range(3))
        second.freeze()
        guard = Guard.of_filesystems(self, first.mount, second.mount, third.mount)
        self.assertRegex(
            "".join(guard.lines()), f"^1 refused {second.mount}: somebody else has frozen it"
        )
        self.assertEqual(guard.wait(), 1)
        self.assert_let_go(first, third)
        self.assert_frozen(second)

    def test_frozen_by_another_then(self) -> None:
        """What another has frozen since is refused, and what was frozen before it is let go."""
        first, second, third = (self.make_disk() for _ in range(3))
        guard = Guard.of_filesystems(self, first.mount, second.mount, third.mount)
        self.assertRegex(guard.line(), "^1 ready ")
        second.freeze()
        guard.order("freeze")
        self.assertEqual(guard.line(), f"2 refused 1 {errno.EBUSY} 0,-,-")
        self.assert_let_go(first, third)
        self.assert_frozen(second)

    def test_not_there(self) -> None:
        """A mount point that is not there is refused before anything is frozen."""
        disk = self.make_disk()
        guard = Guard.of_filesystems(self, disk.mount, Path("/nonexistent"))
        guard.order("freeze")
        self.assertEqual(guard.lines(), ["1 refused nothing is mounted on /nonexistent"])
        self.assertEqual(guard.wait(), 1)
        self.assertFalse(disk.is_frozen)

    def test_no_such_thing(self) -> None:
        """A kind of filesystem that the kernel cannot freeze is refused in words."""
        needs.root()
        mount = Path(self.mktemp()).resolve()
        mount.mkdir()
        run("mount", "-t", "tmpfs", "tmpfs", mount)
        self.addCleanup(run, "umount", mount)
        guard = Guard.of_filesystems(self, mount)
        guard.order("freeze")
        self.assertRegex(guard.line(), "^1 ready ")
        self.assertEqual(guard.line(), f"2 refused 0 {errno.EOPNOTSUPP} -")

    def test_not_needed(self) -> None:
        """An agent that gives up meanwhile is no error of the guard's: it refuses, and ends."""
        disk = self.make_disk()
        guard = Guard("freezer", f"until {time.monotonic() + 600}")
        self.addCleanup(guard.end)
        guard.agent.close()
        number = guard.order(f"open {fresh_at(str(disk.mount))}")
        self.assertTrue(guard.line().startswith(f"{number} refused the agent takes no descriptors"))
        self.assertEqual(guard.wait(), 1)

    def test_late(self) -> None:
        """A freeze that comes too late is undone as soon as it is done.

        The filesystem's image lies on another filesystem, which is frozen: nothing can be flushed
        until that is thawed.
        """
        outer = self.make_disk()
        inner = self.mount(make_image(outer.mount / "image"), Path(self.mktemp()).resolve())
        subprocess.run(["sh", "-c", 'echo unwritten >"$0"', inner.mount / "dirty"], check=True)
        guard = Guard.of_filesystems(self, inner.mount)
        self.assertRegex(guard.line(), "^1 ready ")
        outer.freeze()
        guard.order("freeze")
        eventually(lambda: _waits_for_disk(guard.pid), "the freeze is under way")
        guard.close()
        self.assertTrue(_waits_for_disk(guard.pid))
        outer.thaw()
        self.assertEqual(guard.lines(), ["2 frozen", "0 thawed 0"])
        self.assert_let_go()

    def test_locked_in_memory(self) -> None:
        """All of it is locked in memory before it freezes anything."""
        guard = self.hold()
        # One header a mapping, with its name last, and the flag lo for locked (proc(5)).
        mappings = Path(f"/proc/{guard.pid}/smaps").read_text().split("VmFlags:")
        names = [mapping.split("Size:")[0].split()[-1] for mapping in mappings[:-1]]
        flags = [mapping.splitlines()[0].split() for mapping in mappings[1:]]
        unlocked = {name for name, of in zip(names, flags, strict=True) if "lo" not in of}
        kernels_own = {"[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"}
        self.assertLessEqual(unlocked, kernels_own)


def _waits_for_disk(pid: int) -> bool:
    """Tell whether a process is in a wait that no signal ends (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "D"


class SessionGuardTests(SynchronousTestCase):
    """The guard of a session; its client is a shell that holds a file lock (flock(1))."""

    def setUp(self) -> None:
        needs.program("flock")
        self.lock = Path(self.mktemp()).resolve()
        self.lock.touch()
        self.thaw = "flock --unlock 9; echo thawed"

    def hold(self, before: str = "") -> Guard:
        """Have a client hold the lock, after something else."""
        guard = Guard.of_session(self, "sh", thaw_input=self.thaw)
        self.client = int(guard.line().removeprefix("0 started "))
        guard.until(EXTENDED)
        guard.send(f"{before}exec 9<'{self.lock}'; flock 9; echo frozen")
        self.assertEqual(guard.line(), "0 line frozen")
        self.assertTrue(self.is_locked)
        return guard

    @property
    def is_locked(self) -> bool:
        """Whether somebody holds the lock."""
        return (
            subprocess.run(["flock", "--nonblock", self.lock, "true"], check=False).returncode != 0
        )

    def assert_let_go(self, *, client_ends: bool = True) -> None:
        """See that the lock is free and the client gone."""
        eventually(lambda: not self.is_locked, "the lock is free", 20)
        if client_ends:
            eventually(lambda: start_time(self.client) is None, "the client has ended", 20)

    def test_order(self) -> None:
        """It thaws over the client's connection when it is told to, and ends the client."""
        guard = self.hold()
        number = guard.order("thaw")
        self.assertEqual(guard.line(), f"{number} thawing")
        self.assertEqual(guard.line(), "0 line thawed")
        guard.order("close")
        self.assertEqual(guard.lines(), ["0 ended exit status 0"])
        self.assert_let_go()

    def test_closed(self) -> None:
        """It thaws when its standard input closes, by what the client reads first."""
        guard = self.hold()
        guard.close()
        self.assertEqual(guard.lines(), ["0 released", "0 line thawed", "0 ended exit status 0"])
        self.assert_let_go()

    def test_sigterm(self) -> None:
        """It thaws on SIGTERM."""
        guard = self.hold()
        guard.signal(signal.SIGTERM)
        self.assertEqual(guard.lines(), ["0 released", "0 line thawed", "0 ended exit status 0"])
        self.assert_let_go()

    def test_deadline(self) -> None:
        """It thaws when its time is up."""
        guard = self.hold()
        guard.until(SOON)
        self.assertEqual(guard.lines(), ["0 released", "0 line thawed", "0 ended exit status 0"])
        self.assert_let_go()

    def test_in_flight(self) -> None:
        """A client that waits for something else, and so does not read, is ended by SIGTERM."""
        holder = subprocess.Popen(["flock", "--no-fork", self.lock, "sleep", "600"])
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        eventually(lambda: self.is_locked, "another holds the lock")
        guard = Guard.of_session(self, "sh", thaw_input=self.thaw)
        self.client = int(guard.line().removeprefix("0 started "))
        guard.send(f"exec 9<'{self.lock}'; flock 9; echo frozen")
        eventually(lambda: children(self.client), "the client waits for the lock")
        [waiting] = children(self.client)
        guard.close()
        self.assertEqual(guard.lines(), ["0 released", "0 ended SIGTERM"])
        eventually(lambda: start_time(waiting) is None, "what waited for the lock has ended")

    def test_deaf(self) -> None:
        """A client that ignores SIGTERM is ended by SIGKILL."""
        guard = self.hold("trap '' TERM; ")
        guard.send("while :; do sleep 600; done")
        eventually(lambda: children(self.client), "the client does not read any more")
        guard.close()
        self.assertEqual(guard.lines(), ["0 released", "0 ended SIGKILL"])
        self.assert_let_go()

    def test_flood(self) -> None:
        """A client that floods an agent which does not read is let go all the same."""
        guard = self.hold()
        guard.send("yes")
        eventually(lambda: children(self.client), "the client floods")
        guard.close()
        # Nothing of it is read: the lock has to be free without that.
        self.assert_let_go()
        guard.output.close()
        guard.wait()

    def test_killed(self) -> None:
        """Killed, it takes the client's standard input with it: a client that reads ends."""
        guard = self.hold()
        guard.signal(signal.SIGKILL)
        self.assert_let_go()

    def test_ends_by_itself(self) -> None:
        """A client that ends is told of, with how it ended."""
        guard = self.hold()
        guard.send("echo last words; exit 3")
        self.assertEqual(guard.lines(), ["0 line last words", "0 ended exit status 3"])
        self.assertEqual(guard.wait(), 0)

    def test_unfinished_line(self) -> None:
        """What a client says without an end of line is told when it ends."""
        guard = self.hold()
        guard.send("printf unfinished; kill -KILL $$")
        self.assertEqual(guard.lines(), ["0 line unfinished", "0 ended SIGKILL"])

    def test_cannot_be_run(self) -> None:
        """A client that is not there is told of in words."""
        guard = Guard.of_session(self, "/nonexistent/client")
        self.assertRegex(guard.line(), "0 started [0-9]+")
        self.assertEqual(
            guard.lines(),
            [
                "0 line cannot run /nonexistent/client: no such program",
                "0 ended exit status 127",
            ],
        )

    def test_may_not_be_signalled(self) -> None:
        """A client that may not be signalled is left, in words, and the guard ends all the same."""
        needs.root()
        without = (needs.program("setpriv"), "--bounding-set=-kill")
        deaf = ("sh", "-c", "trap '' TERM; echo here; while :; do sleep 600; done")
        guard = Guard.of_session(self, *deaf, user=NOBODY, launcher=without)
        client = int(guard.line().removeprefix("0 started "))
        self.addCleanup(os.killpg, client, signal.SIGKILL)
        self.assertEqual(guard.line(), "0 line here")
        guard.close()
        self.assertEqual(
            guard.lines(),
            ["0 released", "0 unkillable", f"0 ended process {client} may not be signalled"],
        )
        self.assertEqual(guard.wait(), 0)
        self.assertIsNotNone(start_time(client))

    def test_long_line(self) -> None:
        """Of a line that is too long the beginning is told, and that it is not the whole line."""
        guard = Guard.of_session(self, "sh")
        self.assertRegex(guard.line(), "0 started [0-9]+")
        guard.send("printf 'ERROR %020000d\\n' 0; printf '%020000d\\n' 0; echo frozen")
        self.assertRegex(guard.line(), "^0 long ERROR 0{16378}$")
        self.assertRegex(guard.line(), "^0 long 0{16384}$")
        self.assertEqual(guard.line(), "0 line frozen")
        guard.close()
