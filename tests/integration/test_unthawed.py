"""What may still be frozen after its window is kept in mind until it is proved to be thawed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from tests.integration.agent import Agent, eventually
from tests.integration.asking import OwingTestCase
from tests.integration.disks import Disk, DiskTestCase, make_image, run
from tests.integration.holds import filesystem, guards, kill
from xohook.host.pids import process_state

LIMIT = "hold_limit = 10m\n"
SHORT = ("freeze_timeout = 1s", "thaw_timeout = 1s")


class LateFreezeTests(OwingTestCase, DiskTestCase):
    """A freeze outlasts all of its timeouts, because the disk below does not answer.

    The filesystem's image lies on another filesystem, which is frozen: nothing can be flushed
    until that is thawed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.need_disks()
        self.outer = self.make_disk()
        self.inner = self.mount(
            make_image(self.outer.mount / "image"), Path(self.mktemp()).resolve()
        )
        self.agent = Agent.for_test(self, LIMIT, filesystem(self.inner, "it", *SHORT))

    def begin(self) -> int:
        """Have a window fail whose guard is in the middle of a freeze; its process comes back."""
        subprocess.run(["sh", "-c", 'echo x >"$0"', self.inner.mount / "dirty"], check=True)
        self.outer.freeze()
        answer = self.agent.get("/sync")
        self.assertEqual(answer.status, 500)
        [guard] = guards(self.agent)
        self.assertEqual(process_state(guard), "D")
        return guard

    def assert_good_again(self) -> None:
        """See that all of it is over, and that the next window is good."""
        eventually(lambda: not self.unthawed(), "nothing is frozen any more")
        self.assert_let_go(self.inner)
        self.assertEqual(self.record(), [])
        # The failed window's own /post-sync, and those of the ones after it, never come.
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assert_frozen(self.inner)
        self.agent.get("/post-sync")
        self.assert_let_go(self.inner)

    def test_told(self) -> None:
        """It is told until the guard reports, no window opens over it, and then all is well."""
        self.begin()
        [unthawed] = self.unthawed()
        self.assertEqual(unthawed["name"], "filesystem:it")
        self.assertEqual(unthawed["mounts"], [str(self.inner.mount)])
        self.assertEqual([entry["name"] for entry in self.record()], ["filesystem:it"])
        answer = self.agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(f"{self.inner.mount} may still be frozen", answer.body.decode())
        self.outer.thaw()
        self.assert_good_again()

    def test_guard_killed(self) -> None:
        """A guard that is killed in its freeze leaves it frozen: the agent thaws in its place."""
        guard = self.begin()
        kill(guard)
        self.outer.thaw()
        self.assert_good_again()

    def test_thaw(self) -> None:
        """``xohook thaw`` tries it again, and exits 1 as long as it is not thawed."""
        self.begin()
        said = self.ask("thaw", "-c", str(self.agent.configuration), status=1)
        self.assertIn("NOT ALL IS THAWED", said)
        self.assertIn(str(self.inner.mount), said)
        said = self.ask("status", "-c", str(self.agent.configuration), status=1)
        self.assertIn("MAY STILL BE FROZEN", said)
        self.outer.thaw()
        self.ask("thaw", "-c", str(self.agent.configuration))
        self.assert_good_again()

    def test_forget(self) -> None:
        """``xohook thaw --forget`` gives it up, by name."""
        self.begin()
        arguments = ("thaw", "-c", str(self.agent.configuration), "--forget")
        said = self.ask(*arguments, "filesystem:other", status=1)
        self.assertIn("one of filesystem:it", said)
        self.ask(*arguments, "filesystem:it")
        self.assertEqual((self.unthawed(), self.record()), ([], []))
        self.outer.thaw()
        self.assert_let_go(self.inner)

    def test_terminated(self) -> None:
        """An agent that ends leaves it to the next start, which takes it over."""
        self.begin()
        self.agent.kill(signal.SIGTERM)
        self.agent.wait()
        self.assertEqual([entry["name"] for entry in self.record()], ["filesystem:it"])
        self.agent.start()
        self.assertEqual(self.unthawed()[0]["name"], "filesystem:it")
        self.assertEqual(self.agent.get("/sync").status, 500)
        self.outer.thaw()
        self.assert_good_again()

    def test_killed(self) -> None:
        """So does an agent that is killed with its guard: the freeze succeeds after both."""
        guard = self.begin()
        kill(self.agent.pid, guard)
        self.agent.wait()
        self.agent.start()
        self.assertEqual(self.unthawed()[0]["name"], "filesystem:it")
        self.outer.thaw()
        self.assert_good_again()

    def test_state_directory(self) -> None:
        """The same where the state directory lies on it: a start that has all writes nothing."""
        self.agent.stop()
        self.agent.state_directory = self.inner.mount / "state"
        # The stamp is on the disk before the first filesystem is frozen, and so before the command.
        script = f"echo x >{self.inner.mount}/dirty; fsfreeze --freeze {self.outer.mount}"
        self.agent.configure(
            LIMIT,
            filesystem(self.make_disk(), "other", "order = 90")
            + f'[command:hang]\nfreeze = sh -c "{script}"\norder = 91\n'
            + filesystem(self.inner, "it", *SHORT, "order = 92"),
        )
        self.agent.start()
        self.assertEqual(self.agent.get("/sync").status, 500)
        [guard] = [each for each in guards(self.agent) if process_state(each) == "D"]
        kill(self.agent.pid, guard)
        self.agent.wait()
        self.agent.start()
        self.assertEqual(self.unthawed()[0]["name"], "filesystem:it")
        self.outer.thaw()
        eventually(lambda: not self.unthawed(), "nothing is frozen any more")
        self.assert_let_go(self.inner)


class UnmountedTests(DiskTestCase):
    """A filesystem is unmounted lazily while it is frozen: no path leads to it any more."""

    def setUp(self) -> None:
        self.need_disks()

    def mount_again(self, disk: Disk) -> None:
        """Mount it where it was, so that it can be looked at."""
        run("mount", "-o", "loop", disk.image, disk.mount)

    def test_guard_killed(self) -> None:
        """The agent has a descriptor of it, and thaws it when its guard is killed."""
        disk = self.make_disk()
        agent = Agent.for_test(self, LIMIT, filesystem(disk, "it"))
        self.assertEqual(agent.get("/sync").status, 200)
        run("umount", "--lazy", disk.mount)
        kill(*guards(agent))
        agent.wait_for_outcomes("broken")
        self.mount_again(disk)
        self.assert_let_go(disk)

    def test_all_killed(self) -> None:
        """The next start mounts its device for itself, and thaws it."""
        for kind in ("ext4", "xfs"):
            disk = self.make_disk(kind)
            agent = Agent.for_test(self, LIMIT, filesystem(disk, "it"))
            self.assertEqual(agent.get("/sync").status, 200)
            kill(agent.pid, *guards(agent))
            agent.wait()
            run("umount", "--lazy", disk.mount)
            agent.start()
            self.mount_again(disk)
            self.assert_let_go(disk)
            self.assertEqual(agent.outcomes, ["recovered"])
            agent.stop()

    def test_parent(self) -> None:
        """The filesystem around its mount point is none of its: frozen by another, it stays so."""
        outer = self.make_disk()
        image = make_image(Path(self.mktemp()).resolve())
        inner = self.mount(image, outer.mount / "inner")
        agent = Agent.for_test(self, LIMIT, filesystem(inner, "it"))
        self.assertEqual(agent.get("/sync").status, 200)
        kill(agent.pid, *guards(agent))
        agent.wait()
        run("umount", "--lazy", inner.mount)
        outer.freeze()
        agent.start()
        self.assert_frozen(outer)
        outer.thaw()
        self.mount_again(inner)
        self.assert_let_go(inner)
