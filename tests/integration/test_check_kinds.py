"""Tests for what ``xohook check`` says of sessions, filesystems, scripts and recipes."""

from __future__ import annotations

import os
import signal
import subprocess

from tests import needs
from tests.integration.command import CommandTestCase
from xohook.cli.checks import recipe_checks
from xohook.host import mounts


class CheckKindsTestCase(CommandTestCase):
    """Runs ``xohook check`` on sections."""

    def check(self, *lines: str, good: bool = True) -> str:
        """Run it on a configuration of these sections."""
        self.configure(sections="\n".join(lines))
        return self.run_command("check", good=good).output


class RecipeTests(CheckKindsTestCase):
    """A recipe's client is tried, without freezing anything."""

    def setUp(self) -> None:
        super().setUp()
        needs.program("sqlite3")
        self.database = self.keep("a.db", "")
        self.section = (
            "[session:db]",
            "recipe = sqlite",
            f"environment = DATABASE={self.database}",
        )

    def test_gets_in(self) -> None:
        """A client that gets in is told as such."""
        said = self.check(*self.section)
        self.assertIn("ok       [session:db] recipe = sqlite: its client gets in", said)

    def test_refused(self) -> None:
        """A client that is refused is an error, with its own words and what it needs."""
        self.database.unlink()
        said = self.check(*self.section, good=False)
        self.assertIn("error    [session:db] recipe = sqlite: sh says Error: ", said)
        self.assertIn("; DATABASE in environment names a database that exists, ", said)

    def test_silent(self) -> None:
        """A client that does not say what it should is an error."""
        said = self.check(*self.section, "command = true", good=False)
        self.assertIn("true does not answer as it should (exit status 0)", said)

    def test_command(self) -> None:
        """A command is tried by the recipe's own program."""
        lines = "[command:db]", "recipe = postgresql", f"user = {self.user()}"
        tools = self.directory / "tools"
        tools.mkdir()
        psql = tools / "psql"
        environment = f"environment = PATH={tools}:/usr/bin:/bin"
        for status, good in ((0, True), (1, False)):
            psql.write_text(f"#!/bin/sh\necho no entry\nexit {status}\n")
            psql.chmod(0o755)
            said = self.check(*lines, environment, good=good)
            expected = "its client gets in" if good else "exit status 1: no entry"
            self.assertIn(f"[command:db] recipe = postgresql: {expected}", said)

    def test_own_program(self) -> None:
        """A command whose program is the section's own is not tried by the recipe's."""
        said = self.check(
            "[command:db]", "recipe = postgresql", "freeze = true", f"user = {self.user()}"
        )
        self.assertIn("recipe = postgresql: not tried, because the section has a program", said)

    def test_not_found(self) -> None:
        """A client that is not there is told once."""
        said = self.check(*self.section, "command = no-such-client", good=False)
        self.assertIn("[session:db] command: no-such-client is not found", said)
        self.assertNotIn("recipe =", said)

    def user(self) -> str:
        """Give the name of the user that runs the test."""
        import getpass

        return getpass.getuser()


class ScriptsTests(CheckKindsTestCase):
    """The scripts of a directory are looked at."""

    def test_scripts(self) -> None:
        """What will be run is named, and an empty directory is a warning."""
        hooks = self.directory / "hooks"
        hooks.mkdir()
        section = "[scripts:x]", f"directory = {hooks}"
        self.assertIn("nothing executable is in it", self.check(*section))
        for name, mode in (("10-a", 0o755), ("20-b", 0o644)):
            (hooks / name).write_text("#!/bin/sh\n")
            (hooks / name).chmod(mode)
        said = self.check(*section)
        self.assertIn(f"ok       [scripts:x]: {hooks}/10-a", said)
        self.assertNotIn("20-b", said)

    def test_no_directory(self) -> None:
        """A directory that is not there is an error."""
        said = self.check("[scripts:x]", "directory = /no/such/place", good=False)
        self.assertIn("error    [scripts:x] directory = /no/such/place: the agent's user", said)


class FilesystemTests(CheckKindsTestCase):
    """Filesystems and what comes after them are looked at."""

    def test_not_freezable(self) -> None:
        """What cannot be frozen, or is not there, is an error."""
        said = self.check("[filesystem:x]", "mount = /proc", good=False)
        self.assertIn("error    [filesystem:x] mount = /proc: /proc is on proc, which", said)
        said = self.check("[filesystem:x]", "mount = /no/such", good=False)
        self.assertIn("mount = /no/such: /no/such is not there", said)

    def test_not_mounted(self) -> None:
        """A directory that is no mount point is an error."""
        said = self.check("[filesystem:x]", f"mount = {self.directory}", good=False)
        self.assertIn(f"mount = {self.directory}: nothing is mounted on {self.directory};", said)

    def test_twice(self) -> None:
        """One filesystem by two mount points is an error, though it is no mistake of the text."""
        needs.root()
        first = mounts.mount_of(self.directory, mounts.table())
        assert first is not None
        again = self.directory / "again"
        again.mkdir()
        subprocess.run([needs.program("mount"), "--bind", again, again], check=True)
        self.addCleanup(subprocess.check_call, [needs.program("umount"), again])
        both = "[filesystem:a]", f"mount = {first.point}", "[filesystem:b]", f"mount = {again}"
        self.assertRegex(
            self.check(*both, good=False),
            rf"\[filesystem:b\] mount = {again}: {again} is on (the filesystem that|\w+, which)",
        )

    def test_order(self) -> None:
        """Who is ordered after a filesystem is warned of."""
        said = self.check(
            *("[filesystem:x]", "mount = /proc"),
            *("[command:late]", "order = 95", "freeze = true"),
            good=False,
        )
        self.assertIn("warning  [command:late] order = 95: it is frozen after [filesystem:x]", said)

    def test_ordinary_user(self) -> None:
        """Only root may freeze."""
        self.patch(os, "geteuid", lambda: 12345)
        said = self.check("[filesystem:x]", "mount = /proc", good=False)
        self.assertIn("error    [filesystem:x]: only root may freeze a filesystem", said)


class BoundTests(CommandTestCase):
    """Nothing that ``check`` runs makes it wait without a limit."""

    def test_pipe_held_open(self) -> None:
        """A client that is killed and has left somebody with its pipe is not waited for."""
        self.patch(recipe_checks, "_PATIENCE", 0.2)
        self.configure(
            sections="\n".join(
                (
                    "[session:db]",
                    "recipe = sqlite",
                    "environment = DATABASE=/no/such/file",
                    "command = sh -c '",
                    f"  setsid sleep 600 & echo $! >{self.directory}/pid; sleep 600'",
                )
            )
        )
        said = self.run_command("check", good=False).output
        os.kill(int((self.directory / "pid").read_text()), signal.SIGKILL)
        self.assertIn("no end within 200ms", said)
