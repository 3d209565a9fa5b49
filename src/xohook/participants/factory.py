"""Makes participants of every kind: from the configuration, or from the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xohook.config.settings import (
    CommandSettings,
    FilesystemSettings,
    ParticipantSettings,
    ScriptsSettings,
)
from xohook.errors import RecordError
from xohook.participants import Participant
from xohook.participants.command import Command
from xohook.participants.filesystem import Filesystem
from xohook.participants.programs import Surroundings
from xohook.participants.scripts import Scripts
from xohook.participants.session import Session
from xohook.processes.process import IProcessReactor
from xohook.state.record import Entry

_KINDS: Mapping[str, Any] = {
    "command": Command,
    "filesystem": Filesystem,
    "scripts": Scripts,
    "session": Session,
}

_LONGEST_TIMEOUT = 600.0
"""Seconds: what ``thaw_timeout`` may be at the most (docs/configuration.rst)."""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _is_process(value: Any) -> bool:
    """Tell whether it names a process, or none."""
    if value is None:
        return True
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    pid, started = value
    return type(pid) is int and pid > 1 and (started is None or type(started) is int)


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "begun": _are_texts,
    "command": lambda value: bool(value) and _are_texts(value),
    "directory": lambda value: isinstance(value, str),
    "filesystems": lambda value: (
        isinstance(value, list | tuple)
        and all(isinstance(each, dict) and _are_texts([*each.values()]) for each in value)
    ),
    "guard": _is_process,
    "client": _is_process,
    "mounts": _are_texts,
    "environment": lambda value: isinstance(value, dict) and _are_texts([*value.values()]),
    "thaw": lambda value: value is None or (bool(value) and _are_texts(value)),
    # Whoever edits a record may put a number in quotes.
    "timeout": lambda value: 0 <= float(value) <= _LONGEST_TIMEOUT,
}
"""What the values are that several kinds owe, however the record was edited."""


def _is_any(_: object) -> bool:
    return True


def make(
    reactor: IProcessReactor, settings: ParticipantSettings, login: tuple[str, str]
) -> Participant:
    """Make a participant; nobody is looked up.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param login: the name and the home of the agent's own user.
    :return: the participant.
    """
    if isinstance(settings, FilesystemSettings):
        return Filesystem(reactor, settings)
    account = settings.account
    surroundings = Surroundings(
        account,
        settings.directory,
        settings.environment,
        login if account is None else (account.name, account.home),
    )
    if isinstance(settings, CommandSettings):
        return Command(reactor, settings, surroundings)
    if isinstance(settings, ScriptsSettings):
        return Scripts(reactor, settings, surroundings=surroundings)
    return Session(reactor, settings, surroundings=surroundings)


def from_record(reactor: IProcessReactor, entry: Entry) -> Participant:
    """Make the participant that an earlier run of the agent owes a thaw.

    :param reactor: the clock and the source of processes.
    :param entry: its entry in the record.
    :return: a participant that can thaw.
    :raises RecordError: where the record's entry cannot be understood.
    """
    try:
        for option, value in entry.recovery_data.items():
            if not _SHAPES.get(option, _is_any)(value):
                raise ValueError(f"{option}: {value}")
        kind = _KINDS[entry.name.partition(":")[0]]
        participant: Participant = kind.from_record(reactor, entry.name, entry.recovery_data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"the record's entry of {entry.name} cannot be understood: thaw it by hand, and"
            " take it out of the record, which lies in the runtime directory"
        ) from error
    participant.order = entry.order
    if isinstance(participant, Command | Scripts | Session):
        participant.owe(entry.process)
    return participant
