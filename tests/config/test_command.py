"""The options of the sections ``[command:NAME]``."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from tests import needs
from tests.config.loading_case import FilesTestCase
from xohook.config.settings import CommandSettings
from xohook.config.values import command_line


class CommandOptionTests(FilesTestCase):
    """The options of ``[command:NAME]``."""

    def test_all(self) -> None:
        """Every option has its place in the settings."""
        found = self.command(
            "order = 0\nfreeze = /bin/a 'b c' \"d;\" #e\nthaw = f\\ g\n h\n"
            "directory = /tmp\nenvironment = A=1 B='2 3'\n C==\n D=\n"
            "freeze_timeout = 1.5s\nthaw_timeout = 10m\non_failure = continue"
        )
        self.assertEqual(
            found,
            CommandSettings(
                name="command:x",
                order=0,
                freeze=("/bin/a", "b c", "d;", "#e"),
                thaw=("f g", "h"),
                account=None,
                directory=Path("/tmp"),
                environment={"A": "1", "B": "2 3", "C": "=", "D": ""},
                freeze_timeout=1.5,
                thaw_timeout=600.0,
                abort=False,
            ),
        )

    def test_joined_lines(self) -> None:
        """A backslash at a line's end joins lines where it does in a shell."""
        for text, words in (
            ("a \\\n b", ("a", "b")),
            ("a \\\n --b\\\n =c", ("a", "--b=c")),
            ('a "it\'s \\\n b"', ("a", "it's b")),
            ("a 'b\\\n c'", ("a", "b\\\nc")),
            ("a b\\\\\n c", ("a", "b\\", "c")),
        ):
            self.assertEqual(command_line(text.replace("\n ", "\n")), words)

    def test_no_program(self) -> None:
        """A command with neither program is told at its header, even where it has no option."""
        words = "[command:x]: neither freeze nor thaw is given (at least one of the two)"
        for options in ["", "order = 3", "freeze =\nthaw ="]:
            self.assertEqual(self.mistakes(f"[command:x]\n{options}"), [f"x.ini:1 {words}"])

    def test_mistaken_program(self) -> None:
        """A program that is given but mistaken is told alone."""
        self.assert_refused(
            "command:x",
            "freeze",
            {
                "sh -c 'sync": "a quote or a backslash is left open at the end",
                "'' sync": "the program's name is empty",
            },
        )

    def test_order(self) -> None:
        """An order is a whole number from 0 to 999."""
        self.assertEqual(self.command("freeze = a\norder = 999").order, 999)
        self.assert_refused(
            "command:x",
            "order",
            dict.fromkeys(
                ["-1", "1000", "4.5", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000],
                "is not a whole number (from 0 to 999)",
            ),
        )

    def test_timeouts(self) -> None:
        """A timeout may be longer than the budget, but has its own limits."""
        found = self.settings(
            "[xohook]\nfreeze_budget=1s\n[command:x]\nfreeze=a\nfreeze_timeout=2s"
        )
        self.assertEqual(found.participants[0].freeze_timeout, 2.0)
        for option in ("freeze_timeout", "thaw_timeout"):
            self.assert_refused("command:x", option, {"11m": "from 100ms to 10m"})

    def test_on_failure(self) -> None:
        """A failure aborts or lets continue."""
        self.assertTrue(self.command("freeze = a\non_failure = abort").abort)
        self.assert_refused("command:x", "on_failure", {"ignore": "(abort or continue)"})

    def test_directory(self) -> None:
        """The working directory is absolute."""
        self.assert_refused("command:x", "directory", {"tmp": "'tmp' is not absolute"})

    def test_environment_refused(self) -> None:
        """A word that is no variable, a doubled one and the agent's own are refused."""
        self.assert_refused(
            "command:x",
            "environment",
            {
                "A = 1": "'A' is not NAME=value (a value with blanks is quoted",
                "1A=1": "'1A=1' is not NAME=value",
                "A=1 A=2": "A: named more than once",
                "XOHOOK_X=1": "XOHOOK_X is not free",
                "A='": "left open",
            },
        )

    def test_unknown_user(self) -> None:
        """A user whom the system does not know is refused."""
        self.assert_refused(
            "command:x", "user", {"no-such-user": "there is no user 'no-such-user'"}
        )

    def test_user(self) -> None:
        """Root's agent runs programs as any user, with all of that user's groups."""
        needs.root()
        someone = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
        account = self.command(f"freeze = a\nuser = {someone.pw_name}").account
        assert account is not None
        self.assertEqual(account.name, someone.pw_name)
        self.assertEqual((account.uid, account.gid), (someone.pw_uid, someone.pw_gid))
        self.assertEqual(account.home, someone.pw_dir)
        self.assertEqual(account.groups, tuple(os.getgrouplist(someone.pw_name, someone.pw_gid)))

    def test_other_user_without_root(self) -> None:
        """An agent that is not root runs programs as its own user only."""
        someone = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
        self.patch(os, "geteuid", lambda: someone.pw_uid)
        self.assertIsNone(self.command(f"freeze = a\nuser = {someone.pw_name}").account)
        self.assert_refused("command:x", "user", {"root": "only root may run programs as 'root'"})
