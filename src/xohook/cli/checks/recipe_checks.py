"""Whether a recipe's client is there and gets in, tried without freezing anything."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import attrs

from xohook.config import recipes
from xohook.config.recipes import Recipe
from xohook.config.settings import CommandSettings, ParticipantSettings, SessionSettings
from xohook.config.values import command_line
from xohook.durations import format_duration
from xohook.findings import Finding, error, ok
from xohook.participants import Operation
from xohook.participants.programs import Surroundings
from xohook.processes.process import GIVE_UP_AFTER
from xohook.text import printable

# Seconds that a login may take; a freeze that began so slowly would be of little use.
_PATIENCE = 10.0
# Seconds after SIGKILL until nobody waits any more, as for a participant's program.
_LAST_PATIENCE = GIVE_UP_AFTER


@attrs.frozen
class _Answer:
    """What a client made of it."""

    status: int | None
    lines: tuple[str, ...]

    def describe(self) -> str:
        how = f"exit status {self.status}"
        if self.status is None:
            how = f"no end within {format_duration(_PATIENCE)}"
        return f"{how}: {printable(self.lines[-1])}" if self.lines else how


def examine(participant: ParticipantSettings, name: str) -> Iterator[Finding]:
    """Try the recipe of a participant.

    :param participant: the participant.
    :param name: the recipe that its section names.
    :return: the one finding.
    """
    recipe = recipes.read(name)
    place = f"[{participant.name}] recipe = {name}"
    if isinstance(participant, SessionSettings):
        problem = _try_session(participant, recipe)
    elif isinstance(participant, CommandSettings) and _is_as_in(participant, recipe):
        problem = _try_command(participant, recipe)
    else:
        yield ok(f"{place}: not tried, because the section has a program of its own")
        return
    if problem:
        yield error(f"{place}: {problem}; {recipe.needs}")
    else:
        yield ok(f"{place}: its client gets in")


def _try_session(participant: SessionSettings, recipe: Recipe) -> str:
    answer = _run(participant, participant.command, recipe.check["input"])
    for line in answer.lines:
        if participant.freeze_refuse and re.search(participant.freeze_refuse, line):
            return f"{participant.command[0]} says {printable(line)}"
    if recipe.check["expect"] not in answer.lines:
        return f"{participant.command[0]} does not answer as it should ({answer.describe()})"
    return ""


def _is_as_in(participant: CommandSettings, recipe: Recipe) -> bool:
    [freeze] = (entry.value for entry in recipe.entries if entry.option == "freeze")
    return participant.freeze == command_line(freeze)


def _try_command(participant: CommandSettings, recipe: Recipe) -> str:
    answer = _run(participant, command_line(recipe.check["command"]), "")
    return "" if answer.status == 0 else answer.describe()


def _run(
    participant: CommandSettings | SessionSettings, words: tuple[str, ...], said: str
) -> _Answer:
    surroundings = Surroundings(participant.account, participant.directory, participant.environment)
    account = participant.account
    operation = Operation(window="check", timeout=_PATIENCE, outcome="", persist=lambda _: None)
    try:
        # The words are the participant's own, which the agent would run likewise.
        process = subprocess.Popen(  # noqa: S603
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=surroundings.directory,
            env=surroundings.environment("freeze", operation),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=account.groups if account else None,
            start_new_session=True,
        )
    except OSError as refused:
        return _Answer(127, (f"{words[0]}: {refused.strerror}",))
    try:
        output, _ = process.communicate(f"{said}\n".encode(), timeout=_PATIENCE)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        # It may have ended just now, or belong to another user (sudo).
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        output, status = _remains(process), None
    lines = (line.strip() for line in output.decode(errors="replace").splitlines())
    return _Answer(status, tuple(line for line in lines if line))


def _remains(process: subprocess.Popen[bytes]) -> bytes:
    """Give what a killed client has written; one that does not end even so is left to itself."""
    try:
        output, _ = process.communicate(timeout=_LAST_PATIENCE)
    except subprocess.TimeoutExpired as stuck:
        return stuck.output or b""
    return output
