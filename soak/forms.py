"""The clients of the soak, one process each, in every form that a client can have."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import attrs

from bench.program import Program
from soak.clients import FORMS
from tests.integration.agent import COMMAND

#: Names that each process of a form registers.
SEVERAL = 5

#: Processes of ``xohook register``, a name each.
COMMANDS = 2

_NOTE = 'echo "$XOHOOK_WINDOW ${XOHOOK_OUTCOME:-}" >>"$0"'


@attrs.frozen
class Asked:
    """What one name was asked for.

    :param freezes: how often it was to freeze.
    :param thaws: how often it was to thaw, by the outcome.
    """

    freezes: int
    thaws: Mapping[str, int]

    @property
    def is_frozen(self) -> bool:
        """Whether a thaw is missing, or there was one too many."""
        return self.freezes != sum(self.thaws.values())


@attrs.frozen
class Told:
    """How it stands with a client.

    :param apps: what each of its names was asked for.
    :param tasks: how many tasks it has.
    """

    apps: Mapping[str, Asked]
    tasks: int


class Client(Protocol):
    """One process that has registered names.

    :param names: the names.
    """

    names: tuple[str, ...]

    @property
    def pid(self) -> int:
        """The number of its process."""

    def ask(self) -> Told:
        """Ask how it stands."""


class Library:
    """A client that uses one of the libraries.

    :param form: which, of :data:`soak.clients.FORMS`.
    :param control: the agent's socket.
    :param stack: ends it.
    """

    def __init__(self, form: str, control: Path, stack: ExitStack) -> None:
        self.names = tuple(f"{form}-{number}" for number in range(SEVERAL))
        self._program = stack.enter_context(Program("soak.clients", form, control, *self.names))

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._program.pid

    def ask(self) -> Told:
        """Ask how it stands.

        :return: its answer.
        """
        self._program.say("tell")
        told = json.loads(self._program.hear())
        apps = {name: Asked(*asked) for name, asked in told["apps"].items()}
        return Told(apps, told["tasks"])


class Command:
    """A client that is ``xohook register``.

    :param name: the name that it registers.
    :param control: the agent's socket.
    :param directory: where its programs note what they were asked for.
    :param stack: ends it.
    """

    def __init__(self, name: str, control: Path, directory: Path, stack: ExitStack) -> None:
        self.names: tuple[str, ...] = (name,)
        self._noted = directory / name
        self._noted.touch()
        note = shlex.join(["sh", "-c", _NOTE, str(self._noted)])
        words = ["--name", name, "--freeze", note, "--thaw", note]
        self._process = subprocess.Popen(  # noqa: S603 - the words are made here.
            [sys.executable, "-c", COMMAND, "register", *words],
            env={**os.environ, "XOHOOK_CONTROL": str(control)},
            stderr=subprocess.DEVNULL,
        )
        stack.callback(self._end)

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def ask(self) -> Told:
        """See what its programs have noted.

        :return: how it stands; its tasks are not told.
        """
        notes = [line.split() for line in self._noted.read_text().splitlines()]
        # By its windows, for a program that freezes may be ended before it has noted anything.
        windows = {window for window, *_ in notes}
        thaws = Counter(outcome for _, *outcomes in notes for outcome in outcomes)
        return Told({self.names[0]: Asked(len(windows), thaws)}, 0)

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


def every_form(control: Path, directory: Path, stack: ExitStack) -> Iterator[Client]:
    """Start clients of every form.

    :param control: the agent's socket.
    :param directory: a directory for them.
    :param stack: ends them.
    :return: the clients.
    """
    for form in FORMS:
        yield Library(form, control, stack)
    for number in range(COMMANDS):
        yield Command(f"command-{number}", control, directory, stack)
