"""Opens filesystems for their guard, and proves which filesystem each descriptor belongs to.

A path may lead elsewhere than its configuration means: to the filesystem around a mount point
whose own has been unmounted, or to one that was mounted over it. The mount id of the open
descriptor, looked up in this process's own mount table, tells what is really open.
"""

import ctypes
import errno
import os
import select
from collections.abc import Callable

PATIENCE = 2.0
"""Seconds in which an unfrozen filesystem takes up a change. A busy disk needs a fraction of it,
and every freeze waits for it where something is frozen already."""

_MOUNTED_ON = "/sys"
"""Where a device is mounted in a mount namespace of its own: a directory that every Linux has."""

_CLONE_NEWNS = 0x00020000
"""``CLONE_NEWNS`` of linux/sched.h (unshare(2))."""

_MS_RDONLY = 1
_MS_REC_PRIVATE = 0x4000 | 0x40000
"""``MS_RDONLY`` and ``MS_REC | MS_PRIVATE`` of linux/mount.h (mount(2))."""

_WITHOUT_RECOVERY = {
    "btrfs": b"rescue=nologreplay",
    "ext2": b"noload",
    "ext3": b"noload",
    "ext4": b"noload",
    "f2fs": b"norecovery",
    "xfs": b"norecovery",
}
"""The option with which a read-only mount of each kind writes nothing (ext4(5), xfs(5), btrfs(5),
f2fs in the kernel's documentation)."""

_libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """A filesystem that cannot be held, with the reason."""


class Mounted:
    """One open filesystem.

    :param descriptor: its descriptor, a directory on it.
    :param device: the numbers of its device.
    :param mount_id: the mount that the descriptor belongs to; 0 where that does not matter.
    :param kind: its kind, ``ext4`` for instance.
    :param point: where it is mounted.
    :param source: what is mounted.
    """

    def __init__(
        self,
        descriptor: int,
        device: str,
        mount_id: int = 0,
        kind: str = "",
        point: bytes = b"",
        source: bytes = b"",
    ) -> None:
        self.descriptor = descriptor
        self.device = device
        self.mount_id = mount_id
        self.kind = kind
        self.point = point
        self.source = source

    @property
    def is_mount_point(self) -> bool:
        """Whether the descriptor is the directory on which the filesystem is mounted."""
        link = f"/proc/self/fd/{self.descriptor}"
        return os.fsencode(os.readlink(link)) == self.point  # noqa: PTH115 - no pathlib in a guard.

    def describe(self) -> str:
        """Name the filesystem for the agent.

        :return: device, mount id, kind, mount point and source, separated by commas; the last two
            in hexadecimal digits.
        """
        point, source = self.point.hex(), self.source.hex()
        return f"{self.device},{self.mount_id},{self.kind},{point},{source}"


def identify(path: str, descriptor: int) -> Mounted:
    """Look a descriptor up in this process's mount table.

    :param path: what was opened, for messages.
    :param descriptor: the descriptor, a directory.
    :return: the filesystem that it belongs to.
    :raises RefusedError: where the mount table does not show it any more.
    """
    mount_id = _mount_id(descriptor)
    for line in _mount_table():
        fields, _, rest = line.partition(b" - ")
        first, _, device, _, point, *_ = fields.split(b" ")
        if first == mount_id:
            kind, source, *_ = rest.split(b" ")
            return Mounted(
                descriptor,
                device.decode(),
                int(mount_id),
                kind.decode(errors="replace"),
                _unescape(point),
                _unescape(source),
            )
    raise RefusedError(f"{path}: it is not mounted any more")


def open_path(path: str, device: str, mount_id: int) -> Mounted:
    """Open the filesystem that is mounted on a path.

    :param path: the mount point.
    :param device: the device that it must be, ``8:1`` for instance; empty for any.
    :param mount_id: the mount that it must be; 0 for any.
    :return: the filesystem.
    :raises RefusedError: where it cannot be opened, or is another one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise RefusedError(f"nothing is mounted on {path}") from None
    except OSError as error:
        raise RefusedError(f"{path}: {error.strerror}") from error
    opened = identify(path, descriptor)
    if not opened.is_mount_point:
        raise RefusedError(f"nothing is mounted on {path}")
    if device not in ("", opened.device) or mount_id not in (0, opened.mount_id):
        raise RefusedError(f"another filesystem has been mounted on {path} in the meantime")
    return opened


def open_device(source: str, kind: str, device: str) -> Mounted:
    """Open a filesystem that no mount shows any more, by a mount of this process's own.

    A filesystem that was unmounted while it was frozen lives on in the kernel, and a new mount of
    its device shows that one. A read-only mount without recovery finds out whether it does: the
    kernel refuses it where the filesystem lives on as a writable one.

    :param source: the device's file.
    :param kind: the filesystem's kind.
    :param device: the device that it must be, ``8:1`` for instance.
    :return: the filesystem.
    :raises RefusedError: where it cannot be mounted, or is another one.
    """
    if kind not in _WITHOUT_RECOVERY:
        raise RefusedError(f"{source}: no mount of this {kind} filesystem is left")
    _call(source, _libc.unshare, _CLONE_NEWNS)
    _call(source, _libc.mount, None, b"/", None, _MS_REC_PRIVATE, None)
    arguments = (os.fsencode(source), _MOUNTED_ON.encode(), kind.encode())
    try:
        _call(source, _libc.mount, *arguments, _MS_RDONLY, _WITHOUT_RECOVERY[kind])
    except RefusedError:
        _call(source, _libc.mount, *arguments, 0, None)
    opened = identify(source, os.open(_MOUNTED_ON, os.O_RDONLY | os.O_DIRECTORY))
    if opened.device != device:
        raise RefusedError(f"{source}: another device has that name now")
    return opened


def find_frozen(filesystems: "list[Mounted]") -> "Mounted | None":
    """Find a filesystem that is frozen already, and change nothing on any.

    A child process removes a name that does not exist. The kernel waits for a frozen filesystem
    before it looks the name up, and so does the child, without end; it is left behind.

    :param filesystems: the filesystems.
    :return: the first one that is frozen, or whose disk does not answer; None where none is.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _remove_nothing(filesystems, writer)
        finally:
            os._exit(0)
    os.close(writer)
    done = 0
    while select.select([reader], [], [], PATIENCE)[0]:
        part = os.read(reader, 4096)
        if not part:
            os.waitpid(pid, 0)
            break
        done += len(part)
    os.close(reader)
    return filesystems[done] if done < len(filesystems) else None


def swap_devices() -> "set[str]":
    """Find the filesystems that the kernel swaps to, by swap files on them.

    :return: the numbers of their devices.
    """
    devices = set()
    for line in _read("/proc/swaps").split(b"\n")[1:-1]:
        name, kind, *_ = line.split()
        if kind == b"file":
            try:
                number = os.stat(_unescape(name)).st_dev  # noqa: PTH116 - no pathlib in a guard.
            except OSError:
                continue
            devices.add(f"{os.major(number)}:{os.minor(number)}")
    return devices


def _remove_nothing(filesystems: "list[Mounted]", writer: int) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2, 3):
        # The agent must see this guard's end although this child may stay.
        os.dup2(null, standard)
    name = f".xohook-{os.urandom(12).hex()}"
    for each in filesystems:
        try:
            os.unlink(name, dir_fd=each.descriptor)
        except OSError:
            # There is no such file, or the filesystem is read-only: it is not frozen.
            os.write(writer, b".")


def _mount_id(descriptor: int) -> bytes:
    for line in _read(f"/proc/self/fdinfo/{descriptor}").splitlines():
        if line.startswith(b"mnt_id:"):
            return line.split()[1]
    raise RefusedError("the kernel does not tell the mount of an open file (Linux 3.15 does)")


def _mount_table() -> "list[bytes]":
    return _read("/proc/self/mountinfo").split(b"\n")[:-1]


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _unescape(field: bytes) -> bytes:
    """Undo the kernel's escapes, a backslash and three octal digits each (proc(5))."""
    first, *others = field.split(b"\\")
    return first + b"".join(bytes([int(each[:3], 8)]) + each[3:] for each in others)


def _call(source: str, function: "Callable[..., int]", *arguments: "bytes | int | None") -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise RefusedError(f"{source}: {os.strerror(number)} ({errno.errorcode.get(number)})")
