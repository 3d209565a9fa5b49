"""A window is called good only where the right filesystem was frozen, until it was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.disks import LET_GO, Disk, DiskTestCase, make_image, run
from tests.integration.footprint import children
from tests.integration.holds import Lock, assert_ended, filesystem, guards
from tests.integration.programs import Programs

LIMIT = "hold_limit = 10m\n"

TRIES = 5
"""Windows in a test of what went wrong in nine of ten."""


def wait_for(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a write."""
    if process.wait(LET_GO) != 0:
        raise AssertionError("the filesystem could not be written to")


class WrongFilesystemTests(DiskTestCase):
    """The guard freezes what the configuration means, or nothing."""

    def nest(self) -> tuple[Disk, Disk]:
        """Mount a filesystem on a directory of another one."""
        outer = self.make_disk()
        image = Path(self.mktemp()).resolve()
        return outer, self.mount(make_image(image), outer.mount / "inner")

    def test_unmounted(self) -> None:
        """A filesystem that comes and goes is frozen itself, and never the one around it."""
        outer, inner = self.nest()
        agent = Agent.for_test(self, LIMIT, filesystem(inner, "it"))
        is_over = threading.Event()

        def flicker() -> None:
            while not is_over.is_set():
                done = subprocess.run(
                    ["umount", inner.mount], check=False, stderr=subprocess.DEVNULL
                )
                if done.returncode == 0:
                    run("mount", "-o", "loop", inner.image, inner.mount)

        flickering = threading.Thread(target=flicker)
        flickering.start()
        try:
            for _ in range(3 * TRIES):
                status = agent.get("/sync").status
                self.assertFalse(outer.is_frozen)
                if status == 200:
                    agent.get("/post-sync")
        finally:
            is_over.set()
            flickering.join()

    def test_hidden(self) -> None:
        """One that another was mounted over is an error that names the other; none is frozen."""
        directory = Path(self.mktemp()).resolve()
        hidden = self.mount(make_image(Path(self.mktemp()).resolve()), directory / "data")
        agent = Agent.for_test(self, LIMIT, filesystem(hidden, "data"))
        other = make_image(Path(self.mktemp()).resolve())
        run("mount", "-o", "loop", other, directory)
        try:
            (directory / "data").mkdir()
            answer = agent.get("/sync")
            self.assertEqual(answer.status, 500)
            self.assertIn(
                f"{hidden.mount} is hidden by the filesystem mounted on {directory}",
                answer.body.decode(),
            )
            (directory / "written").touch()
        finally:
            run("umount", directory)
        self.assert_let_go(hidden)


class LetGoBeforeTests(DiskTestCase):
    """What lets go before the agent asks for it spoils the window, whenever that is noticed."""

    def setUp(self) -> None:
        self.need_disks()

    def assert_spoilt(self, agent: Agent, let_go: Callable[[int], None]) -> None:
        """See that a ``/post-sync`` after the end of the hold is refused.

        The agent is stopped meanwhile, so that it finds out about both at once.
        """
        self.assertEqual(agent.get("/sync").status, 200)
        [guard] = guards(agent)
        with agent.connect() as connection:
            agent.kill(signal.SIGSTOP)
            let_go(guard)
            connection.start("GET", "/post-sync", agent.credentials)
            agent.kill(signal.SIGCONT)
            self.assertEqual(connection.answer().status, 500, agent.log)
        eventually(lambda: agent.outcomes, "the window has ended")
        self.assertNotIn("synced", agent.outcomes)
        self.assertIn("its guard let go before the agent asked it to", agent.log)
        agent.stop()

    def test_guard_of_filesystem(self) -> None:
        """A guard that SIGTERM made let go has not held, though it said so before the order."""
        disk = self.make_disk()

        def let_go(guard: int) -> None:
            os.kill(guard, signal.SIGTERM)
            wait_for(disk.begin_write())

        for _ in range(TRIES):
            self.assert_spoilt(Agent.for_test(self, LIMIT, filesystem(disk, "it")), let_go)

    def test_guard_of_session(self) -> None:
        """So it is with the guard of a session, whose client says what a thaw would say."""
        needs.program("flock")
        lock = Lock(Path(self.mktemp()).resolve())

        def let_go(guard: int) -> None:
            os.kill(guard, signal.SIGTERM)
            lock.assert_let_go()

        for _ in range(TRIES):
            self.assert_spoilt(Agent.for_test(self, LIMIT, lock.section()), let_go)

    def assert_spoilt_in_thaw(self, section: str, victim: Callable[[Agent], int]) -> None:
        """See that a window is not synced whose victim dies when another one is being thawed."""
        programs = Programs(Path(self.mktemp()).resolve())
        command = programs.command("first", thaw="stay thawing", order=20)
        agent = Agent.for_test(self, LIMIT, section + command)
        self.assertEqual(agent.get("/sync").status, 200)
        [guard] = guards(agent)
        with agent.connect() as connection:
            connection.start("GET", "/post-sync", agent.credentials)
            programs.wait_for("at thawing")
            os.kill(victim(agent), signal.SIGKILL)
            # The agent reaps the guard, and so has heard of it.
            assert_ended(guard)
            programs.let_on("thawing")
            self.assertEqual(connection.answer().status, 500, agent.log)
        agent.wait_for_outcomes("failed")
        agent.stop()

    def test_guard_of_filesystem_in_thaw(self) -> None:
        """A filesystem whose guard dies after the ``/post-sync`` and before its thaw spoils it."""
        section = filesystem(self.make_disk(), "it", "order = 10")
        self.assert_spoilt_in_thaw(section, lambda agent: guards(agent)[0])

    def test_client_in_thaw(self) -> None:
        """A session whose client dies then spoils it too, for nothing is left to prove it."""
        needs.program("flock")
        section = Lock(Path(self.mktemp()).resolve()).section("order = 10")
        self.assert_spoilt_in_thaw(section, lambda agent: children(guards(agent)[0])[0])

    def test_somebody_else(self) -> None:
        """A thaw and a freeze by somebody else are told by what was written in between."""
        for kind in ("ext4", "xfs"):
            disk = self.make_disk(kind)
            agent = Agent.for_test(self, LIMIT, filesystem(disk, "it"))
            self.assertEqual(agent.get("/sync").status, 200)
            disk.thaw()
            disk.freeze()
            self.assertEqual(agent.get("/post-sync").status, 500)
            self.assertIn("it was written to during the hold", agent.log)
            self.assert_let_go(disk)
            agent.stop()

    def test_write_counted_late(self) -> None:
        """A rise in the number of writes alone spoils nothing: the kernel may count one late."""
        disk = self.make_disk()
        device = disk.mount.stat().st_dev
        counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").resolve()
        counted = Path(self.mktemp()).resolve()
        fields = counters.read_text().split()
        counted.write_text(" ".join(fields))
        run("mount", "--bind", counted, counters)
        self.addCleanup(run, "umount", counters)
        agent = Agent.for_test(self, LIMIT, filesystem(disk, "it"))
        self.assertEqual(agent.get("/sync").status, 200)
        fields[4] = str(int(fields[4]) + 1)
        counted.write_text(" ".join(fields))
        self.assertEqual(agent.get("/post-sync").status, 200, agent.log)

    def test_flushed(self) -> None:
        """A program that has disks flushed during the hold spoils nothing: it writes nothing."""
        for kind in ("ext4", "xfs"):
            disk = self.make_disk(kind)
            (disk.mount / "file").write_text("synced before the freeze")
            agent = Agent.for_test(self, LIMIT, filesystem(disk, "it"))
            self.assertEqual(agent.get("/sync").status, 200)
            with (disk.mount / "file").open("rb") as file:
                os.fsync(file.fileno())
            run("sync", "--file-system", disk.mount)
            self.assertEqual(agent.get("/post-sync").status, 200, agent.log)
            self.assertEqual(agent.outcomes, ["synced"])
            self.assert_let_go(disk)
            agent.stop()

    def test_frozen_beforehand(self) -> None:
        """What is frozen already is told before anything waits for it, a session for instance."""
        disk = self.make_disk()
        lock = Lock(disk.mount / "lock")
        section = lock.section("freeze_timeout = 40s")
        section = section.replace("flock 9;", f"flock 9; touch '{disk.mount}/file';")
        agent = Agent.for_test(self, LIMIT, section + filesystem(disk, "data"))
        disk.freeze()
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(
            f"filesystem:data: {disk.mount}: somebody else has frozen it already",
            answer.body.decode(),
        )
        self.assertNotIn("session:lock", answer.body.decode())
