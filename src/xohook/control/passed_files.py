"""Connections that receive no open files, whatever their other end passes along.

A client may pass open files over a UNIX socket (unix(7), SCM_RIGHTS). The last close of a file may
block for as long as its sender likes, for instance that of a TCP socket with SO_LINGER (socket(7)).
The kernel makes it wherever a message with a file is received, and wherever a socket is closed in
which one waits unread.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime

MOST = 256
"""Connections that wait to be closed, with which no more are accepted (docs/protocol.rst,
Connecting)."""

PERIOD = 0.05
"""Seconds between two looks whether the closing thread has ended."""

# A table of descriptors of the thread's own (unshare(2); linux/sched.h).
_CLONE_FILES = 0x400
_libc = ctypes.CDLL(None, use_errno=True)


class Closer:
    """Closes connections in which unread files may wait, in one thread at a time.

    A socket does not linger when a task closes it by exiting (``PF_EXITING`` in the kernel's
    ``inet_release``). So the thread takes a table of descriptors of its own, keeps these
    connections alone in it, and exits when the agent has closed its own descriptors of them.

    :param clock: has this object look after the thread.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: list[int] = []
        self._closing: list[int] = []

    @property
    def is_full(self) -> bool:
        """Whether so many connections wait that no more are to be accepted."""
        return len(self._waiting) + len(self._closing) >= MOST

    def close(self, descriptor: int) -> None:
        """Close a connection soon.

        :param descriptor: its descriptor, which belongs to this object from now on.
        """
        self._waiting.append(descriptor)
        if not self._closing:
            self._begin()

    def _begin(self) -> None:
        self._closing, self._waiting = self._waiting, []
        work = _Work(tuple(self._closing))
        try:
            work.start()
        except RuntimeError:
            # There is no room for a thread now (pthread_create(3), EAGAIN).
            self._clock.callLater(PERIOD, self._retry)
            return
        self._clock.callLater(0, self._look, work)

    def _retry(self) -> None:
        self._waiting += self._closing
        self._begin()

    def _look(self, work: _Work) -> None:
        work.hand_over()
        # The thread's exit closes them, so its end in Python is too early.
        if work.is_alive() or Path(f"/proc/self/task/{work.native_id}").exists():
            self._clock.callLater(PERIOD, self._look, work)
            return
        self._closing = []
        if self._waiting:
            self._begin()


class _Work(threading.Thread):
    """Closes some connections by its exit.

    It must not call the reactor: its table has none of the agent's other descriptors.

    :param descriptors: the connections'.
    """

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        super().__init__(daemon=True)
        self._descriptors = descriptors
        self._is_held = threading.Event()
        self._is_handed_over = threading.Event()

    def hand_over(self) -> None:
        """Close the agent's own descriptors as soon as the thread has others of them."""
        if self._is_held.is_set() and not self._is_handed_over.is_set():
            for each in self._descriptors:
                os.close(each)
            self._is_handed_over.set()

    def run(self) -> None:
        """Hold the connections until the agent has closed them."""
        if _libc.unshare(_CLONE_FILES):
            # Some sandbox forbids it. The closes may block then, but this thread alone.
            for each in self._descriptors:
                os.close(each)
            return
        _close_all_but(self._descriptors)
        self._is_held.set()
        self._is_handed_over.wait()


def _close_all_but(kept: tuple[int, ...]) -> None:
    most = max(int(each.name) for each in Path("/proc/thread-self/fd").iterdir()) + 1
    first = 0
    for each in (*sorted(kept), most):
        os.closerange(first, each)
        first = each + 1


class Connection(socket.socket):
    """An accepted connection. It fails at the first passed file, and does not receive it.

    :param accepted: the connection, which is taken over.
    :param close: closes a descriptor in which unread files may wait.
    """

    def __init__(self, accepted: socket.socket, close: Callable[[int], None]) -> None:
        super().__init__(fileno=accepted.detach())
        self._close_elsewhere = close
        # Otherwise the kernel throws urgent data away when it reads past it, with its files.
        self.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def recvmsg(self, size: int, room: int = 0, flags: int = 0, /) -> Any:
        """Receive bytes.

        :param size: how many at most.
        :param room: room for files, which is not used.
        :param flags: as of recvmsg(2).
        :return: as that of a socket, without files.
        :raises OSError: if a file was passed, which stays in the socket.
        """
        # Without room for files, a look (MSG_PEEK) takes none, and ends with the first of them.
        seen, _, found, _ = super().recvmsg(size, 0, flags | socket.MSG_PEEK)
        if found & socket.MSG_CTRUNC:
            raise OSError(errno.EPROTO, "the client passes an open file")
        return super().recvmsg(len(seen) or 1, 0, flags)

    def close(self) -> None:
        """Close the connection; elsewhere if something waits in it unread."""
        if self.fileno() < 0:
            return
        with suppress(OSError):
            # From here on nothing more comes in.
            self.shutdown(socket.SHUT_RDWR)
        waiting = bytearray(struct.calcsize("i"))
        fcntl.ioctl(self, termios.FIONREAD, waiting)
        if any(waiting):
            self._close_elsewhere(self.detach())
        else:
            super().close()
