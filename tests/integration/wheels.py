"""The wheels of this project, built from its source tree, and environments to install them into."""

from __future__ import annotations

import atexit
import functools
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

#: The directory of each wheel's pyproject.toml.
SOURCES = {"xohook": PROJECT, "xohook-client": PROJECT / "packaging" / "client"}


def temporary_directory() -> Path:
    """Make a directory that is removed when the tests end.

    :return: its path.
    """
    directory = tempfile.TemporaryDirectory(prefix="xohook-wheels-")
    atexit.register(directory.cleanup)
    return Path(directory.name)


@functools.cache
def wheel(name: str) -> Path:
    """Build a wheel, once.

    :param name: the wheel's name, as pip takes it.
    :return: the wheel's file, which is removed when the tests end.
    """
    directory = temporary_directory()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=SOURCES[name],
        capture_output=True,
        check=True,
    )
    [file] = directory.iterdir()
    return file


def files(of: Path) -> set[str]:
    """Return the names of the files in a wheel.

    :param of: the wheel.
    :return: the names, without those of its metadata.
    """
    with zipfile.ZipFile(of) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


class Environment:
    """A virtual environment without a network, and without the packages of this one.

    :param directory: where it is made.
    """

    def __init__(self, directory: Path) -> None:
        self.python = directory / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)

    def pip(self, command: str, *arguments: str | Path) -> None:
        """Run pip.

        :param command: its command.
        :param arguments: the command's arguments.
        """
        subprocess.run(
            [self.python, "-m", "pip", "--quiet", command, *arguments],
            check=True,
            capture_output=True,
        )

    def install(self, *wheels: Path) -> None:
        """Install wheels without what they depend on.

        :param wheels: their files.
        """
        self.pip("install", "--no-index", "--no-deps", "--upgrade", *wheels)

    def run(self, code: str) -> str:
        """Run Python code.

        :param code: the code.
        :return: what it printed.
        """
        done = subprocess.run(
            [self.python, "-I", "-c", code], check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.strip()


@functools.cache
def environment() -> Environment:
    """Make an environment for all tests, once: that takes seconds. A test leaves it as it was.

    :return: the environment.
    """
    return Environment(temporary_directory())
