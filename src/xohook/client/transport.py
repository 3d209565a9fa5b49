"""The connection to the agent, for the styles that have no transports of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
from pathlib import Path
from weakref import WeakSet

from xohook.client.loop import RegistrationLoop

_READ = 64 * 1024
_sockets: WeakSet[socket.socket] = WeakSet()


def close_in_children(connection: socket.socket) -> None:
    """Close a connection in processes that are forked, so that it ends when this process ends.

    :param connection: the connection's socket.
    """
    _sockets.add(connection)


def _close_all() -> None:
    for connection in list(_sockets):
        connection.close()


os.register_at_fork(after_in_child=_close_all)


def refuse_stranger(connection: socket.socket, path: str) -> None:
    """Refuse an agent that may be any local user's (docs/protocol.rst, Connecting).

    The agent may be root's or this user's own. It may also be that of the user who owns the
    socket's directory, unless everybody may write to that directory, as to ``/tmp``.

    :param connection: a connected socket.
    :param path: the path that it is connected to.
    :raises OSError: where another user listens.
    """
    size = struct.calcsize("3i")
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", peer)
    if uid in (0, os.geteuid()):
        return
    directory = Path(path).parent.stat()
    if uid == directory.st_uid and not directory.st_mode & (stat.S_IWOTH | stat.S_ISVTX):
        return
    raise OSError(
        f"user {uid} listens there, who is neither root nor user {os.geteuid()} nor the owner of a"
        " directory that only its owner can write to: end that process, and set the agent's option"
        " control to a path in a directory of its user"
    )


class Transport:
    """A connection to the agent that never blocks. It moves bytes from and to the loop.

    :param path: the agent's socket.
    :param loop: what reads and writes.
    :raises OSError: where it cannot connect, or another user's program listens.
    """

    def __init__(self, path: str, loop: RegistrationLoop) -> None:
        self._loop = loop
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        close_in_children(self.socket)
        try:
            self.socket.setblocking(False)
            self.socket.connect(path)
            refuse_stranger(self.socket, path)
        except BaseException:
            self.socket.close()
            raise

    def read(self) -> None:
        """Read some of what has arrived."""
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._loop.disconnect(f"the connection to the agent has ended: {error.strerror}")
            return
        if data:
            self._loop.receive(data, time.monotonic())
        else:
            self._loop.disconnect("the agent has closed the connection")

    def write(self) -> None:
        """Send some of what is outgoing."""
        outgoing = self._loop.outgoing
        if not outgoing:
            return
        try:
            # An application may have set SIGPIPE back to its default, which ends the process.
            del outgoing[: self.socket.send(outgoing, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            return
        except OSError:
            # What the agent sent before it closed the connection has yet to be read.
            outgoing.clear()

    def shut_down(self) -> None:
        """End the connection, from any thread. The next :meth:`read` sees the end."""
        # It may have ended already.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and close the socket."""
        self.shut_down()
        # An application that becomes a daemon may have closed all descriptors, this one with them.
        with contextlib.suppress(OSError):
            self.socket.close()
