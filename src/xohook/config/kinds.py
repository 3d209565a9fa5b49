"""The kinds of participants as a table: a further kind is a further entry of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from xohook.config.identities import account, user
from xohook.config.options import (
    LAST_ORDER,
    LONGEST_TIMEOUT,
    SHORTEST,
    Contradiction,
    Given,
    Option,
    Schema,
)
from xohook.config.settings import (
    AppSettings,
    CommandSettings,
    FilesystemSettings,
    ParticipantSettings,
    ScriptsSettings,
    SessionSettings,
)
from xohook.config.values import (
    aborts,
    absolute_path,
    command_line,
    duration,
    environment,
    mount_point,
    pattern,
    whole_line,
    whole_number,
    yes_or_no,
)


@attrs.frozen
class Kind:
    """A kind of participant, with sections ``[KIND:NAME]``.

    :param schema: what may stand in its section.
    :param build: from the participant's whole name and its section's values to its settings.
    """

    schema: Schema
    build: Callable[[str, Mapping[str, Any]], ParticipantSettings | AppSettings]


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
        name=name, freeze=values["freeze"], thaw=values["thaw"], **_of_program(values)
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
        **_of_program(values),
    )


def _filesystem(name: str, values: Mapping[str, Any]) -> FilesystemSettings:
    return FilesystemSettings(name=name, mount=values["mount"], **_of_all(values))


def _scripts(name: str, values: Mapping[str, Any]) -> ScriptsSettings:
    return ScriptsSettings(name=name, **_of_program(values))


def _app(name: str, values: Mapping[str, Any]) -> AppSettings:
    return AppSettings(
        name=name, required=values["required"], account=values["user"], **_of_all(values)
    )


def _of_program(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account": values["user"],
        "directory": values["directory"],
        "environment": values["environment"],
        **_of_all(values),
    }


def _of_all(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "order": values["order"],
        "freeze_timeout": values["freeze_timeout"],
        "thaw_timeout": values["thaw_timeout"],
        "abort": values["on_failure"],
    }


_COMMON_OPTIONS = {
    "order": Option(whole_number(0, LAST_ORDER)),
    "freeze_timeout": Option(duration(SHORTEST, LONGEST_TIMEOUT)),
    "thaw_timeout": Option(duration(SHORTEST, LONGEST_TIMEOUT)),
    "on_failure": Option(aborts),
}


def _participant_options(order: int) -> dict[str, Option]:
    defaults = {"order": order, "freeze_timeout": 30.0, "thaw_timeout": 30.0, "on_failure": True}
    common = {
        name: attrs.evolve(option, default=defaults[name])
        for name, option in _COMMON_OPTIONS.items()
    }
    # Which recipes there are is judged where they are read.
    return {"recipe": Option(str), **common}


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
    # An app makes itself known, and its own wishes are the defaults of what they may be about.
    "app": Kind(
        Schema(
            options={"required": Option(yes_or_no, True), "user": Option(user), **_COMMON_OPTIONS},
            contradictions=_needing(),
        ),
        _app,
    ),
}
"""The kinds of participants; defaults and bounds are those of docs/configuration.rst."""
