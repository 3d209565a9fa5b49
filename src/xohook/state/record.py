"""The record: what is frozen and expected, kept where the next start of the agent finds it.

It lies in the runtime directory and is written before each step. It is removed when nothing is owed
and no stamp is left: a stamp without a record is that of a window whose record is lost.
Times in it are those of the monotonic clock, which all processes of one boot share
(clock_gettime(2)); under another boot id only the thaws count.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs.validators import deep_iterable, instance_of, optional

from xohook.errors import RecordError
from xohook.host import ownership
from xohook.host.files import write_private
from xohook.state import json_values
from xohook.window.late_post_syncs import MOST, LatePostSync

VERSION = 1
"""The version of the record's form; another one is not understood."""

_HIGHEST_PID = 2**22
"""The highest that a process can have (proc(5), ``pid_max``)."""

_SOURCES = deep_iterable(instance_of(str))

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Tell which boot of the system this is.

    :return: the kernel's random id of it (random(4)).
    """
    return _BOOT_ID.read_text().strip()


def _names_a_process(_: object, field: object, process: Mapping[str, Any]) -> None:
    if process and not (isinstance(process["pid"], int) and "started" in process):
        raise TypeError(f"{field}: {process}")
    if process and not 0 < process["pid"] <= _HIGHEST_PID:
        raise ValueError(f"{field}: {process}")


@attrs.frozen
class Entry:
    """A participant that something may have to be done for.

    :param name: its name.
    :param order: its ``order``; lower ones freeze first.
    :param recovery_data: what the next start needs to thaw it; ``owed`` in files.
    :param process: the process of the operation that is under way: ``pid`` and ``started``, or
        empty.
    """

    name: str = attrs.field(validator=instance_of(str))
    order: int = attrs.field(validator=instance_of(int))
    recovery_data: Mapping[str, Any] = attrs.field(validator=instance_of(dict))
    process: Mapping[str, Any] = attrs.field(validator=_names_a_process)

    @property
    def is_owed(self) -> bool:
        """Whether the next start has something to do for it."""
        return bool(self.recovery_data or self.process)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Entry:
        """Make an entry of what a file has for it.

        :param values: its values, by their keys.
        :return: the entry.
        :raises KeyError: where one is missing; :exc:`TypeError` or :exc:`ValueError` where one is
            wrong.
        """
        return cls(recovery_data=values.pop("owed"), **values)

    def as_json(self) -> dict[str, Any]:
        """Return what a file has for it.

        :return: its values, by their keys.
        """
        return {
            "name": self.name,
            "order": self.order,
            "owed": self.recovery_data,
            "process": self.process,
        }


def _as_tuple(sources: Sequence[str]) -> tuple[str, ...]:
    """JSON knows lists alone."""
    return tuple(sources)


@attrs.frozen(kw_only=True)
class State:
    """All that the record tells.

    :param window: the id of the present window; None where none is open.
    :param waiting: how many ``/sync`` wait for their answer.
    :param owed: how many ``/post-sync`` are owed to answers of 200.
    :param waiting_from: where those that wait came from; empty in records of earlier versions.
    :param owed_from: where those that owe came from; empty in records of earlier versions.
    :param entries: the participants that are not thawed.
    :param late_post_syncs: the ``/post-sync`` expected from windows that have ended; ``strays`` in
        the file.
    """

    window: str | None = attrs.field(default=None, validator=optional(instance_of(str)))
    waiting: int = attrs.field(default=0, validator=instance_of(int))
    owed: int = attrs.field(default=0, validator=instance_of(int))
    waiting_from: tuple[str, ...] = attrs.field(default=(), converter=_as_tuple, validator=_SOURCES)
    owed_from: tuple[str, ...] = attrs.field(default=(), converter=_as_tuple, validator=_SOURCES)
    entries: tuple[Entry, ...] = ()
    late_post_syncs: tuple[LatePostSync, ...] = ()


class Record:
    """The record's file.

    :param directory: the runtime directory.
    :ivar is_of_this_boot: whether :meth:`read` has found one that this boot of the system wrote.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "record.json"
        self.is_of_this_boot = False
        self._boot_id = boot_id()
        self._written: tuple[State, bool] | None = None

    def write(self, state: State, *, has_stamp: bool = False) -> None:
        """Write the record, whole; nothing where it says so already.

        :param state: all that it has to tell.
        :param has_stamp: whether a stamp may be left. An empty record then stays, so that the next
            start does not thaw by the stamp.
        :raises RecordError: where it cannot be written; the old one is as it was.
        """
        is_removed = state == State() and not has_stamp
        if (state, is_removed) == self._written:
            return
        try:
            if is_removed:
                self.path.unlink(missing_ok=True)
            else:
                write_private(self.path, self._encode(state))
        except OSError as error:
            raise RecordError(f"cannot write the record {self.path}: {error.strerror}") from error
        self._written = state, is_removed

    def read(self) -> State:
        """Read what an earlier run of the agent left.

        :return: all that it tells; nothing where there is no record.
        :raises RecordError: where it cannot be read or understood.
        :raises StartError: where another user could have changed it.
        """
        try:
            return self._decode(ownership.read(self.path, os.geteuid())[0])
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise RecordError(f"cannot read the record {self.path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"cannot understand the record {self.path}: see what it says is frozen, thaw that"
                " by hand and remove the file"
            ) from error

    def _encode(self, state: State) -> bytes:
        values = attrs.asdict(state)
        late = values.pop("late_post_syncs")
        return json_values.encode(
            {
                "version": VERSION,
                "boot_id": self._boot_id,
                **values,
                "entries": [entry.as_json() for entry in state.entries],
                "strays": late,
            }
        )

    def _decode(self, data: bytes) -> State:
        values = json_values.decode(data)
        if values.pop("version") != VERSION:
            raise ValueError("another version")
        self.is_of_this_boot = values.pop("boot_id") == self._boot_id
        entries = tuple(Entry.from_json(entry) for entry in values.pop("entries"))
        late = tuple(LatePostSync(**each) for each in values.pop("strays"))
        if not self.is_of_this_boot:
            # Processes and monotonic times are those of a boot; requesters have long gone on.
            entries = tuple(attrs.evolve(entry, process={}) for entry in entries)
            return State(window=values["window"], entries=entries)
        state = State(entries=entries, late_post_syncs=late, **values)
        # No more are expected in the end, however many the file says.
        waiting, owed = min(state.waiting, MOST), min(state.owed, MOST)
        return attrs.evolve(state, waiting=waiting, owed=owed)
