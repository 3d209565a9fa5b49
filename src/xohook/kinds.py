"""The kinds of participants as a table: a further kind is a further entry of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from xohook.options import MINUTE, SHORTEST, Contradiction, Given, Option, Schema
from xohook.settings import (
    CommandSettings,
    FilesystemSettings,
    ParticipantSettings,
    ScriptsSettings,
    SessionSettings,
)
from xohook.values import (
    aborts,
    absolute_path,
    account,
    command_line,
    duration,
    environment,
    mount_point,
    pattern,
    whole_line,
    whole_number,
)


@attrs.frozen
class Kind:
    """A kind of participant, with sections ``[KIND:NAME]``.

    :param schema: what may stand in its section.
    :param build: from the participant's whole name and its section's values to its settings.
    """

    schema: Schema
    build: Callable[[str, Mapping[str, Any]], ParticipantSettings]


def _command_contradictions(given: Given) -> Iterator[Contradiction]:
    if given.named.isdisjoint({"freeze", "thaw", "recipe"}):
        yield Contradiction(None, "neither freeze nor thaw is given", "at least one of the two")


def _needing(*names: str) -> Callable[[Given], Iterator[Contradiction]]:
    def missing(given: Given) -> Iterator[Contradiction]:
        lacking = ", ".join(name for name in names if name not in given.named)
        # A recipe gives all of them; one that cannot stand is a mistake by itself.
        if lacking and "recipe" not in given.named:
            yield Contradiction(None, f"not given: {lacking}", "each is needed, or a recipe")

    return missing


def _command(name: str, values: Mapping[str, Any]) -> CommandSettings:
    return CommandSettings(
        name=name,
        freeze=values["freeze"],
        thaw=values["thaw"],
        directory=values["directory"],
        **_of_program(values),
        **_of_all(values),
    )


def _session(name: str, values: Mapping[str, Any]) -> SessionSettings:
    return SessionSettings(
        name=name,
        command=values["command"],
        freeze_input=values["freeze_input"],
        freeze_expect=values["freeze_expect"],
        freeze_refuse=values["freeze_refuse"],
        thaw_input=values["thaw_input"],
        thaw_expect=values["thaw_expect"],
        directory=values["directory"],
        **_of_program(values),
        **_of_all(values),
    )


def _filesystem(name: str, values: Mapping[str, Any]) -> FilesystemSettings:
    return FilesystemSettings(name=name, mount=values["mount"], **_of_all(values))


def _scripts(name: str, values: Mapping[str, Any]) -> ScriptsSettings:
    return ScriptsSettings(
        name=name, directory=values["directory"], **_of_program(values), **_of_all(values)
    )


def _of_all(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "order": values["order"],
        "freeze_timeout": values["freeze_timeout"],
        "thaw_timeout": values["thaw_timeout"],
        "abort": values["on_failure"],
    }


def _of_program(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"account": values["user"], "environment": values["environment"]}


def _participant_options(order: int) -> dict[str, Option]:
    return {
        # Which recipes there are is judged where they are read.
        "recipe": Option(str),
        "order": Option(whole_number(0, 999), order),
        "freeze_timeout": Option(duration(SHORTEST, 10 * MINUTE), 30.0),
        "thaw_timeout": Option(duration(SHORTEST, 10 * MINUTE), 30.0),
        "on_failure": Option(aborts, True),
    }


_PROGRAM_OPTIONS = {
    "user": Option(account),
    "directory": Option(absolute_path),
    "environment": Option(environment, {}),
}

KINDS: Mapping[str, Kind] = {
    "command": Kind(
        Schema(
            options={
                "freeze": Option(command_line),
                "thaw": Option(command_line),
                **_participant_options(order=40),
                **_PROGRAM_OPTIONS,
            },
            contradictions=_command_contradictions,
        ),
        _command,
    ),
    "session": Kind(
        Schema(
            options={
                "command": Option(command_line),
                "freeze_input": Option(str),
                "freeze_expect": Option(whole_line),
                "freeze_refuse": Option(pattern),
                "thaw_input": Option(str),
                "thaw_expect": Option(whole_line),
                **_participant_options(order=60),
                **_PROGRAM_OPTIONS,
            },
            contradictions=_needing(
                "command", "freeze_input", "freeze_expect", "thaw_input", "thaw_expect"
            ),
        ),
        _session,
    ),
    "filesystem": Kind(
        Schema(
            options={"mount": Option(mount_point), **_participant_options(order=90)},
            contradictions=_needing("mount"),
        ),
        _filesystem,
    ),
    "scripts": Kind(
        Schema(
            options={**_participant_options(order=40), **_PROGRAM_OPTIONS},
            contradictions=_needing("directory"),
        ),
        _scripts,
    ),
}
"""The kinds of participants; defaults and bounds are those of docs/configuration.rst."""

LATER_KINDS = frozenset({"app"})
"""The kinds that a later release brings."""
