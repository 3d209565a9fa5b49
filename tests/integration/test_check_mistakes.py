"""Tests for ``xohook check``: the mistakes that everybody makes once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.agent import COMMAND, eventually
from tests.integration.command import CommandTestCase
from tests.integration.disks import DiskTestCase
from xohook.host.freeze_probe import frozen_mounts


class MistakesTests(CommandTestCase):
    """``xohook check`` warns of what is allowed and hardly ever meant."""

    def warnings(self, section: str) -> list[str]:
        """Check a configuration with one section, which has no error."""
        self.configure(sections=section)
        lines = self.run_command("check").output.splitlines()
        # Another program on this machine may have frozen a filesystem of its own.
        return [line for line in lines if line.startswith("warning") and "frozen now" not in line]

    def test_one_shot_locks(self) -> None:
        """A lock in a client that ends is warned of, and the recipe to use instead is named."""
        for words, recipe in (
            ("echo 'flush tables  with read lock'", "recipe = mariadb or mysql"),
            ("sh -c 'echo \"LOCK INSTANCE FOR BACKUP\"'", "recipe = mysql"),
            ("echo BACKUP STAGE START", "recipe = mariadb"),
            ("echo SELECT 'pg_backup_start(1)'", "recipe = postgresql"),
            ("echo 'db.fsyncLock()'", "recipe = mongodb"),
        ):
            found = self.warnings(f"[command:db]\nfreeze = {words}")
            self.assertEqual(len(found), 1, (words, found))
            self.assertIn(f"{self.file}:6 [command:db] freeze: ", found[0])
            self.assertIn(recipe, found[0])

    def test_lock_in_a_session(self) -> None:
        """In a session the same lock is right."""
        section = (
            "[session:db]\ncommand = cat\nfreeze_input = FLUSH TABLES WITH READ LOCK;\n"
            "freeze_expect = a\nthaw_input = b\nthaw_expect = b"
        )
        self.assertEqual(self.warnings(section), [])

    def test_lock_in_a_script(self) -> None:
        """A script of a directory is looked into."""
        scripts = self.directory / "scripts"
        scripts.mkdir()
        self.keep("scripts/10-db", "#!/bin/sh\nmysql -e 'FLUSH TABLES WITH READ LOCK'\n", 0o755)
        [found] = self.warnings(f"[scripts:all]\ndirectory = {scripts}")
        self.assertIn(f"[scripts:all] {scripts}/10-db: FLUSH TABLES WITH READ LOCK", found)

    def test_shell_syntax(self) -> None:
        """What only a shell understands is warned of, outside of quotes."""
        for words, sign in (
            ("echo a | cat", "|"),
            ("echo a > b", ">"),
            ("cat <b", "<"),
            ("true && true", "&&"),
            ("sleep 1 &", "&"),
            ("echo a ; true", ";"),
            ("echo $(date)", "$("),
            ("true # flush", "#"),
        ):
            found = self.warnings(f"[command:it]\nfreeze = {words}")
            self.assertEqual(len(found), 1, (words, found))
            self.assertIn(f"[command:it] freeze: {sign!r} is an argument", found[0])

    def test_no_shell_syntax(self) -> None:
        """What is quoted is not, nor what means nothing to a shell either."""
        for words in (
            "sh -c 'echo a | cat > b; true && true # x'",
            'sh -c "echo $(date)"',
            r"find /tmp -exec true \;",
            "echo a#b --url=http://x/?a=1&b=2",
        ):
            self.assertEqual(self.warnings(f"[command:it]\nthaw = {words}"), [])

    def test_swallowed_option(self) -> None:
        """An option that is indented below another belongs to that one's value."""
        [found] = self.warnings("[command:it]\nfreeze = true\n  thaw = false")
        self.assertIn(f"{self.file}:6 [command:it] freeze: its indented line 'thaw = false'", found)

    def test_continued(self) -> None:
        """A value over several lines is no mistake."""
        section = "[command:it]\nfreeze = echo\n  a=b\n  c\nenvironment = A=1\n  user=x"
        self.assertEqual(self.warnings(section), [])


class FrozenTests(DiskTestCase):
    """A filesystem that is frozen now."""

    def test_frozen(self) -> None:
        """The one that is frozen is told, and no other; nothing is changed on either."""
        frozen, other = self.make_disk(), self.make_disk("xfs")
        points = [frozen.mount, other.mount]
        before = sorted(other.mount.iterdir())
        self.assertEqual(frozen_mounts(points), [])
        frozen.freeze()
        self.assertEqual(frozen_mounts(points), [frozen.mount])
        self.assert_frozen(frozen)
        frozen.thaw()
        self.assertEqual(frozen_mounts(points), [])
        self.assertEqual(sorted(other.mount.iterdir()), before)

    def test_check(self) -> None:
        """``check`` warns of it, ends at once, and what it leaves behind holds no file of it."""
        disk = self.make_disk()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        file = directory / "xohook.ini"
        file.write_text(
            f"[xohook]\nstate_directory = {directory}/state\n"
            "runtime_directory = /dev/shm/xohook-test-not-made\n"
            f"[filesystem:data]\nmount = {disk.mount}\n"
        )
        disk.freeze()
        # The end of its output is awaited too, which who is left behind must not hold open.
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "check", "-c", file],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            check=False,
            timeout=60,
        )
        self.assertIn(f"{disk.mount}: this filesystem is frozen now", done.stdout.decode())
        self.assert_frozen(disk)
        disk.thaw()
        eventually(lambda: not _stuck_children(file), "who was left behind has ended")


def _stuck_children(file: Path) -> list[Path]:
    """Find the processes that were made by a check of a file."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(file) in arguments.split(b"\0"):
            found.append(process)
    return found
