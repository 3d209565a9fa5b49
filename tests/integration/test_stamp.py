"""The stamp: a snapshot's own disk says which window it was taken in, and is acted on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.integration.agent import Agent, eventually
from tests.integration.disks import Disk, DiskTestCase, run
from tests.integration.holds import Lock, filesystem
from tests.integration.programs import Programs
from xohook.state.record import boot_id

ANOTHER_BOOT = "00000000-0000-4000-8000-000000000000"


class StampTestCase(DiskTestCase):
    """An agent with its state directory on a disk, and copies of that disk."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk = self.make_disk()
        self.programs = Programs(Path(self.mktemp()).resolve())
        self.lock = Lock(Path(self.mktemp()).resolve())

    def start(self, disk: Disk, sections: str) -> Agent:
        """Start an agent whose state directory is on a disk."""
        agent = Agent(Path(self.mktemp()).resolve())
        agent.state_directory = disk.mount / "state"
        agent.configure("hold_limit = 10m\n", sections)
        self.addCleanup(agent.stop)
        agent.start()
        return agent

    def restore(self, copy: Path) -> Disk:
        """Mount a copy of the disk elsewhere."""
        return self.mount(copy, Path(self.mktemp()).resolve())

    def copy(self) -> Path:
        """Copy the disk as it is now, without what is in memory alone."""
        copy = Path(self.mktemp()).resolve()
        run("cp", "--sparse=always", self.disk.image, copy)
        return copy


def stamp(disk: Disk) -> Path:
    """Name the stamp of an agent whose state directory is on a disk."""
    return disk.mount / "state" / "stamp.json"


def read(disk: Disk) -> dict[str, Any]:
    """Read it."""
    found: dict[str, Any] = json.loads(stamp(disk).read_text())
    return found


def at_rest(impression: dict[str, Any]) -> list[str]:
    """Name the participants that a stamp says were at rest."""
    return [entry["name"] for entry in impression["at_rest"]]


class PressTests(StampTestCase):
    """When the stamp is on the disk, and what it says."""

    def test_before_first(self) -> None:
        """It is on the disk, whatever becomes of the machine, before the first freeze begins."""
        copy = Path(self.mktemp()).resolve()
        command = self.programs.command("first", f"cp --sparse=always {self.disk.image} {copy}")
        agent = self.start(self.disk, command)
        self.assertEqual(agent.get("/sync").status, 200, agent.log)
        impression = read(self.restore(copy))
        self.assertIn(f"window {impression['window']}", agent.log)
        self.assertEqual(impression["boot"], boot_id())
        self.assertEqual(at_rest(impression), [])

    def test_in_snapshot(self) -> None:
        """The disk that is frozen says who was at rest."""
        sections = (
            self.programs.command("one")
            + self.programs.command("two", thaw=None)
            + self.lock.section()
            + filesystem(self.disk, "own")
        )
        agent = self.start(self.disk, sections)
        self.assertEqual(agent.get("/sync").status, 200, agent.log)
        self.assert_frozen(self.disk)
        restored = self.restore(self.copy())
        self.assertEqual(agent.get("/post-sync").status, 200)
        named = at_rest(read(restored))
        self.assertIn("command:one", named)
        self.assertIn("session:lock", named)
        self.assertNotIn("command:two", named)

    def test_removed(self) -> None:
        """It is off the disk for good by the time that the window's end is told."""
        agent = self.start(self.disk, self.programs.command("one"))
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200, agent.log)
        restored = self.restore(self.copy())
        self.assertFalse(stamp(restored).exists())
        self.assertTrue((restored.mount / "state").is_dir())

    def test_removed_after_failure(self) -> None:
        """A freeze that fails leaves none behind."""
        agent = self.start(self.disk, self.programs.command("one", "exit 1"))
        self.assertEqual(agent.get("/sync").status, 500)
        self.assertFalse(stamp(self.disk).exists())

    def test_removed_later(self) -> None:
        """Where it cannot be removed that is tried again, until it is gone."""
        agent = self.start(self.disk, self.programs.command("one"))
        self.assertEqual(agent.get("/sync").status, 200, agent.log)
        # Files can be made in it, and not be removed (chattr(1)).
        run("chattr", "+a", stamp(self.disk).parent)
        self.addCleanup(run, "chattr", "-a", stamp(self.disk).parent)
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_log(f"cannot remove the stamp {stamp(self.disk)}: Operation not permitted")
        run("chattr", "-a", stamp(self.disk).parent)
        eventually(lambda: not stamp(self.disk).exists(), "the stamp is removed")
        agent.wait_for_log(f"the stamp {stamp(self.disk)} is removed now")

    def test_cannot_be_written(self) -> None:
        """Where it cannot be written nothing is frozen, and the answer says why."""
        agent = self.start(self.disk, self.programs.command("one"))
        stamp(self.disk).mkdir()
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(f"cannot write the stamp {stamp(self.disk)}".encode(), answer.body)
        agent.wait_for_outcomes("failed")
        self.assertEqual(self.programs.journal, [])


class ReadTests(StampTestCase):
    """What a start does that finds one."""

    def take(self) -> dict[str, Any]:
        """Take a snapshot in a hold, and give it to ``self.restored``; what it says."""
        scripts = self.programs.directory / "scripts"
        scripts.mkdir()
        shutil.copy(
            self.programs.write("script", 'note script "$1" "$XOHOOK_OUTCOME"'), scripts / "script"
        )
        self.sections = (
            self.programs.command("one")
            + f"[scripts:some]\ndirectory = {scripts}\n"
            + self.lock.section()
            + filesystem(self.disk, "own")
        )
        agent = self.start(self.disk, self.sections)
        self.assertEqual(agent.get("/sync").status, 200, agent.log)
        copy = self.copy()
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.stop()
        self.programs.clear()
        self.restored = self.restore(copy)
        return read(self.restored)

    def test_another_boot(self) -> None:
        """A restored system says where it comes from and undoes what outlives a boot, once."""
        impression = self.take()
        stamp(self.restored).write_text(json.dumps({**impression, "boot": ANOTHER_BOOT}))
        agent = self.start(self.restored, "")
        eventually(lambda: agent.outcomes == ["recovered"], "the log says so")
        self.assertIn(f"this system comes back from window {impression['window']}", agent.log)
        self.assertRegex(agent.log, "frozen then: .*command:one.*session:lock")
        thaws = ["thaw one recovered", "script thaw recovered"]
        self.assertEqual(sorted(self.programs.journal), sorted(thaws))
        self.assertFalse(stamp(self.restored).exists())
        self.assertNotIn("NOT THAWED", agent.log)
        agent.restart()
        self.assertEqual(len(self.programs.journal), len(thaws))
        self.assertEqual(agent.outcomes, ["recovered"])

    def test_same_boot(self) -> None:
        """Under the same boot a stamp without a record is thawed by as well, and removed."""
        self.take()
        agent = self.start(self.restored, "")
        self.assertFalse(stamp(self.restored).exists())
        self.assertEqual(
            sorted(self.programs.journal), ["script thaw recovered", "thaw one recovered"]
        )
        self.assertEqual(agent.outcomes, ["recovered"])

    def test_not_understood(self) -> None:
        """One that is damaged stops the start, with what to do about it."""
        self.take()
        stamp(self.restored).write_text("{")
        error = self.assertRaises(AssertionError, self.start, self.restored, "")
        self.assertIn(f"cannot understand the stamp {stamp(self.restored)}", str(error))
        self.assertNotIn("Traceback", str(error))
