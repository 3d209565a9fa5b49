"""Which filesystem a directory lies on, and whether a participant freezes that one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import attrs

from xohook.errors import StartError
from xohook.settings import ParticipantSettings

_FREEZE_FLAGS = {"-f", "--freeze"}
_ESCAPE = re.compile(r"\\([0-7]{3})")


@attrs.frozen
class Mount:
    """One mounted filesystem.

    :param point: where it is mounted.
    :param kind: its type, ``ext4`` for instance.
    """

    point: Path
    kind: str


def nearest_existing(path: Path) -> Path:
    """Give a path itself where it is there, else the closest of its parents that is.

    :param path: an absolute path.
    :return: what is there; in the end ``/``.
    """
    return next(each for each in (path, *path.parents) if each.exists())


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """Find the filesystem that a path lies on, or will lie on once it is made.

    :param path: an absolute path.
    :param mountinfo: the content of ``/proc/self/mountinfo`` (proc(5)).
    :return: the mount; None where the table does not tell.
    """
    place = nearest_existing(path).resolve()
    candidates = [mount for mount in _parse(mountinfo) if place.is_relative_to(mount.point)]
    # Of two mounts on one point the later hides the earlier; max() takes the first of equals.
    return max(reversed(candidates), key=lambda mount: len(mount.point.parts), default=None)


def frozen_by(participant: ParticipantSettings) -> tuple[Path, ...]:
    """Tell which filesystems a participant freezes, as far as its command line says.

    :param participant: the participant.
    :return: what its ``freeze`` hands to ``fsfreeze --freeze`` (fsfreeze(8)), directly, behind
        another program such as ``sudo``, or in a shell's ``-c``.
    """
    return tuple(_fsfreeze_mounts(participant.freeze or ()))


def refuse_frozen(directory: Path, participants: Iterable[ParticipantSettings]) -> None:
    """See that no participant freezes the filesystem of a directory.

    The record is written while filesystems are frozen; on one of them that would hang for good.

    :param directory: the runtime directory; it need not be there yet.
    :param participants: all participants.
    :raises StartError: one of them freezes it.
    """
    device = nearest_existing(directory).stat().st_dev
    for participant in participants:
        for mount in frozen_by(participant):
            if mount.exists() and mount.stat().st_dev == device:
                raise StartError(
                    f"runtime_directory = {directory}: it lies on the filesystem of {mount}, which "
                    f"[{participant.name}] freezes, and the agent would hang there; name a "
                    "directory on tmpfs, below /run for instance"
                )


def _fsfreeze_mounts(words: Sequence[str]) -> Iterator[Path]:
    names = [PurePath(word).name for word in words]
    if "fsfreeze" in names:
        arguments = words[names.index("fsfreeze") + 1 :]
        if _FREEZE_FLAGS.intersection(arguments):
            yield from (Path(word) for word in arguments if word.startswith("/"))
        return
    for word in words:
        if "fsfreeze" in word:
            yield from _fsfreeze_mounts(_shell_words(word))


def _shell_words(script: str) -> list[str]:
    # Separators are made words of their own, so that none sticks to a path.
    try:
        return list(shlex.shlex(script, posix=True, punctuation_chars=True))
    except ValueError:
        return []


def _parse(mountinfo: str) -> Iterator[Mount]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), before.split()[4])
        yield Mount(point=Path(point), kind=after.split()[0])
