"""Which filesystem a directory lies on, and whether a participant freezes that one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import attrs

from xohook.errors import StartError
from xohook.settings import CommandSettings, FilesystemSettings, ParticipantSettings

_FREEZE_FLAGS = {"-f", "--freeze"}
_ESCAPE = re.compile(r"\\([0-7]{3})")


@attrs.frozen
class Mount:
    """One mounted filesystem.

    :param point: where it is mounted.
    :param kind: its type, ``ext4`` for instance.
    :param device: the numbers of its device, ``8:1`` for instance.
    :param is_writable: whether anything can be written to it here.
    """

    point: Path
    kind: str
    device: str = ""
    is_writable: bool = True


def nearest_existing(path: Path) -> Path:
    """Give a path itself where it is there, else the closest of its parents that is.

    :param path: an absolute path.
    :return: what is there; in the end ``/``.
    """
    return next(each for each in (path, *path.parents) if device_of(each) is not None)


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


def is_mount_point(path: Path, mountinfo: str) -> bool:
    """Tell whether a filesystem is mounted just there, and not only around it.

    :param path: an absolute path.
    :param mountinfo: the content of ``/proc/self/mountinfo`` (proc(5)).
    :return: whether one is.
    """
    mount = mount_of(path, mountinfo)
    return mount is not None and mount.point == path.resolve()


FREEZABLE = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "gfs2", "jfs", "nilfs2", "xfs"}
)
"""The local filesystems that the kernel can freeze: those with ``freeze_fs`` or ``freeze_super``
among their operations (linux/fs/ioctl.c, ``ioctl_fsfreeze``)."""


def freezable(mountinfo: str, sys: Path) -> tuple[str, ...]:
    """Find every mounted, writable, local filesystem that can be frozen, each once.

    :param mountinfo: the content of ``/proc/self/mountinfo`` (proc(5)).
    :param sys: where sysfs is mounted; it tells which file a loop device carries.
    :return: one mount point each, in the order of the freeze: deeper ones first, one whose device
        is a file on another before that other, ``/`` last.
    """
    by_device: dict[str, Mount] = {}
    for mount in _parse(mountinfo):
        if mount.kind in FREEZABLE and mount.is_writable:
            by_device.setdefault(mount.device, mount)
    mounts = sorted(by_device.values(), key=lambda each: (-len(each.point.parts), str(each.point)))
    ordered: list[Mount] = []

    def visit(mount: Mount) -> None:
        if mount in ordered:
            return
        for other in mounts:
            if other is not mount and _carrier(other, mountinfo, sys) == mount.device:
                visit(other)
        ordered.append(mount)

    for mount in mounts:
        visit(mount)
    return tuple(str(mount.point) for mount in ordered)


def _carrier(mount: Mount, mountinfo: str, sys: Path) -> str:
    """Tell the device of the filesystem that carries a loop device's file; empty for others."""
    backing = sys / "dev" / "block" / mount.device / "loop" / "backing_file"
    try:
        carrier = mount_of(Path(backing.read_text().strip()), mountinfo)
    except OSError:
        return ""
    return carrier.device if carrier is not None else ""


def table() -> str:
    """Read which filesystems are mounted.

    :return: the content of ``/proc/self/mountinfo`` (proc(5)); bytes in it that are no UTF-8
        stand as Python's file names have them.
    """
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


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
        return tuple(map(Path, freezable(table(), Path("/sys"))))
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
    device = device_of(nearest_existing(path))
    for participant in participants:
        for mount in frozen_by(participant):
            if device is not None and device_of(mount) == device:
                raise StartError(
                    f"{option} = {path}: it lies on the filesystem of {mount}, which "
                    f"[{participant.name}] freezes, and the agent would hang there; name a "
                    "place on tmpfs, below /run for instance"
                )


def device_of(path: Path) -> int | None:
    """Tell which device a path lies on.

    :param path: the path.
    :return: the device's number; None where it is not there, or not for the agent to see.
    """
    try:
        return path.stat().st_dev
    except OSError:
        return None


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
        _, _, device, _, point, options, *_ = before.split()
        kind, _, of_all = after.split()[:3]
        is_writable = "rw" in options.split(",") and "rw" in of_all.split(",")
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), point)
        yield Mount(point=Path(point), kind=kind, device=device, is_writable=is_writable)
