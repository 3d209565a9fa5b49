"""The configuration, from its files to settings or mistakes."""

from __future__ import annotations

import grp
import os
import re
from pathlib import Path

from tests.config.loading_case import ENVIRON, PROJECT, FilesTestCase
from xohook.config.kinds import KINDS
from xohook.config.loading import load, locate_directories
from xohook.config.options import AGENT
from xohook.config.settings import CommandSettings, Settings


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
