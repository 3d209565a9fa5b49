"""The control socket: a UNIX socket that nobody can connect to who is not meant to.

Its mode and its group are its whole protection (unix(7), Pathname socket ownership and
permissions), so they are right before anybody can connect.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocolFactory,
    IReactorFDSet,
    IReactorSocket,
    IReactorTime,
    IReadDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xohook.errors import StartError

LONGEST_PATH = 107
"""Bytes of a socket's path: 108, of which the last is zero (unix(7), ``sun_path``)."""

PAUSE = 1.0
"""Seconds without accepting when there are no files left to do it with."""

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 100
# struct ucred: a signed pid, the uid and gid unsigned (unix(7), SO_PEERCRED).
_UCRED = struct.Struct("iII")
# The file that a path names, whatever has been put there since: device and inode.
_File = tuple[int, int]


@attrs.frozen
class Peer:
    """The process at the other end of a connection, as the kernel knows it.

    :param uid: its user when it connected.
    :param pid: its number; 0 where it is in no process namespace that is seen from here.
    """

    uid: int
    pid: int


def peer_of(sock: socket.socket) -> Peer:
    """Tell who is at the other end of a connection.

    :param sock: a connected UNIX socket.
    :return: the process that connected.
    """
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return Peer(uid=uid, pid=pid)


def open_control(path: Path, group: int | None) -> socket.socket:
    """Open the control socket, in the place of one that a dead agent has left.

    :param path: where; its directory exists.
    :param group: the group whose members may connect, besides root and the agent's own user.
    :return: a listening, non-blocking socket, for :func:`close_control`.
    :raises StartError: it cannot be opened, or somebody listens there.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StartError(
            f"cannot open the control socket {path}: a socket's path has room for {LONGEST_PATH} "
            "bytes; name a shorter one in control"
        )
    with _told(path), _alone(path):
        _make_way(path)
        return _bind(path, group)


def close_control(sock: socket.socket, path: Path) -> None:
    """Close the control socket, and remove its path if nobody has put another thing there.

    :param sock: what :func:`open_control` gave; the path of a socket that did not come from there,
        but from systemd, stays.
    :param path: where it was opened.
    """
    # Removed first: as long as it listens, no other agent takes its place.
    own = sock.file if isinstance(sock, _Bound) else None
    if own is not None and own == _file_at(path):
        with suppress(OSError):
            path.unlink()
    sock.close()


def let_reach(directory: Path) -> None:
    """Let others reach a socket in a directory of the agent's own, but neither list it nor write.

    :param directory: the directory; where it is another user's, it is left as it is.
    :raises StartError: its mode cannot be changed.
    """
    try:
        found = directory.stat()
        mode = stat.S_IMODE(found.st_mode)
        reachable = mode | stat.S_IXGRP | stat.S_IXOTH
        if found.st_uid == os.geteuid() and mode != reachable:
            directory.chmod(reachable)
    except OSError as error:
        raise StartError(
            f"cannot let control_group reach the control socket in {directory}: {error.strerror}; "
            "name a path in another directory in control"
        ) from error


class _Bound(socket.socket):
    """A socket that knows which file its path became."""

    file: _File | None = None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StartError(
            f"cannot open the control socket {path}: {error.strerror} ({error.filename or path}); "
            f"see that the directory {path.parent} is there and user {os.geteuid()} may write to "
            "it, or name another path in control"
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other agents from opening the same path meanwhile.

    Without this, two that find a dead agent's socket could each remove it, the second one the
    first one's new socket; and a socket that is bound and does not listen yet looks dead. Once it
    listens, a look at it tells. The file stays: were it removed, two could lock two files.
    """
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    held = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        _lock(held, path)
        yield
    finally:
        os.close(held)


def _lock(held: int, path: Path) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(
            f"another agent is opening the control socket {path} at this moment: give one of the "
            "two another path in control"
        ) from None


def _make_way(path: Path) -> None:
    """Remove a socket on which nobody listens; refuse anything else that is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(
            f"cannot open the control socket {path}: what is there is not a socket; move it away, "
            "or name another path in control"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        # One that listens and is too busy to accept says so at once (connect(2), EAGAIN).
        probe.setblocking(False)
        answer = probe.connect_ex(str(path))
    if answer in (0, errno.EAGAIN):
        raise StartError(
            f"somebody listens on the control socket {path} already: stop the other agent ('ss "
            "-xlp' names it), or name another path in control"
        )
    if answer != errno.ECONNREFUSED:
        raise StartError(
            f"cannot tell whether somebody listens on the control socket {path}: "
            f"{os.strerror(answer)}; remove it if nobody does, or name another path in control"
        )
    path.unlink()


def _bind(path: Path, group: int | None) -> socket.socket:
    new = _Bound(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        mask = os.umask(0o177)
        try:
            new.bind(str(path))
        finally:
            os.umask(mask)
        new.file = _file_at(path)
        if group is not None:
            _give_to_group(path, group)
        new.setblocking(False)
        new.listen(_BACKLOG)
    except BaseException:
        close_control(new, path)
        raise
    return new


def _give_to_group(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
        path.chmod(0o660)
    except OSError as error:
        raise StartError(
            f"cannot give the control socket {path} to the group {group}: {error.strerror}; make "
            "the agent's user a member of it, or name another one in control_group"
        ) from error


def _file_at(path: Path) -> _File | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@implementer(IReadDescriptor)
class ControlPort:
    """Accepts the connections to a control socket.

    Twisted's own port for UNIX sockets would set mode 0666, listen with a backlog of 50, and at its
    end shut the socket down, which systemd could not use again then, and remove its path.

    :param reactor: the reactor; it provides ``IReactorFDSet`` and ``IReactorTime`` as well.
    :param listening: a listening, non-blocking UNIX socket; it stays the caller's.
    :param factory: makes the protocols; None instead of one closes the connection.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorSocket, listening: socket.socket, factory: IProtocolFactory
    ) -> None:
        self._reactor = reactor
        self._readers = IReactorFDSet(reactor)
        self._clock = IReactorTime(reactor)
        self._listening = listening
        self._factory = factory
        self._resume: IDelayedCall | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._resume = None
        self._readers.addReader(self)

    def stop(self) -> None:
        """Accept no more; connections that were accepted go on."""
        self._readers.removeReader(self)
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def fileno(self) -> int:
        """Tell the reactor what to look at.

        :return: the socket's descriptor.
        """
        return self._listening.fileno()

    def doRead(self) -> None:
        """Accept who waits, as many as may be before the reactor turns to others."""
        try:
            for _ in range(_ACCEPTED_AT_ONCE):
                connection, _ = self._listening.accept()
                self._adopt(connection)
        except BlockingIOError:
            return
        except OSError as error:
            # They wait in the kernel, and would be offered again at once.
            self._log.error(
                "the control socket accepts nobody for a moment: {error}", error=error.strerror
            )
            self._readers.removeReader(self)
            self._resume = self._clock.callLater(PAUSE, self.start)

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: a listening socket has no connection to lose.

        :param reason: why the reactor looks at it no more.
        """

    def logPrefix(self) -> str:
        """Name this in the log.

        :return: the name.
        """
        return "control"

    def _adopt(self, connection: socket.socket) -> None:
        # The reactor duplicates the descriptor, so this one is closed either way.
        with connection:
            connection.setblocking(False)
            try:
                self._reactor.adoptStreamConnection(
                    connection.fileno(),
                    socket.AF_UNIX,
                    # Twisted types it as ServerFactory, and needs no more than the interface.
                    self._factory,  # type: ignore[arg-type]
                )
            except Exception:  # noqa: BLE001 - out of here, it would end all accepting
                self._log.failure("a connection to the control socket came to nothing")
                # The reactor may have left its duplicate open.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
