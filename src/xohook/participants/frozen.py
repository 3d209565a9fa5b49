"""What participants freeze, as far as their settings say, and what must not lie on it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from xohook.config.settings import CommandSettings, FilesystemSettings, ParticipantSettings
from xohook.errors import ParticipantError, StartError
from xohook.host.mounts import Mount, device_of, devices_of, freezable, mount_at, table

_FREEZE_FLAGS = {"-f", "--freeze"}
_SYS = Path("/sys")


def frozen_by(participant: ParticipantSettings) -> tuple[Path, ...]:
    """Tell which filesystems a participant freezes, as far as its settings say.

    :param participant: the participant.
    :return: the mount points of a filesystem participant, those that ``auto`` finds now included;
        what a command's ``freeze`` hands to ``fsfreeze --freeze`` (fsfreeze(8)), directly, behind
        another program such as ``sudo``, or in a shell's ``-c``; none of other kinds.
    """
    if isinstance(participant, FilesystemSettings):
        if participant.mount is not None:
            return (participant.mount,)
        return tuple(mount.point for mount in freezable(table(), _SYS))
    if isinstance(participant, CommandSettings):
        return tuple(_fsfreeze_mounts(participant.freeze or ()))
    return ()


def refuse_frozen(option: str, path: Path, participants: Iterable[ParticipantSettings]) -> None:
    """See that no participant freezes the filesystem of a path.

    The record is written while filesystems are frozen, and an agent that ends or starts while one
    is left so removes or makes its socket; on one of them that would hang for good.

    :param option: the option that names the path.
    :param path: the path; it need not be there yet.
    :param participants: all participants.
    :raises StartError: one of them freezes it.
    """
    mounts = table()
    devices = devices_of(path, mounts, _SYS)
    for participant in participants:
        for mount in frozen_by(participant):
            device = device_of(mount, mounts)
            if device not in devices or _is_unmounted(participant, mounts):
                continue
            lies = "lies on" if device == devices[0] else "is kept in a file on"
            raise StartError(
                f"{option} = {path}: it {lies} the filesystem of {mount}, which "
                f"[{participant.name}] freezes, and the agent would hang there; name a "
                "place on tmpfs, below /run for instance"
            )


def _is_unmounted(participant: ParticipantSettings, mounts: Sequence[Mount]) -> bool:
    """Tell whether a filesystem is not mounted now: what is around it is not frozen instead."""
    if not isinstance(participant, FilesystemSettings) or participant.mount is None:
        return False
    try:
        mount_at(participant.mount.resolve(), mounts)
    except ParticipantError:
        return True
    return False


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
