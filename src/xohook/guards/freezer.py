"""The guard of filesystems: freezes them, holds them and thaws them.

It lets go, in reverse order, as soon as its standard input closes, its time is up or it gets
SIGTERM: whatever becomes of the agent, nothing stays frozen. It is loaded whole and locked in
memory before it freezes anything, and from then on starts nothing and writes to no disk.

The first line of standard input names the mount points, separated by NUL, in the order in which
they are to be frozen. Then each line is an order:

``until SECONDS``
    let go at that time, see :mod:`xohook.guards.orders`;
``freeze``
    freeze them all, or none;
``rescue``
    count them all as frozen: another guard has died over them;
``thaw``
    let go, and end.

On standard output it answers a line each: ``ready`` when the mount points are open, ``frozen``,
``thawed``, or what went wrong, ``refused MOUNT: WHY`` (a freeze; what came before it is let go
again) and ``undone MOUNT: WHY`` (a thaw).
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from fcntl import ioctl

from xohook.guards.orders import Orders

FIFREEZE = 0xC0045877
"""``_IOWR('X', 119, int)`` of linux/fs.h (ioctl_fs(2))."""

FITHAW = 0xC0045878
"""``_IOWR('X', 120, int)`` of linux/fs.h (ioctl_fs(2))."""

_LOCK_ALL = 1 | 2
"""``MCL_CURRENT | MCL_FUTURE`` of mlockall(2)."""

_FREEZE_ERRORS = {
    errno.EBUSY: "somebody else has frozen it already",
    errno.ENOTTY: "this kind of filesystem cannot be frozen",
    errno.EOPNOTSUPP: "this kind of filesystem cannot be frozen",
    errno.EPERM: "only root can freeze it",
}

_WAS_THAWED = "somebody else had thawed it before"

_libc = ctypes.CDLL(None)


class Held:
    """The filesystems that are held.

    :param mounts: their mount points, in the order in which they are frozen.
    :raises OSError: where one cannot be opened.
    """

    def __init__(self, mounts: "list[str]") -> None:
        self._mounts = [(mount, os.open(mount, os.O_RDONLY | os.O_DIRECTORY)) for mount in mounts]
        self._frozen: list[tuple[str, int]] = []
        self._may_be_thawed = False

    def freeze(self, is_over: "Callable[[], bool]") -> str:
        """Freeze them all, or none.

        :param is_over: tells that it is too late for this.
        :return: what went wrong; empty where nothing did.
        """
        for mount, opened in self._mounts:
            problem = "it is too late" if is_over() else _freeze(opened)
            if problem:
                self.thaw()
                return f"refused {mount}: {problem}"
            self._frozen.append((mount, opened))
        return ""

    def rescue(self) -> None:
        """Count as frozen whatever is: the guard that froze it is no more."""
        self._frozen = list(self._mounts)
        self._may_be_thawed = True

    def thaw(self) -> str:
        """Let go of what is frozen, in reverse order, whatever goes wrong.

        :return: what went wrong; empty where nothing did.
        """
        problems = []
        while self._frozen:
            mount, opened = self._frozen.pop()
            problem = _thaw(opened)
            if problem and not (self._may_be_thawed and problem == _WAS_THAWED):
                problems.append(f"{mount}: {problem}")
        return f"undone {'; '.join(problems)}" if problems else ""


def _freeze(opened: int) -> str:
    try:
        ioctl(opened, FIFREEZE, 0)
    except OSError as error:
        return _FREEZE_ERRORS.get(error.errno or 0) or error.strerror or str(error)
    return ""


def _thaw(opened: int) -> str:
    try:
        ioctl(opened, FITHAW, 0)
    except OSError as error:
        return _WAS_THAWED if error.errno == errno.EINVAL else error.strerror or str(error)
    return ""


def say(line: str) -> None:
    """Tell the agent, if it is still there.

    :param line: what to tell.
    """
    try:
        os.write(1, f"{line}\n".encode(errors="surrogateescape"))
    except OSError:
        # Nobody listens; what is held is let go all the same.
        return


def lock_memory() -> None:
    """Keep every page of this program in memory: none may have to come from what it freezes."""
    if _libc.mlockall(_LOCK_ALL) != 0:
        say("unlocked")


def obey(orders: Orders, held: Held) -> None:
    """Carry out the orders until it is time to let go.

    :param orders: the orders.
    :param held: the filesystems.
    """
    while True:
        word = orders.next()
        if word == "freeze":
            say(held.freeze(orders.are_over) or "frozen")
        elif word == "rescue":
            held.rescue()
        else:
            return


def main() -> None:
    """Open, freeze, hold and let go."""
    os.setsid()
    orders = Orders()
    mounts = [mount for mount in orders.next().split("\0") if mount]
    if not mounts:
        sys.exit(0)
    try:
        held = Held(mounts)
    except OSError as error:
        say(f"refused {error.filename}: {error.strerror}")
        sys.exit(1)
    lock_memory()
    say("ready")
    try:
        obey(orders, held)
    finally:
        say(held.thaw() or "thawed")
