"""The configuration, from its files to settings or mistakes."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.config import load, locate_directories
from xohook.errors import ConfigurationError
from xohook.kinds import KINDS
from xohook.options import AGENT
from xohook.settings import CommandSettings, Settings
from xohook.values import command_line

PROJECT = Path(__file__).parent.parent
ENVIRON = {"STATE_DIRECTORY": "/state", "RUNTIME_DIRECTORY": "/runtime"}


class FilesTestCase(SynchronousTestCase):
    """Has a main file and its drop-ins in a directory of the test's own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "x.ini"
        self.drop_ins = self.directory / "x.ini.d"

    def write(self, text: str, **drop_ins: str) -> None:
        """Write the main file, and drop-ins by the names of theirs without the ending."""
        self.path.write_text(text, "utf-8")
        for name, content in drop_ins.items():
            self.drop_ins.mkdir(exist_ok=True)
            (self.drop_ins / f"{name}.ini").write_text(content, "utf-8")

    def settings(self, text: str, **drop_ins: str) -> Settings:
        """Load files without mistakes."""
        self.write(text, **drop_ins)
        return load(self.path, environ=ENVIRON)

    def agent(self, line: str) -> Settings:
        """Load a file of the agent's section alone."""
        return self.settings(f"[xohook]\n{line}\n")

    def command(self, lines: str) -> CommandSettings:
        """Load a file of one command."""
        (found,) = self.settings(f"[command:x]\n{lines}\n").participants
        assert isinstance(found, CommandSettings)
        return found

    def mistakes(self, text: str, **drop_ins: str) -> list[str]:
        """Load files with mistakes, and tell these without the directory."""
        self.write(text, **drop_ins)
        return self.load_mistakes()

    def load_mistakes(self) -> list[str]:
        """Load the files that are there, and tell their mistakes without the directory."""
        with self.assertRaises(ConfigurationError) as caught:
            load(self.path, environ=ENVIRON)
        self.assertEqual(
            str(caught.exception), "\n".join(str(mistake) for mistake in caught.exception.mistakes)
        )
        return str(caught.exception).replace(f"{self.directory}/", "").split("\n")

    def assert_refused(self, section: str, option: str, values: Mapping[str, str]) -> None:
        """See each value refused with its place and the words that are given for it."""
        needed = "freeze = true\n" if section != "xohook" and option != "freeze" else ""
        for value, words in values.items():
            found = self.mistakes(f"[{section}]\n{option} = {value}\n{needed}")
            self.assertEqual(len(found), 1, found)
            self.assertTrue(found[0].startswith(f"x.ini:2 [{section}] {option}: "), found)
            self.assertIn(words, found[0])


class DefaultsTests(FilesTestCase):
    """What holds where the files say nothing."""

    def test_agent(self) -> None:
        """An empty file is a configuration: every option has its default."""
        self.assertEqual(
            self.settings(""),
            Settings(
                path=self.path,
                listen=("1727",),
                certificate=None,
                private_key=None,
                secret_file=None,
                token_file=None,
                authenticate=frozenset({"bearer", "token"}),
                allow_from=(),
                vm=None,
                freeze_budget=50.0,
                hold_limit=120.0,
                state_directory=Path("/state"),
                runtime_directory=Path("/runtime"),
                control=Path("/runtime/control.sock"),
                control_group=None,
                participants=(),
                apps=(),
            ),
        )

    def test_command(self) -> None:
        """A command needs one program only."""
        self.assertEqual(
            self.command("freeze = sync"),
            CommandSettings(
                name="command:x",
                order=40,
                freeze=("sync",),
                thaw=None,
                account=None,
                directory=None,
                environment={},
                freeze_timeout=30.0,
                thaw_timeout=30.0,
                abort=True,
            ),
        )

    def test_empty_values(self) -> None:
        """An empty value is as good as none, for every option."""
        agent = "".join(f"{option} =\n" for option in AGENT.options)
        command = "".join(f"{option} =\n" for option in KINDS["command"].schema.options)
        filled = self.settings(f"[xohook]\n{agent}[command:x]\n{command}", y="[command:x]\nthaw=y")
        self.assertEqual(filled, self.settings("[command:x]\nthaw = y"))

    def test_relative_main_file(self) -> None:
        """The main file's path is made absolute."""
        self.write("[xohook]\nsecret_file = secret")
        settings = load(Path(os.path.relpath(self.path)), environ=ENVIRON)
        self.assertTrue(settings.path.is_absolute())
        self.assertTrue(settings.path.samefile(self.path))


class AgentOptionTests(FilesTestCase):
    """The options of ``[xohook]``."""

    def test_listen(self) -> None:
        """Ports and endpoints stand one a line."""
        found = self.agent("listen = 0\n 1727\n tcp:80:interface=::1\n systemd:domain=INET:index=0")
        self.assertEqual(
            found.listen, ("0", "1727", "tcp:80:interface=::1", "systemd:domain=INET:index=0")
        )

    def test_listen_refused(self) -> None:
        """What is neither a port nor an endpoint, or stands twice, is refused."""
        self.assert_refused(
            "xohook",
            "listen",
            {
                "65536": "65536 is not a port (a port from 0 to 65535",
                "9" * 5000: "is not a port",
                "-1": "'-1' is neither",
                "1727, 1728": "'1727, 1728' is neither",
                "192.0.2.1:1727": "'192.0.2.1:1727' is neither a port nor an endpoint",
                "2001:db8::1": "neither a port nor an endpoint",
                "tcp:": "'tcp:' is neither",
                "80\n 080": "80: named more than once",
                "tcp:99999": "'tcp:99999' names no port (a port from 0 to 65535",
                "tcp6:interface=::1:port=65536": "names no port",
                f"tcp:{'9' * 5000}": "names no port",
            },
        )

    def test_files(self) -> None:
        """Relative names of files are taken from the main file's directory."""
        found = self.agent("certificate = tls/a\nprivate_key = /b\nsecret_file = c\ntoken_file = d")
        self.assertEqual(found.certificate, self.directory / "tls/a")
        self.assertEqual(found.private_key, Path("/b"))
        self.assertEqual(found.secret_file, self.directory / "c")
        self.assertEqual(found.token_file, self.directory / "d")

    def test_files_of_drop_ins(self) -> None:
        """A drop-in's relative names too are taken from the main file's directory."""
        found = self.settings("", a="[xohook]\nsecret_file = c")
        self.assertEqual(found.secret_file, self.directory / "c")

    def test_certificate_without_key(self) -> None:
        """A certificate and its key are given together, or neither is."""
        self.assertEqual(
            self.mistakes("[xohook]\ncertificate = a"),
            ["x.ini:2 [xohook] certificate: given without private_key (both, or neither)"],
        )
        self.assertEqual(
            self.mistakes("[xohook]\ncertificate =\nprivate_key = a"),
            ["x.ini:3 [xohook] private_key: given without certificate (both, or neither)"],
        )

    def test_authenticate(self) -> None:
        """What suffices is separated by commas or blanks."""
        self.assertEqual(self.agent("authenticate = bearer").authenticate, {"bearer"})
        self.assertEqual(
            self.agent("authenticate = token,peer\n bearer\nallow_from = ::1").authenticate,
            {"bearer", "token", "peer"},
        )

    def test_authenticate_refused(self) -> None:
        """What is unknown or doubled is refused, and so is a list of nothing."""
        self.assert_refused(
            "xohook",
            "authenticate",
            {
                "barer": "'barer' is not known (did you mean bearer? of bearer, token, peer",
                ",": "names nothing that suffices",
                "token token": "token: named more than once",
            },
        )

    def test_peer_alone(self) -> None:
        """``peer`` without ``allow_from`` would let everybody in."""
        self.assert_refused("xohook", "authenticate", {"token, peer": "peer would let everybody"})

    def test_peer_with_mistaken_sources(self) -> None:
        """Sources that are given but mistaken are told alone."""
        found = self.mistakes("[xohook]\nauthenticate = peer\nallow_from = here")
        self.assertEqual(len(found), 1)
        self.assertIn("x.ini:3 [xohook] allow_from: 'here' is neither", found[0])

    def test_bearer_without_secret(self) -> None:
        """With a file of tokens no secret is made, so that ``bearer`` alone lets nobody in."""
        files = "token_file = t"
        found = self.mistakes(f"[xohook]\n{files}\nauthenticate = bearer")
        self.assertEqual(len(found), 1)
        self.assertIn("x.ini:3 [xohook] authenticate: nobody could get in", found[0])
        for line in ["authenticate = bearer, token", "authenticate = bearer\nsecret_file = s", ""]:
            self.assertIn("bearer", self.agent(f"{files}\n{line}").authenticate)

    def test_allow_from(self) -> None:
        """Addresses and networks are separated by commas or blanks; mapped ones become IPv4."""
        found = self.agent(
            "allow_from = 192.0.2.1, 2001:db8::/64\n 192.0.2.128/255.255.255.128\n"
            " ::ffff:198.51.100.7 ::ffff:203.0.113.0/120"
        )
        self.assertEqual(
            found.allow_from,
            tuple(
                ip_network(text)
                for text in [
                    "192.0.2.1/32",
                    "2001:db8::/64",
                    "192.0.2.128/25",
                    "198.51.100.7/32",
                    "203.0.113.0/24",
                ]
            ),
        )

    def test_allow_from_refused(self) -> None:
        """Names, zones, bits outside the mask and a list of nothing are refused."""
        self.assert_refused(
            "xohook",
            "allow_from",
            {
                "192.0.2.10/24": "has bits set outside its mask "
                "(192.0.2.0/24 for the network, 192.0.2.10 for the address alone)",
                "2001:db8::1/64": "2001:db8::/64 for the network, 2001:db8::1 for the address",
                "xo.example": "'xo.example' is neither an address nor a network",
                "192.0.2.0/33": "neither an address nor a network",
                "fe80::1%eth0": "has a zone (without it: fe80::1)",
                ",": "names no address",
            },
        )

    def test_vm(self) -> None:
        """A VM's name is printable, without blanks, and not longer than 255 characters."""
        self.assertEqual(self.agent("vm = wéb-01").vm, "wéb-01")
        self.assertEqual(self.agent(f"vm = {'x' * 255}").vm, "x" * 255)
        self.assert_refused(
            "xohook",
            "vm",
            {
                "web 01": "'web 01' cannot be a VM's name",
                "web\n 01": "at most 255 printable characters, no blanks",
                "web\u00a001": "cannot be",
                "x" * 256: "cannot be",
            },
        )

    def test_durations(self) -> None:
        """Durations are read to seconds, from 100ms to the option's own limit."""
        found = self.agent("freeze_budget = 100ms\nhold_limit = 60m")
        self.assertEqual((found.freeze_budget, found.hold_limit), (0.1, 3600.0))
        self.assertEqual(self.agent("freeze_budget = 10m").freeze_budget, 600.0)
        self.assert_refused(
            "xohook",
            "freeze_budget",
            {
                "50": "'50' is not a duration (from 100ms to 10m: a number and its unit",
                "-5s": "'-5s' is not a duration",
                "0s": "0s is out of range (from 100ms to 10m",
                "99ms": "99ms is out of range",
                "10.1m": "10.1m is out of range",
                "9" * 400 + "s": "is out of range",
            },
        )
        self.assert_refused("xohook", "hold_limit", {"61m": "from 100ms to 60m"})

    def test_directories(self) -> None:
        """The agent's directories are absolute, and win over the environment's."""
        found = self.agent("state_directory = /a\nruntime_directory = /b")
        self.assertEqual((found.state_directory, found.runtime_directory), (Path("/a"), Path("/b")))
        for option in ("state_directory", "runtime_directory"):
            self.assert_refused("xohook", option, {"a": "'a' is not absolute"})


class ControlOptionTests(FilesTestCase):
    """The options ``control`` and ``control_group`` of ``[xohook]``."""

    def test_control(self) -> None:
        """The socket is in the runtime directory, at a path, or nowhere."""
        for value, expected in (
            ("yes", Path("/runtime/control.sock")),
            ("/a/b", Path("/a/b")),
            ("no", None),
        ):
            self.assertEqual(self.agent(f"control = {value}").control, expected)
        found = self.agent("control = yes\nruntime_directory = /b").control
        self.assertEqual(found, Path("/b/control.sock"))

    def test_control_refused(self) -> None:
        """What is neither a decision nor an absolute path is refused."""
        allowed = "is not known (yes, no, or a path that begins with /)"
        self.assert_refused(
            "xohook", "control", {"maybe": f"'maybe' {allowed}", "a/b": f"'a/b' {allowed}"}
        )

    def test_longest_path(self) -> None:
        """A socket's path has at most 107 bytes, whatever characters they are."""
        for path in (f"/{'x' * 106}", f"/{'é' * 53}"):
            self.assertEqual(self.agent(f"control = {path}").control, Path(path))
            self.assert_refused(
                "xohook", "control", {f"{path}x": f"{path}x has 108 bytes, too many for a socket"}
            )

    def test_long_runtime_directory(self) -> None:
        """A socket that is too deep in the runtime directory is told at the nearest line."""
        deep = f"/{'x' * 94}"
        problem = f"{deep}/control.sock has 108 bytes, too many for a socket"
        expected = f"{problem} (at most 107: name a shorter path here)"
        for text, line in (
            (f"[xohook]\nruntime_directory = {deep}\ncontrol = yes", 3),
            (f"[command:x]\nfreeze = a\n[xohook]\nruntime_directory = {deep}", 3),
        ):
            self.assertEqual(self.mistakes(text), [f"x.ini:{line} [xohook] control: {expected}"])
        self.write("")
        with self.assertRaises(ConfigurationError) as caught:
            load(self.path, environ={**ENVIRON, "RUNTIME_DIRECTORY": deep})
        self.assertEqual(str(caught.exception), f"{self.path}:1 [xohook] control: {expected}")

    def test_long_runtime_directory_without_control(self) -> None:
        """A deep runtime directory is right where the socket is not in it."""
        deep = Path(f"/{'x' * 94}")
        for control in ("no", "/a"):
            found = self.agent(f"runtime_directory = {deep}\ncontrol = {control}")
            self.assertEqual(found.runtime_directory, deep)

    def test_group(self) -> None:
        """A group is looked up when the configuration is read."""
        group = next(entry for entry in grp.getgrall() if entry.gr_gid != 0)
        found = self.agent(f"control_group = {group.gr_name}").control_group
        self.assertEqual(found, group.gr_gid)

    def test_group_refused(self) -> None:
        """A group that is not there is refused by its name."""
        self.assert_refused(
            "xohook",
            "control_group",
            {
                "no-such-group": "there is no group 'no-such-group' (a name that 'getent group'",
                "0": "there is no group '0'",
            },
        )

    def test_group_unwritable(self) -> None:
        """A group that the system's encoding cannot write is not there either."""

        def write(name: str) -> None:
            name.encode("ascii")

        self.patch(grp, "getgrnam", write)
        self.assert_refused("xohook", "control_group", {"ü": "there is no group 'ü'"})

    def test_group_of_nothing(self) -> None:
        """A group is contradictory where there is no socket that it could connect to."""
        group = grp.getgrgid(0).gr_name
        (found,) = self.mistakes(f"[xohook]\ncontrol = no\ncontrol_group = {group}")
        self.assertEqual(
            found,
            "x.ini:3 [xohook] control_group: given with control = no (with control = yes or a "
            "path, or without)",
        )


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


class SectionTests(FilesTestCase):
    """Which sections and options there are."""

    def test_names(self) -> None:
        """A participant's name is the whole of its section's, in the order of the files."""
        found = self.settings("[command:b]\nfreeze=1\n[xohook]\n[command:A._-9]\nfreeze=1")
        self.assertEqual([it.name for it in found.participants], ["command:b", "command:A._-9"])

    def test_unknown_section(self) -> None:
        """An unknown section is told with those that there are, its options are not looked at."""
        for name, guess in [
            ("xohok", "did you mean xohook? "),
            ("Command:x", "did you mean command? "),
            ("zz", ""),
        ]:
            (found,) = self.mistakes(f"[{name}]\nwhat = ever")
            self.assertEqual(
                found,
                f"x.ini:1 [{name}]: unknown section ({guess}known are [xohook], [command:NAME], "
                "[session:NAME], [filesystem:NAME], [scripts:NAME], [app:NAME])",
            )

    def test_mistaken_names(self) -> None:
        """A participant without a name, or with one outside the allowed characters, is told."""
        self.assertIn("has no name ([command:NAME])", self.mistakes("[command]\nfreeze = a")[0])
        for name in ["", "a b", "ü", "x" * 65, "a/b"]:
            (found,) = self.mistakes(f"[command:{name}]\nfreeze = a")
            self.assertIn("cannot be a participant's name (1 to 64 of", found)

    def test_later_options(self) -> None:
        """The options of later releases are told as such."""
        (found,) = self.mistakes("[xohook]\nmetrics = b\n")
        self.assertEqual(
            found,
            "x.ini:2 [xohook] metrics: not known yet (leave it out; a later release brings it)",
        )

    def test_unknown_option(self) -> None:
        """An unknown option is told with those that there are, and with the nearest."""
        (found,) = self.mistakes("[command:x]\nfreeze = a\nfreeze_timout = 5s")
        self.assertIn("x.ini:3 [command:x] freeze_timout: unknown option", found)
        self.assertIn("did you mean freeze_timeout? known are directory, environment,", found)
        (found,) = self.mistakes("[xohook]\nzzz = a")
        self.assertIn("unknown option (known are allow_from, authenticate,", found)


class DropInTests(FilesTestCase):
    """Several files as one configuration."""

    def test_override(self) -> None:
        """A later file overrides an earlier one option by option; an empty value takes back."""
        found = self.settings(
            "[xohook]\nvm = a\nhold_limit = 1s\nallow_from = ::1\n[command:x]\nfreeze=f\nthaw=t",
            b="[xohook]\nvm = b\n[command:x]\nthaw = b\n",
            a="[xohook]\nvm = c\nallow_from =\n[command:y]\nfreeze = a\n",
        )
        self.assertEqual((found.vm, found.hold_limit, found.allow_from), ("b", 1.0, ()))
        self.assertEqual(
            [
                (it.name, it.freeze, it.thaw)
                for it in found.participants
                if isinstance(it, CommandSettings)
            ],
            [("command:x", ("f",), ("b",)), ("command:y", ("a",), None)],
        )

    def test_overridden_value(self) -> None:
        """A value that a later file overrides is not looked at."""
        self.assertEqual(self.settings("[xohook]\nvm = a b", a="[xohook]\nvm = c").vm, "c")

    def test_other_files(self) -> None:
        """Hidden files and files of another ending are no part of the configuration."""
        self.write("", a="[xohook]\nvm = a")
        for name in ["b.ini~", "b.ini.dpkg-old", ".b.ini", ".#a.ini"]:
            (self.drop_ins / name).write_text("mistake", "utf-8")
        self.assertEqual(load(self.path, environ=ENVIRON).vm, "a")

    def test_all_mistakes(self) -> None:
        """The mistakes of all files are told at once, in the order of files and lines."""
        found = self.mistakes(
            "[command:x]\n[xohook]\nvm = a b\nzzz = 1\nno delimiter\ncertificate = c\n",
            b="[xohook]\nzzz = 2\n",
            a="[nothing]\n",
        )
        self.assertEqual(
            [mistake.partition(": ")[0] for mistake in found],
            [
                "x.ini:1 [command:x]",
                "x.ini:3 [xohook] vm",
                "x.ini:4 [xohook] zzz",
                "x.ini:5 [xohook]",
                "x.ini:6 [xohook] certificate",
                "x.ini.d/a.ini:1 [nothing]",
                "x.ini.d/b.ini:2 [xohook] zzz",
            ],
        )

    def test_contradiction_over_files(self) -> None:
        """A contradiction is told at the file and line that the option stands in."""
        (found,) = self.mistakes("[xohook]\n", a="\n[xohook]\nauthenticate = peer")
        self.assertTrue(found.startswith("x.ini.d/a.ini:3 [xohook] authenticate: "), found)

    def test_no_main_file(self) -> None:
        """Without the main file there is no configuration, and the mistake says what to do."""
        (found,) = self.load_mistakes()
        self.assertIn("x.ini: cannot be read: No such file or directory", found)
        self.assertIn("name another with -c FILE", found)

    def test_unreadable_drop_ins(self) -> None:
        """Drop-ins that cannot be read are told beside all other mistakes."""
        self.write("mistake")
        self.drop_ins.mkdir()
        (self.drop_ins / "a.ini").symlink_to("gone")
        (self.drop_ins / "b.ini").mkdir()
        found = self.load_mistakes()
        self.assertEqual(len(found), 3)
        self.assertIn("x.ini.d/a.ini: cannot be read: No such file", found[1])
        self.assertIn("x.ini.d/b.ini: cannot be read: Is a directory", found[2])

    def test_unreadable_directory(self) -> None:
        """Something else in the place of the drop-ins' directory is told."""
        self.write("")
        self.drop_ins.touch()
        (found,) = self.load_mistakes()
        self.assertIn("x.ini.d: cannot be read: Not a directory", found)


class LocateDirectoriesTests(FilesTestCase):
    """Finding the state and the runtime directory whatever the files say."""

    def located(self, text: str, **drop_ins: str) -> str:
        """Locate it by files."""
        self.write(text, **drop_ins)
        return str(locate_directories(self.path, environ=ENVIRON)[1])

    def test_without_mistakes(self) -> None:
        """It is the one that loading tells."""
        self.assertEqual(self.located(""), "/runtime")
        self.assertEqual(self.located("[xohook]\nruntime_directory = /a"), "/a")
        self.assertEqual(
            self.located("[xohook]\nruntime_directory = /a", a="[xohook]\nruntime_directory = /b"),
            "/b",
        )

    def test_state_directory(self) -> None:
        """The state directory is found likewise."""
        self.write("[what]\n[xohook]\nstate_directory = /a")
        found = locate_directories(self.path, environ=ENVIRON)
        self.assertEqual(found, (Path("/a"), Path("/runtime")))

    def test_with_mistakes(self) -> None:
        """Mistakes anywhere else do not hide it."""
        own = "runtime_directory = /a\nruntime_directory = /b\nvm = a b\nauthenticate = peer"
        for before in ["[xohook", "junk\n[what]\n[command:x]\n[xohook]\nzz = 1"]:
            self.assertEqual(self.located(f"{before}\n{own}"), "/a")

    def test_mistaken_itself(self) -> None:
        """Where it is itself mistaken the default stands."""
        self.assertEqual(self.located("[xohook]\nruntime_directory = a"), "/runtime")

    def test_no_group(self) -> None:
        """No group is looked up: what looks for it may wait for a disk that is still frozen."""
        self.patch(grp, "getgrnam", self.fail)
        own = "runtime_directory = /a\ncontrol_group = root\ncontrol = no"
        self.assertEqual(self.located(f"[xohook]\n{own}"), "/a")

    def test_no_files(self) -> None:
        """Where nothing can be read the default stands."""
        found = locate_directories(self.path, environ=ENVIRON)
        self.assertEqual(found, (Path("/state"), Path("/runtime")))


class ShippedTests(FilesTestCase):
    """The example and the reference that come with the project."""

    def test_example(self) -> None:
        """The example is a configuration whose one participant flushes the disks' caches."""
        (found,) = load(PROJECT / "etc/xohook.ini", environ=ENVIRON).participants
        assert isinstance(found, CommandSettings)
        self.assertEqual((found.name, found.freeze), ("command:sync", ("sync",)))

    def test_example_defaults(self) -> None:
        """What the example has commented out are all the agent's options with their defaults."""
        text = (PROJECT / "etc/xohook.ini").read_text("utf-8")
        text = text.partition("; Other kinds of participants")[0]
        opened = re.sub(r"(?m)^;(\w+ =)", r"\1", text)
        named = re.findall(r"(?m)^(\w+) =", opened.partition("[command:sync]")[0])
        self.assertEqual(sorted(named), sorted(AGENT.options))
        self.assertEqual(
            self.settings(opened), self.settings(opened[opened.index("[command:sync]") :])
        )

    def test_reference(self) -> None:
        """The reference describes every option that there is, and no other."""
        text = (PROJECT / "docs/configuration.rst").read_text("utf-8")
        described = re.findall(r"(?m)^``(\w+)``$", text)
        kinds = {option for kind in KINDS.values() for option in kind.schema.options}
        self.assertEqual(set(described), {*AGENT.options, *kinds})
