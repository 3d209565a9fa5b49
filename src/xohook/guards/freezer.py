"""The guard of filesystems: freezes them, holds them and thaws them.

It lets go, in reverse order, as soon as its standard input closes, its time is up or it gets
SIGTERM: whatever becomes of the agent, nothing stays frozen. It is loaded whole and locked in
memory before it freezes anything, and from then on starts nothing and writes to no disk.

Its orders are those of :mod:`xohook.guards.orders`:

``open TARGET …``
    the first order; open these filesystems, in the order in which they are to be frozen. A target
    is ``fresh,HEX,DEVICE,ID`` (what is mounted on a path and not frozen yet, with the device and
    mount id that it must be; empty and 0 for any), ``found,HEX,DEVICE`` (the same, frozen
    perhaps), ``fd,NUMBER,DEVICE`` (a descriptor that was passed in) or
    ``device,HEX,KIND,DEVICE`` (a device that no mount shows any more);
``freeze``
    freeze them all, or none;
``rescue``
    count them all as frozen: another guard has died over them;
``thaw``
    let go, and end.

It answers to each on standard output:

``ready FILESYSTEM …``
    all are open; each filesystem as :meth:`xohook.guards.mounted.Mounted.describe` has it. The
    descriptors of fresh ones have been passed to the agent by then, over the socket that is
    descriptor 3;
``frozen``
    all are frozen;
``refused WHY``
    one cannot be opened; ``refused INDEX ERRNO RESULTS``: one cannot be frozen, with what became
    of those frozen before it;
``thawed RESULTS``
    it has let go. A result for each filesystem, separated by commas: ``-`` not frozen by this
    guard, ``0`` thawed, ``w`` thawed and written to during the hold, or the error number.
"""

# The socket module's own core, without its enumerations: their import takes as long as the rest.
import _socket
import array
import ctypes
import errno
import os
import sys
from collections.abc import Callable
from fcntl import ioctl

from xohook.guards.mounted import (
    Mounted,
    RefusedError,
    find_frozen,
    open_device,
    open_path,
    swap_devices,
)
from xohook.guards.orders import Orders

FIFREEZE = 0xC0045877
"""``_IOWR('X', 119, int)`` of linux/fs.h (ioctl_fs(2))."""

FITHAW = 0xC0045878
"""``_IOWR('X', 120, int)`` of linux/fs.h (ioctl_fs(2))."""

DESCRIPTORS = 3
"""The socket over which the agent gets the descriptors."""

_LOCK_ALL = 1 | 2
"""``MCL_CURRENT | MCL_FUTURE`` of mlockall(2)."""

_MOST_PASSED = 250
"""Descriptors in one message: the kernel takes 253 (unix(7), ``SCM_MAX_FD``)."""

_NOT_FROZEN = "-"

_libc = ctypes.CDLL(None)


class Held:
    """The filesystems that are held.

    :param filesystems: the filesystems, in the order in which they are frozen.
    """

    def __init__(self, filesystems: "list[Mounted]") -> None:
        self._filesystems = filesystems
        self._counters = [_Counter(each.device) for each in filesystems]
        self._swapped_to = swap_devices()
        self._frozen: list[int] = []
        self.is_rescue = False

    def freeze(self, is_over: "Callable[[], bool]") -> str:
        """Freeze them all, or none.

        :param is_over: tells that it is too late for this.
        :return: the answer.
        """
        for index, filesystem in enumerate(self._filesystems):
            number = errno.ETIME if is_over() else _ioctl(filesystem, FIFREEZE)
            if number:
                return f"refused {index} {number} {self.thaw()}"
            self._frozen.append(index)
            self._counters[index].start(is_swapped_to=filesystem.device in self._swapped_to)
        return "frozen"

    def rescue(self) -> None:
        """Count as frozen whatever is: the guard that froze it is no more."""
        self._frozen = list(range(len(self._filesystems)))
        self.is_rescue = True

    def thaw(self, *, prove: bool = False) -> str:
        """Let go of what is frozen, in reverse order, whatever goes wrong.

        :param prove: whether to see first that each is frozen.
        :return: the results.
        """
        results = [_NOT_FROZEN] * len(self._filesystems)
        while self._frozen:
            index = self._frozen.pop()
            # Refused where it is frozen. A freeze by somebody else that is under way is waited for,
            # so that the counters show it (fs/super.c, freeze_super, since Linux 6.6).
            if prove and not _ioctl(self._filesystems[index], FIFREEZE):
                results[index] = str(_ioctl(self._filesystems[index], FITHAW) or errno.EINVAL)
                continue
            was_written = self._counters[index].has_changed()
            number = _ioctl(self._filesystems[index], FITHAW)
            results[index] = "w" if was_written and not number else str(number)
        return ",".join(results)


class _Counter:
    """Counts what is written to a filesystem's disk: nothing is, while it is frozen.

    A thaw by somebody else, and a freeze after it, write to the disk: at least the superblock or
    the log. A filesystem without a device of its own (btrfs has several) has no counter, and one
    with a swap file (swapon(8)) none that tells anything, for the kernel swaps past the freeze. Nor
    has a disk whose counters are switched off (``queue/iostats``).
    """

    def __init__(self, device: str) -> None:
        try:
            self._file = os.open(f"/sys/dev/block/{device}/stat", os.O_RDONLY)
        except OSError:
            self._file = -1
        self._is_off = _is_off(device)
        self._before: bytes | None = None

    def start(self, *, is_swapped_to: bool) -> None:
        self._before = None if is_swapped_to or self._is_off else self._read()

    def has_changed(self) -> bool:
        return self._before is not None and self._before != self._read()

    def _read(self) -> "bytes | None":
        if self._file < 0:
            return None
        # Sectors written (Documentation/block/stat.rst). The number of writes shows nothing: a
        # flush of the disk's cache, by sync(2) for instance, counts as a write of no sectors.
        return os.pread(self._file, 4096, 0).split()[6]


def _is_off(device: str) -> bool:
    """Tell whether a disk counts nothing; a partition has its disk's switch, one level up."""
    for place in ("queue", "../queue"):
        try:
            switch = os.open(f"/sys/dev/block/{device}/{place}/iostats", os.O_RDONLY)
        except OSError:
            continue
        said = os.read(switch, 8)
        os.close(switch)
        return said.strip() == b"0"
    return False


def _ioctl(filesystem: Mounted, request: int) -> int:
    try:
        ioctl(filesystem.descriptor, request, 0)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def say(line: str) -> None:
    """Report to the agent, if it is still there.

    :param line: the line.
    """
    try:
        os.write(1, f"{line}\n".encode(errors="surrogateescape"))
    except OSError:
        # Nobody listens; what is held is let go all the same.
        return


def lock_memory() -> None:
    """Keep every page of this program in memory: none may have to come from what it freezes."""
    if _libc.mlockall(_LOCK_ALL) != 0:
        say("0 unlocked")


def open_target(target: str) -> Mounted:
    """Open a filesystem.

    :param target: the target.
    :return: the filesystem.
    :raises RefusedError: where it cannot be opened, or is another one.
    """
    how, *fields = target.split(",")
    if how == "fd":
        return Mounted(int(fields[0]), fields[1])
    path = os.fsdecode(bytes.fromhex(fields[0]))
    if how == "device":
        return open_device(path, fields[1], fields[2])
    return open_path(path, fields[1], int(fields[2]) if how == "fresh" else 0)


def pass_on(filesystems: "list[Mounted]") -> None:
    """Give the agent a descriptor of each filesystem, with which it can thaw in this guard's place.

    :param filesystems: the filesystems.
    :raises RefusedError: where the agent does not take them: it has ended, or needs this guard no
        more.
    """
    agent = _socket.socket(fileno=os.dup(DESCRIPTORS))
    numbers = [each.descriptor for each in filesystems]
    try:
        for start in range(0, len(numbers), _MOST_PASSED):
            passed = array.array("i", numbers[start : start + _MOST_PASSED])
            agent.sendmsg([b"."], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)])
    except OSError as error:
        raise RefusedError(f"the agent takes no descriptors: {error}") from error
    finally:
        agent.close()


def prepare(number: int, rest: str) -> Held:
    """Open the filesystems, and get ready to freeze them.

    :param number: the number of the order.
    :param rest: the targets.
    :return: the filesystems.
    :raises RefusedError: where one cannot be opened, is frozen already, or cannot be passed on.
    """
    targets = rest.split()
    opened = [open_target(target) for target in targets]
    fresh = [each for each, how in zip(opened, targets) if how.startswith("fresh,")]  # noqa: B905
    frozen = find_frozen(fresh)
    if frozen is not None:
        point = os.fsdecode(frozen.point)
        raise RefusedError(
            f"{point}: somebody else has frozen it already, or its disk does not answer: find out "
            f"who, or run 'fsfreeze --unfreeze {point}'"
        )
    if fresh:
        pass_on(fresh)
    held = Held(opened)
    lock_memory()
    say(" ".join([f"{number} ready", *(each.describe() for each in opened)]))
    return held


def obey(orders: Orders, held: Held) -> int:
    """Carry out the orders until it is time to let go.

    :param orders: the orders.
    :param held: the filesystems.
    :return: the number of the order to let go; 0 where there was none.
    """
    while True:
        order = orders.next()
        if order is None:
            return 0
        number, word, _ = order
        if word == "thaw":
            return number
        if word == "freeze":
            say(f"{number} {held.freeze(orders.are_over)}")
        else:
            held.rescue()


def main() -> None:
    """Open, freeze, hold and let go."""
    os.setsid()
    orders = Orders()
    first = orders.next()
    if first is None:
        sys.exit(0)
    number, _, rest = first
    try:
        held = prepare(number, rest)
    except RefusedError as refused:
        say(f"{number} refused {refused}")
        sys.exit(1)
    number = 0
    try:
        number = obey(orders, held)
    finally:
        say(f"{number} thawed {held.thaw(prove=number > 0 and not held.is_rescue)}")
