"""Mistakes that the configuration's syntax allows, and that everybody makes once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from xohook.config.ini import Entry, Section
from xohook.config.kinds import KINDS
from xohook.config.settings import ParticipantSettings, ScriptsSettings
from xohook.errors import ParticipantError
from xohook.findings import Finding, warning
from xohook.host import mounts
from xohook.host.freeze_probe import frozen_mounts
from xohook.participants.frozen import frozen_by
from xohook.participants.scripts import find_scripts

_ENDS = "is undone as soon as the client that asked for it ends, so nothing is locked in the hold"
_STAYS = "outlasts the client that asked for it: if the agent dies, the server stays locked"
_LOCKS = (
    (
        r"FLUSH\s+TABLES\s+WITH\s+READ\s+LOCK",
        _ENDS,
        "[session:NAME] with recipe = mariadb or mysql",
    ),
    (r"LOCK\s+INSTANCE\s+FOR\s+BACKUP", _ENDS, "[session:NAME] with recipe = mysql"),
    (r"BACKUP\s+STAGE\s+\w+", _ENDS, "[session:NAME] with recipe = mariadb"),
    (r"pg_(?:backup_start|start_backup)", _ENDS, "[command:NAME] with recipe = postgresql"),
    (r"fsyncLock", _STAYS, "[session:NAME] with recipe = mongodb"),
)
"""What a lock looks like, what becomes of it in a client that runs once, and what to do instead
(the pages of docs/recipes/ have the sources)."""

_COMMANDS = frozenset({"freeze", "thaw", "command"})
# Of what a shell would act on, that which nobody means literally outside of quotes (sh(1)).
_SHELL = re.compile(r"\|\|?|&&|&(?=\s|$)|>>?|<|;|\$\(|`|(?:(?<=\s)|^)#")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
_OPTION = re.compile(r"([a-z_]+)\s*=")
_MOST_READ = 64 * 1024


def examine(sections: Mapping[str, Section]) -> Iterator[Finding]:
    """Look for mistakes in what the sections say.

    :param sections: the merged sections of a configuration without mistakes, by name.
    :return: a warning for each.
    """
    for section in sections.values():
        kind = KINDS.get(section.name.partition(":")[0])
        for entry in section.entries:
            if kind is not None and entry.option != "environment":
                yield from _swallowed(entry, kind.schema.options)
            if kind is not None and entry.option in _COMMANDS:
                yield from _shell_syntax(entry)
                if section.name.startswith("command:"):
                    yield from _locks(_place(entry), entry.value)


def scripts(participants: Iterable[ParticipantSettings]) -> Iterator[Finding]:
    """Look for mistakes in directories of scripts.

    :param participants: all participants.
    :return: a warning for each.
    """
    for participant in participants:
        if isinstance(participant, ScriptsSettings):
            try:
                names = find_scripts(participant.directory)
            except ParticipantError:
                # It has been told of already.
                continue
            for name in names:
                path = participant.directory / name
                yield from _locks(
                    f"[{participant.name}] {path}", _beginning(path), ", or keep the client running"
                )


def frozen_now(participants: Iterable[ParticipantSettings]) -> Iterator[Finding]:
    """Look for filesystems that are frozen at this moment.

    :param participants: all participants.
    :return: a warning for each that can be frozen and is.
    """
    table = mounts.table()
    found = mounts.freezable(table, Path("/sys"))
    points = [mount.point for mount in found]
    known = {mount.device for mount in found}
    for participant in participants:
        for point in frozen_by(participant):
            device = mounts.device_of(point, table)
            if device is not None and device not in known:
                known.add(device)
                points.append(point)
    for point in frozen_mounts(points):
        yield warning(
            f"{point}: this filesystem is frozen now, and a window would fail; unless a window is "
            f"open ('xohook status' tells), thaw it: fsfreeze --unfreeze {point}"
        )


def _place(entry: Entry) -> str:
    return f"{entry.file}:{entry.line} [{entry.section}] {entry.option}"


def _locks(place: str, text: str, other: str = "") -> Iterator[Finding]:
    for pattern, what, remedy in _LOCKS:
        found = re.search(pattern, text, re.IGNORECASE)
        if found is not None:
            lock = " ".join(found[0].split())
            yield warning(f"{place}: {lock} {what}; use {remedy}{other}")


def _shell_syntax(entry: Entry) -> Iterator[Finding]:
    found = _SHELL.search(_QUOTED.sub(lambda quoted: "x" * len(quoted[0]), entry.value))
    if found is not None:
        yield warning(
            f"{_place(entry)}: {found[0]!r} is an argument like any other, for no shell is run; "
            "put the words into sh -c '...', or into a script (a comment: on a line of its own)"
        )


def _swallowed(entry: Entry, options: Iterable[str]) -> Iterator[Finding]:
    _, *continued = entry.value.split("\n")
    for line in continued:
        option = _OPTION.match(line)
        if option is not None and option[1] in options:
            yield warning(
                f"{_place(entry)}: its indented line {line!r} belongs to this value; to make it an "
                f"option of its own, take the blanks before {option[1]!r} away"
            )


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_READ).decode(errors="replace")
    except OSError:
        return ""
