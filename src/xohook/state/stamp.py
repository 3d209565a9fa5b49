"""The stamp: says on the disk itself, and so in every snapshot of it, which window it was taken in.

It lies in the state directory. It is there, synced to the disk, from before the first freeze until
after the thaw; a system that comes back with it in place was restored or cloned from a snapshot,
or went down in a hold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import attrs
from attrs.validators import instance_of

from xohook.errors import RecordError
from xohook.host import ownership
from xohook.host.files import remove_lastingly, write_private
from xohook.state import json_values
from xohook.state.record import Entry, boot_id

VERSION = 1
"""The version of the stamp's form; another one is not understood."""


AFTER_BOOT = ("command", "scripts")
"""The kinds whose freeze outlives a boot: locks and frozen filesystems end with the kernel."""


def outlives_boot(entry: Entry) -> bool:
    """Tell whether a participant is still frozen after another boot.

    :param entry: its entry.
    :return: whether its thaw is owed then.
    """
    return entry.name.partition(":")[0] in AFTER_BOOT


def _bare(entry: Entry) -> Entry:
    """Name a participant without what its thaw would need: a snapshot need not know it."""
    return attrs.evolve(entry, recovery_data={}, process={})


def _names_a_time(_: object, field: object, value: float) -> None:
    # The year 9999 is the last that Python's datetime knows; what is no number cannot be compared.
    if not 0 <= value < 253_402_300_800:
        raise ValueError(f"{field}: {value}")


@attrs.frozen(kw_only=True)
class StampData:
    """What a stamp says.

    :param window: the window's id.
    :param time: when it opened, in seconds since the epoch.
    :param boot: the boot id of the system that it opened on.
    :param at_rest: the participants that were frozen.
    """

    window: str = attrs.field(validator=instance_of(str))
    time: float = attrs.field(validator=_names_a_time)
    boot: str = attrs.field(validator=instance_of(str))
    at_rest: tuple[Entry, ...] = ()


class Stamp:
    """The stamp's file.

    :param directory: the state directory.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "stamp.json"

    def encode(self, window: str, time: float, at_rest: Sequence[Entry]) -> bytes:
        """Return what the file has to contain.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :return: the whole content.
        :raises RecordError: where it would be longer than a stamp that is read again.
        """
        kept = tuple(entry if outlives_boot(entry) else _bare(entry) for entry in at_rest)
        try:
            stamp = StampData(window=window, time=time, boot=boot_id(), at_rest=kept)
            return json_values.encode(
                {
                    "version": VERSION,
                    **attrs.asdict(stamp),
                    "at_rest": [entry.as_json() for entry in kept],
                }
            )
        except OSError as error:
            raise RecordError(f"cannot write the stamp {self.path}: {error.strerror}") from error

    def write(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
        """Write the stamp, and wait for the disk.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :raises RecordError: where it cannot be written.
        """
        data = self.encode(window, time, at_rest)
        try:
            write_private(self.path, data, lasting=True)
        except OSError as error:
            raise RecordError(f"cannot write the stamp {self.path}: {error.strerror}") from error

    def remove(self) -> bool:
        """Remove the stamp, and wait for the disk.

        :return: whether it is gone.
        :raises RecordError: where it cannot be removed.
        """
        try:
            remove_lastingly(self.path)
        except OSError as error:
            raise RecordError(f"cannot remove the stamp {self.path}: {error.strerror}") from error
        return True

    def read(self) -> StampData | None:
        """Read the stamp that is there.

        :return: what it says; None where there is none.
        :raises RecordError: where it cannot be read or understood.
        :raises StartError: where another user could have changed it.
        """
        try:
            values = json_values.decode(ownership.read(self.path, os.geteuid())[0])
            if values.pop("version") != VERSION:
                raise ValueError("another version")
            at_rest = tuple(Entry.from_json(entry) for entry in values.pop("at_rest"))
            return StampData(at_rest=at_rest, **values)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"cannot read the stamp {self.path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"cannot understand the stamp {self.path}: this disk comes from a snapshot; see"
                " what it says was at rest, thaw that by hand and remove the file"
            ) from error
