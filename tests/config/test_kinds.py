"""Tests for :mod:`xohook.config.kinds`: the options of sessions, filesystems and scripts."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import Any

from tests.config.loading_case import PROJECT, FilesTestCase
from xohook.config import identities
from xohook.config.kinds import KINDS
from xohook.config.settings import AppSettings, FilesystemSettings, ScriptsSettings, SessionSettings

SESSION = {
    "command": "client -q",
    "freeze_input": "lock\n select",
    "freeze_expect": "frozen",
    "thaw_input": "unlock",
    "thaw_expect": "thawed",
}


def lines(**options: str) -> str:
    """Write options."""
    return "".join(f"{name} = {value}\n" for name, value in options.items())


class KindTestCase(FilesTestCase):
    """Reads files of one participant."""

    def participant(self, text: str) -> Any:
        """Load a file of one participant."""
        (found,) = self.settings(text).participants
        return found


class SessionTests(KindTestCase):
    """The options of ``[session:NAME]``."""

    def test_defaults(self) -> None:
        """A session needs its client and what is said; the order is between programs and disks."""
        self.assertEqual(
            self.participant(f"[session:db]\n{lines(**SESSION)}"),
            SessionSettings(
                name="session:db",
                order=60,
                command=("client", "-q"),
                freeze_input="lock\nselect",
                freeze_expect="frozen",
                freeze_refuse=None,
                thaw_input="unlock",
                thaw_expect="thawed",
                account=None,
                directory=None,
                environment={},
                freeze_timeout=30.0,
                thaw_timeout=30.0,
                abort=True,
            ),
        )

    def test_all(self) -> None:
        """Every further option has its place in the settings."""
        more = lines(
            freeze_refuse="^ERROR",
            order="7",
            directory="/tmp",
            environment="A=1",
            freeze_timeout="1s",
            thaw_timeout="2s",
            on_failure="continue",
        )
        found = self.participant(f"[session:db]\n{lines(**SESSION)}{more}")
        self.assertEqual((found.freeze_refuse, found.order), ("^ERROR", 7))
        self.assertEqual((found.directory, found.environment), (Path("/tmp"), {"A": "1"}))
        self.assertEqual((found.freeze_timeout, found.thaw_timeout), (1.0, 2.0))
        self.assertFalse(found.abort)

    def test_incomplete(self) -> None:
        """What is lacking is told at the header, all of it at once."""
        some = {name: SESSION[name] for name in ("command", "freeze_expect", "thaw_input")}
        (found,) = self.mistakes(f"[session:db]\n{lines(**some)}")
        self.assertEqual(
            found,
            "x.ini:1 [session:db]: not given: freeze_input, thaw_expect (each is needed, or a "
            "recipe)",
        )

    def test_expected_lines(self) -> None:
        """What is expected is one line."""
        for option in ("freeze_expect", "thaw_expect"):
            text = lines(**SESSION | {option: "a\n b"})
            found = self.mistakes(f"[session:db]\n{text}")
            self.assertEqual(len(found), 1)
            self.assertIn(f"[session:db] {option}: it goes over several lines", found[0])

    def test_refusing_pattern(self) -> None:
        """What means no is a regular expression."""
        for pattern in ("(", "a{99999999999}", "*"):
            (found,) = self.mistakes(f"[session:db]\n{lines(**SESSION)}freeze_refuse = {pattern}")
            self.assertIn(f"freeze_refuse: {pattern!r} is not a regular expression: ", found)


class FilesystemTests(KindTestCase):
    """The options of ``[filesystem:NAME]``."""

    def test_mount(self) -> None:
        """A mount point is a path; ``auto`` is all of them. Filesystems are frozen last."""
        for value, mount in (("/srv", Path("/srv")), ("auto", None)):
            self.assertEqual(
                self.participant(f"[filesystem:x]\nmount = {value}"),
                FilesystemSettings(
                    name="filesystem:x",
                    order=90,
                    mount=mount,
                    freeze_timeout=30.0,
                    thaw_timeout=30.0,
                    abort=True,
                ),
            )

    def test_mount_refused(self) -> None:
        """A relative path and none at all are refused."""
        (found,) = self.mistakes("[filesystem:x]\nmount = srv")
        self.assertIn("mount: 'srv' is not absolute (a path that begins with /, or auto)", found)
        (found,) = self.mistakes("[filesystem:x]\norder = 3")
        self.assertIn("x.ini:1 [filesystem:x]: not given: mount", found)

    def test_same_mount(self) -> None:
        """Two sections with one mount are a mistake, told at the second; ``auto`` is one too."""
        for one, other in (("/srv", "/srv/"), ("auto", "auto")):
            (found,) = self.mistakes(
                f"[filesystem:a]\nmount={one}", b=f"[filesystem:b]\nmount={other}"
            )
            self.assertEqual(
                found,
                "x.ini.d/b.ini:2 [filesystem:b] mount: [filesystem:a] freezes it already (each "
                "filesystem once)",
            )

    def test_overridden_mount(self) -> None:
        """The same section's mount in a later file is no second one."""
        found = self.settings("[filesystem:a]\nmount=/a", b="[filesystem:a]\nmount=/a")
        self.assertEqual(len(found.participants), 1)


class ScriptsTests(KindTestCase):
    """The options of ``[scripts:NAME]``."""

    def test_directory(self) -> None:
        """Scripts need their directory."""
        self.assertEqual(
            self.participant("[scripts:x]\ndirectory = /etc/hooks\nenvironment = A=1"),
            ScriptsSettings(
                name="scripts:x",
                order=40,
                directory=Path("/etc/hooks"),
                account=None,
                environment={"A": "1"},
                freeze_timeout=30.0,
                thaw_timeout=30.0,
                abort=True,
            ),
        )
        (found,) = self.mistakes("[scripts:x]\n")
        self.assertIn("not given: directory", found)


class AppTests(KindTestCase):
    """The options of ``[app:NAME]``."""

    def app(self, text: str = "") -> AppSettings:
        """Load a file of one app."""
        (found,) = self.settings(f"[app:x]\n{text}").apps
        return found

    def test_defaults(self) -> None:
        """An empty section is one: the app has to be there, and its own wishes count."""
        self.assertEqual(
            self.app(),
            AppSettings(
                name="app:x",
                order=None,
                freeze_timeout=None,
                thaw_timeout=None,
                abort=None,
                required=True,
                account=None,
            ),
        )

    def test_all(self) -> None:
        """Every option has its place in the settings."""
        someone = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
        found = self.app(
            f"order = 0\nfreeze_timeout = 1.5s\nthaw_timeout = 10m\non_failure = continue\n"
            f"required = no\nuser = {someone.pw_name}"
        )
        self.assertEqual((found.order, found.freeze_timeout, found.thaw_timeout), (0, 1.5, 600.0))
        self.assertIs(found.abort, False)
        self.assertIs(found.required, False)
        assert found.account is not None
        self.assertEqual(found.account.uid, someone.pw_uid)

    def test_user_without_root(self) -> None:
        """Any user may have a name of its own, and the agent's own user is one of them."""
        one, other = pwd.getpwall()[:2]
        self.patch(os, "geteuid", lambda: one.pw_uid)
        for user in (one, other):
            found = self.app(f"user = {user.pw_name}").account
            assert found is not None
            self.assertEqual(found.uid, user.pw_uid)

    def test_apart(self) -> None:
        """What registers by itself is apart from what the agent makes, each in its order."""
        found = self.settings("[app:b]\n[command:x]\nfreeze = a\n[app:a]\n[command:w]\nthaw = a")
        self.assertEqual([each.name for each in found.participants], ["command:x", "command:w"])
        self.assertEqual([each.name for each in found.apps], ["app:b", "app:a"])

    def test_refused(self) -> None:
        """Mistaken values are told at their lines; a recipe is an option that it does not have."""
        for line, words in (
            ("required = maybe", "required: 'maybe' is not known (yes or no)"),
            ("user = no-such-user", "user: there is no user 'no-such-user' (a login name that"),
            ("order = 1000", "order: '1000' is not a whole number (from 0 to 999)"),
            ("recipe = docker", "recipe: unknown option (known are freeze_timeout, on_failure,"),
        ):
            (found,) = self.mistakes(f"[app:x]\n{line}")
            self.assertIn(f"x.ini:2 [app:x] {words}", found)


class RecipeOptionTests(KindTestCase):
    """The option ``recipe``."""

    def test_fills_in(self) -> None:
        """A recipe gives what its section leaves unset, and what is set wins."""
        found = self.participant(
            "[session:db]\nrecipe = mariadb\ncommand = mariadb -S x\nthaw_expect =\norder = 5"
        )
        self.assertEqual((found.command, found.order), (("mariadb", "-S", "x"), 5))
        self.assertEqual((found.freeze_expect, found.thaw_expect), ("frozen", "thawed"))

    def test_drop_in(self) -> None:
        """A later file's recipe fills in around what an earlier file sets, and none takes it."""
        found = self.settings(
            "[command:x]\norder = 3", a="[command:x]\nrecipe = docker"
        ).participants[0]
        self.assertEqual(found.order, 3)
        (mistake,) = self.mistakes("[command:x]\nrecipe = docker", a="[command:x]\nrecipe =")
        self.assertIn("neither freeze nor thaw", mistake)

    def test_unknown(self) -> None:
        """An unknown recipe is told with those that there are, and alone."""
        for name, guess in (("maria", "did you mean mariadb? "), ("../x", ""), ("zz", "")):
            (found,) = self.mistakes(f"[session:db]\nrecipe = {name}")
            self.assertIn(f"x.ini:2 [session:db] recipe: there is no recipe {name!r} (", found)
            self.assertIn(f"({guess}known are docker, mariadb, mongodb, mysql, postgresql,", found)

    def test_other_kind(self) -> None:
        """A recipe of another kind is told with the kind it is for."""
        for kind in ("session", "filesystem", "scripts"):
            (found,) = self.mistakes(f"[{kind}:db]\nrecipe = docker")
            self.assertIn(
                f"recipe: docker is not for the kind {kind} (a section [command:NAME])", found
            )

    def test_mistake_of_recipe(self) -> None:
        """What a recipe says and this machine does not allow is told where it is named."""

        def know_nobody(name: str) -> None:
            raise KeyError(name)

        self.patch(identities, "look_up", know_nobody)
        (found,) = self.mistakes("[command:db]\nrecipe = postgresql")
        self.assertIn(
            "x.ini:2 [command:db] user: the recipe's 'postgres': there is no user 'postgres'", found
        )


class ExampleTests(KindTestCase):
    """The examples that are commented out in the file that comes with the project."""

    def test_examples(self) -> None:
        """Each kind has an example, and each example can be used as it stands."""
        text = (PROJECT / "etc/xohook.ini").read_text("utf-8")
        examples = re.findall(r"(?m)^;\[((?:\w+):\w+)\]\n((?:;.*\n)+)", text)
        self.assertEqual({name.partition(":")[0] for name, _ in examples}, set(KINDS) - {"command"})
        for name, body in examples:
            options = re.sub(r"(?m)^;", "", body)
            found = self.settings(f"[{name}]\n{options}")
            self.assertEqual([each.name for each in (*found.participants, *found.apps)], [name])
