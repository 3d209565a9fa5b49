"""What an option and a section are, and the options of the agent's own section as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from xohook.config.identities import group
from xohook.config.values import (
    absolute_path,
    authentication,
    control,
    duration,
    file_path,
    listeners,
    networks,
    vm_name,
)

# Shorter than 100ms, no program can do its work, and a unit was probably mistaken.
SHORTEST = 0.1
"""The shortest duration of any option, in seconds."""

MINUTE = 60.0
"""A minute in seconds."""

LONGEST_TIMEOUT = 10 * MINUTE
"""The longest time of a freeze or a thaw, in seconds (docs/configuration.rst)."""

LAST_ORDER = 999
"""The highest order of a participant (docs/configuration.rst)."""

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a participant may be called (docs/configuration.rst)."""


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
    :param contradictions: finds what does not go together.
    :param later: the names of options that a later release brings.
    """

    options: Mapping[str, Option]
    contradictions: Callable[[Given], Iterator[Contradiction]]
    later: frozenset[str] = frozenset()


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
    if "control_group" in given.named and not given.values["control"]:
        yield Contradiction(
            "control_group", "given with control = no", "with control = yes or a path, or without"
        )


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
        "freeze_budget": Option(duration(SHORTEST, 10 * MINUTE), 50.0),
        "hold_limit": Option(duration(SHORTEST, 60 * MINUTE), 2 * MINUTE),
        "control": Option(control, True),
        "control_group": Option(group),
        "state_directory": Option(absolute_path),
        "runtime_directory": Option(absolute_path),
    },
    later=frozenset({"metrics"}),
    contradictions=_agent_contradictions,
)
"""The section ``[xohook]``; defaults and bounds are those of docs/configuration.rst."""
