"""Configuration files in a directory of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.config.loading import load
from xohook.config.settings import CommandSettings, Settings
from xohook.errors import ConfigurationError

PROJECT = Path(__file__).parents[2]

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
