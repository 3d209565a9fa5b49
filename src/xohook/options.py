"""Every section and option that there is, as a table: a further kind is a further entry of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from xohook.settings import CommandSettings, ParticipantSettings
from xohook.values import (
    aborts,
    absolute_path,
    account,
    authentication,
    command_line,
    duration,
    environment,
    file_path,
    listeners,
    networks,
    vm_name,
    whole_number,
)

# Shorter than 100ms, no program can do its work, and a unit was probably mistaken.
_SHORTEST = 0.1
_MINUTE = 60.0


@attrs.frozen
class Option:
    """One option.

    :param convert: from the text, which is not empty, to the value; raises RefusedError.
    :param default: the value where the option is not given.
    """

    # A table of many types: the settings' classes say which option has which.
    convert: Callable[[str], Any]
    default: Any = None


@attrs.frozen
class Contradiction:
    """Options of one section that do not go together.

    :param option: the option to tell it at; None for the section.
    :param problem: what is wrong.
    :param allowed: what would be right.
    """

    option: str | None
    problem: str
    allowed: str


@attrs.frozen
class Given:
    """What one section says.

    :param values: each option's value, the default where the option is not given.
    :param named: the options that are given, those whose value was refused included.
    """

    values: Mapping[str, Any]
    named: frozenset[str]


@attrs.frozen(kw_only=True)
class Schema:
    """What may stand in one sort of section.

    :param options: the options by name.
    :param later: the names of options that a later release brings.
    :param contradictions: finds what does not go together.
    """

    options: Mapping[str, Option]
    later: frozenset[str]
    contradictions: Callable[[Given], Iterator[Contradiction]]


@attrs.frozen
class Kind:
    """A kind of participant, with sections ``[KIND:NAME]``.

    :param schema: what may stand in its section.
    :param build: from the participant's whole name and its section's values to its settings.
    """

    schema: Schema
    build: Callable[[str, Mapping[str, Any]], ParticipantSettings]


def _agent_contradictions(given: Given) -> Iterator[Contradiction]:
    authenticate = given.values["authenticate"]
    if "peer" in authenticate and "allow_from" not in given.named:
        yield Contradiction(
            "authenticate", "peer would let everybody in", "with allow_from, or without peer"
        )
    tokens_only = "token_file" in given.named and "secret_file" not in given.named
    if tokens_only and authenticate == {"bearer"}:
        yield Contradiction(
            "authenticate",
            "nobody could get in: bearer needs a secret, and none is made beside token_file",
            "with token, or with a secret_file",
        )
    for one, other in (("certificate", "private_key"), ("private_key", "certificate")):
        if one in given.named and other not in given.named:
            yield Contradiction(one, f"given without {other}", "both, or neither")


def _command_contradictions(given: Given) -> Iterator[Contradiction]:
    if given.named.isdisjoint({"freeze", "thaw"}):
        yield Contradiction(None, "neither freeze nor thaw is given", "at least one of the two")


def _command(name: str, values: Mapping[str, Any]) -> CommandSettings:
    return CommandSettings(
        name=name,
        order=values["order"],
        freeze=values["freeze"],
        thaw=values["thaw"],
        account=values["user"],
        directory=values["directory"],
        environment=values["environment"],
        freeze_timeout=values["freeze_timeout"],
        thaw_timeout=values["thaw_timeout"],
        abort=values["on_failure"],
    )


def _participant_options(order: int) -> dict[str, Option]:
    return {
        "order": Option(whole_number(0, 999), order),
        "freeze_timeout": Option(duration(_SHORTEST, 10 * _MINUTE), 30.0),
        "thaw_timeout": Option(duration(_SHORTEST, 10 * _MINUTE), 30.0),
        "on_failure": Option(aborts, True),
    }


_PROGRAM_OPTIONS = {
    "user": Option(account),
    "directory": Option(absolute_path),
    "environment": Option(environment, {}),
}

AGENT = Schema(
    options={
        "listen": Option(listeners, ("1727",)),
        "certificate": Option(file_path),
        "private_key": Option(file_path),
        "secret_file": Option(file_path),
        "token_file": Option(file_path),
        "authenticate": Option(authentication, frozenset({"bearer", "token"})),
        "allow_from": Option(networks, ()),
        "vm": Option(vm_name),
        "freeze_budget": Option(duration(_SHORTEST, 10 * _MINUTE), 50.0),
        "hold_limit": Option(duration(_SHORTEST, 60 * _MINUTE), 2 * _MINUTE),
        "state_directory": Option(absolute_path),
        "runtime_directory": Option(absolute_path),
    },
    later=frozenset({"control", "control_group", "metrics"}),
    contradictions=_agent_contradictions,
)
"""The section ``[xohook]``."""

KINDS: Mapping[str, Kind] = {
    "command": Kind(
        Schema(
            options={
                "freeze": Option(command_line),
                "thaw": Option(command_line),
                **_participant_options(order=40),
                **_PROGRAM_OPTIONS,
            },
            later=frozenset({"recipe"}),
            contradictions=_command_contradictions,
        ),
        _command,
    ),
}
"""The kinds of participants."""

LATER_KINDS = frozenset({"session", "filesystem", "scripts", "app"})
"""The kinds that a later release brings."""
