"""Which filesystems are mounted, which one a path lies on, and which of them can be frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from xohook.errors import ParticipantError
from xohook.text import printable

FREEZABLE = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "gfs2", "jfs", "nilfs2", "xfs"}
)
"""The local filesystems that the kernel can freeze: those with ``freeze_fs`` or ``freeze_super``
among their operations (linux/fs/ioctl.c, ``ioctl_fsfreeze``)."""

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@attrs.frozen
class Mount:
    """One mounted filesystem: a line of ``/proc/self/mountinfo`` (proc(5)).

    :param id: the mount's id.
    :param parent: the id of the mount that it is mounted in.
    :param device: the numbers of the filesystem's device, ``8:1`` for instance. All mounts of one
        filesystem share them, those of btrfs subvolumes too, whose ``st_dev`` differ.
    :param root: the directory, or file, of the filesystem that is mounted here.
    :param point: where it is mounted.
    :param kind: its type, ``ext4`` for instance.
    :param source: what is mounted, a device for instance; may be empty.
    :param is_writable: whether anything can be written to it here.
    :param upper: the directory that an overlay filesystem writes to; empty for others.
    """

    id: int
    parent: int
    device: str
    root: str
    point: Path
    kind: str
    source: str
    is_writable: bool
    upper: str = ""


def table() -> tuple[Mount, ...]:
    """Read which filesystems are mounted.

    :return: all mounts that the process can see, in the kernel's order.
    """
    return parse(_MOUNTINFO.read_bytes())


def parse(mountinfo: bytes) -> tuple[Mount, ...]:
    """Read a mount table.

    The kernel escapes space, tab, newline, ``#`` and backslash in it, and nothing else
    (linux/fs/proc_namespace.c, ``show_mountinfo``). So only a space ends a field, and only a
    newline a line; a field can be empty.

    :param mountinfo: the content of ``/proc/self/mountinfo`` (proc(5)).
    :return: the mounts, in its order.
    """
    return tuple(_mount(line) for line in mountinfo.split(b"\n") if line)


def _mount(line: bytes) -> Mount:
    id_, parent, device, root, point, options, *rest = line.split(b" ")
    kind, source, of_all = rest[rest.index(b"-") + 1 :][:3]
    settings = of_all.split(b",")
    upper = next((each for each in settings if each.startswith(b"upperdir=")), b"")
    return Mount(
        id=int(id_),
        parent=int(parent),
        device=os.fsdecode(device),
        root=_unescape(root),
        point=Path(_unescape(point)),
        kind=_unescape(kind),
        source=_unescape(source),
        is_writable=b"rw" in options.split(b",") and b"rw" in settings,
        upper=_unescape(upper.partition(b"=")[2]),
    )


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), field))


class _Tree:
    """The mounts, as the kernel walks them when it looks for a path.

    :param mounts: all of them.
    """

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._by_id = {mount.id: mount for mount in mounts}
        self._by_place = {(each.parent, str(each.point)): each for each in self._by_id.values()}
        tops = [
            each
            for each in self._by_id.values()
            if each.parent == each.id or each.parent not in self._by_id
        ]
        # Where a plain directory is the process's root (chroot(2)), its mount is not listed, and
        # is the parent of all mounts at the top.
        self._root = tops[0] if len(tops) == 1 and tops[0].point == Path("/") else None
        self._top = self._root.id if self._root else next((each.parent for each in tops), 0)

    def way(self, path: str) -> list[Mount]:
        """Tell which mounts the kernel comes through on its way to a path.

        :param path: an absolute path without symbolic links.
        :return: the mounts, that of the path last; none where the table does not tell.
        """
        way = [] if self._root is None else [self._root]
        at = self._top
        for place in _places(path):
            while (mount := self._by_place.get((at, place))) is not None:
                way.append(mount)
                at = mount.id
        return way

    def hider(self, mount: Mount) -> Mount | None:
        """Tell which mount hides another.

        :param mount: the other.
        :return: the one to unmount first; None where the other's mount point leads to it.
        """
        way = self.way(str(mount.point))
        if way and way[-1].id == mount.id:
            return None
        own = self._line(mount)
        hider = next((each for each in way if each.id not in own), (way or [mount])[-1])
        # Of several on one point the last is on top.
        return [each for each in way if each.point == hider.point][-1] if way else hider

    def _line(self, mount: Mount) -> set[int]:
        """Tell the ids of a mount and of those that it is mounted in."""
        line: set[int] = set()
        at: Mount | None = mount
        while at is not None and at.id not in line:
            line.add(at.id)
            at = self._by_id.get(at.parent)
        return line


def _places(path: str) -> Iterator[str]:
    """Give each directory on the way to a path.

    The root is none of them: what is mounted over the process's root directory is not reached by
    a path, because the way begins below it (path_resolution(7)).
    """
    place = ""
    for name in path.split("/"):
        if name:
            place += f"/{name}"
            yield place


def hidden_by(mount: Mount, mounts: Sequence[Mount]) -> Mount | None:
    """Tell which mount hides another: one mounted later on its point, or on one above that.

    :param mount: the other.
    :param mounts: all mounts.
    :return: the mount that hides it, the one to unmount first; None where its mount point leads
        to it.
    """
    return _Tree(mounts).hider(mount)


def mount_at(point: Path, mounts: Sequence[Mount]) -> Mount:
    """Find what is mounted just there, and not only around it. No filesystem is touched.

    :param point: an absolute path without symbolic links.
    :param mounts: all mounts.
    :return: the mount that the path leads to.
    :raises ParticipantError: where nothing is mounted there, or what is mounted there is hidden.
    """
    tree = _Tree(mounts)
    way = tree.way(str(point))
    if way and way[-1].point == point:
        return way[-1]
    hidden = [mount for mount in mounts if mount.point == point]
    hider = tree.hider(hidden[-1]) if hidden else None
    if hider is None:
        raise ParticipantError(f"nothing is mounted on {printable(str(point))}")
    raise ParticipantError(hiding(hidden[-1], hider))


def reachable(device: str, mounts: Sequence[Mount]) -> Mount | None:
    """Find a path to a filesystem.

    :param device: the numbers of its device, ``8:1`` for instance.
    :param mounts: all mounts.
    :return: a mount of it that its mount point leads to; None where there is none.
    """
    tree = _Tree(mounts)
    found = (each for each in mounts if each.device == device and tree.hider(each) is None)
    return min(found, key=lambda each: each.root != "/", default=None)


def hiding(mount: Mount, hider: Mount) -> str:
    """Say in one line that a mount is hidden, and what to do.

    :param mount: the mount.
    :param hider: the one that hides it.
    """
    point = printable(str(mount.point))
    return (
        f"{point} is hidden by the filesystem mounted on {printable(str(hider.point))}: unmount"
        f" that one, or mount {point} again on top of it"
    )


def hidden_filesystems(mounts: Sequence[Mount]) -> tuple[tuple[Mount, Mount], ...]:
    """Find the writable, local filesystems that no path leads to: they cannot be frozen.

    :param mounts: all mounts.
    :return: for each of them one of its mounts, and the mount that hides it.
    """
    tree = _Tree(mounts)
    reached = {mount.device for mount in mounts if tree.hider(mount) is None}
    found: dict[str, tuple[Mount, Mount]] = {}
    for mount in mounts:
        if mount.kind in FREEZABLE and mount.is_writable and mount.device not in reached:
            hider = tree.hider(mount)
            if hider is not None:
                found.setdefault(mount.device, (mount, hider))
    return tuple(found.values())


def freezable(mounts: Sequence[Mount], sys: Path) -> tuple[Mount, ...]:
    """Find every writable, local filesystem that can be frozen, each once, by a path to it.

    :param mounts: all mounts.
    :param sys: where sysfs is mounted; it tells which file a loop device carries.
    :return: one mount each, in the order of the freeze: deeper ones first, one whose device
        is a file on another before that other, ``/`` last.
    """
    tree = _Tree(mounts)
    writable = {each.device for each in mounts if each.kind in FREEZABLE and each.is_writable}
    reached = [each for each in mounts if each.device in writable and tree.hider(each) is None]
    # A whole directory tree rather than a part of one, which may be a single file.
    reached.sort(key=lambda each: (not each.is_writable, each.root != "/"))
    by_device: dict[str, Mount] = {}
    for mount in reached:
        by_device.setdefault(mount.device, mount)
    chosen = sorted(by_device.values(), key=lambda each: (-len(each.point.parts), str(each.point)))
    carried: dict[str, list[Mount]] = {}
    for mount in chosen:
        for device in _carriers(mount, tree, sys):
            carried.setdefault(device, []).append(mount)
    ordered: dict[str, Mount] = {}
    seen: set[str] = set()

    def visit(mount: Mount) -> None:
        if mount.device in seen:
            return
        seen.add(mount.device)
        for other in carried.get(mount.device, ()):
            visit(other)
        ordered[mount.device] = mount

    for mount in chosen:
        visit(mount)
    return tuple(ordered.values())


def _carriers(mount: Mount, tree: _Tree, sys: Path) -> set[str]:
    """Tell which filesystems carry a filesystem: in the end all of it is written to them."""
    found: set[str] = set()
    open_ends = [mount]
    while open_ends:
        for path in _files_below(open_ends.pop(), sys):
            way = tree.way(path)
            if way and way[-1].device not in found:
                found.add(way[-1].device)
                open_ends.append(way[-1])
    return found


def _files_below(mount: Mount, sys: Path) -> Iterator[str]:
    """Name the files and directories that a filesystem is kept in."""
    if mount.upper:
        yield mount.upper
    blocks = [sys / "dev/block" / device for device in _devices(mount)]
    while blocks:
        block = blocks.pop()
        # A partition of a loop device lies in that device's directory.
        for directory in (block, block / ".."):
            try:
                yield os.fsdecode((directory / "loop/backing_file").read_bytes()).rstrip("\n")
            except OSError:
                continue
        # Device mapper and md name what they are made of.
        blocks += _entries(block / "slaves")


def _devices(mount: Mount) -> Iterator[str]:
    """Tell the numbers of the block devices that a filesystem is on."""
    if not mount.device.startswith("0:"):
        yield mount.device
        return
    # btrfs and bcachefs have a number of their own, and name a device, or several.
    for name in mount.source.split(":") if mount.kind in FREEZABLE else ():
        if name.startswith("/dev/"):
            try:
                yield _numbers(Path(name).stat().st_rdev)
            except OSError:
                continue


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def mount_of(path: Path, mounts: Sequence[Mount]) -> Mount | None:
    """Find the filesystem that a path lies on, or will lie on once it is made.

    :param path: an absolute path.
    :param mounts: all mounts.
    :return: the mount; None where the table does not tell.
    """
    try:
        opened = os.open(nearest_existing(path), os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        told = Path(f"/proc/self/fdinfo/{opened}").read_text()
    except OSError:
        return None
    finally:
        os.close(opened)
    id_ = re.search(r"^mnt_id:\s*(\d+)$", told, re.MULTILINE)
    return next((each for each in mounts if id_ is not None and each.id == int(id_[1])), None)


def devices_of(path: Path, mounts: Sequence[Mount], sys: Path) -> tuple[str, ...]:
    """Tell what has to be writable for a path to be written to.

    A subvolume of btrfs has a device number of its own (stat(2)), but is frozen with its
    filesystem; so is an overlay with its upper directory, and a loop device with its file.

    :param path: an absolute path; it need not be there yet.
    :param mounts: all mounts.
    :param sys: where sysfs is mounted.
    :return: the numbers of the devices of all filesystems that it is kept on, its own first, as
        :class:`Mount` has them; none where it is not there for the agent to see.
    """
    place = nearest_existing(path)
    mount = mount_of(place, mounts)
    own = device_of(place, mounts)
    carriers = set() if mount is None else _carriers(mount, _Tree(mounts), sys)
    return () if own is None else (own, *sorted(carriers - {own}))


def device_of(path: Path, mounts: Sequence[Mount]) -> str | None:
    """Tell which filesystem is there, by the numbers of its device.

    :param path: an absolute path.
    :param mounts: all mounts.
    :return: the numbers, as :class:`Mount` has them; None where the path is not there, or not for
        the agent to see.
    """
    try:
        number = path.stat().st_dev
    except OSError:
        return None
    mount = mount_of(path, mounts)
    # After chroot(2) the filesystem of / may be in no table.
    return _numbers(number) if mount is None else mount.device


def nearest_existing(path: Path) -> Path:
    """Give a path itself where it is there, else the closest of its parents that is.

    :param path: an absolute path.
    :return: what is there; in the end ``/``.
    """
    return next(each for each in (path, *path.parents) if _is_there(each))


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _numbers(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"
