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
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocolFactory,
    IReactorFDSet,
    IReactorTime,
    IReadDescriptor,
)
from twisted.internet.unix import Server
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xohook.control.passed_files import PERIOD, Closer, Connection
from xohook.errors import StartError
from xohook.host import ownership
from xohook.host.endpoints import LONGEST_PATH

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
    with _told(path):
        directory = _open_directory(path)
        try:
            with _alone(path, directory):
                _make_way(path, directory)
                return _bind(path, directory, group)
        finally:
            os.close(directory)


def close_control(sock: socket.socket, path: Path) -> None:
    """Close the control socket, and remove its path if nobody has put another thing there.

    :param sock: what :func:`open_control` gave; the path of a socket that did not come from there,
        but from systemd, stays.
    :param path: where it was opened.
    """
    # Removed first: as long as it listens, no other agent takes its place.
    if isinstance(sock, _Bound):
        sock.remove(path.name)
    sock.close()


def let_reach(directory: Path) -> None:
    """Let others reach a socket in a directory of the agent's own, but neither list it nor write.

    :param directory: the directory; where it is root's, it is left as it is.
    :raises StartError: its mode cannot be changed, or it is another user's.
    """
    try:
        held = ownership.open_directory(directory, os.geteuid())
        try:
            found = os.fstat(held)
            mode = stat.S_IMODE(found.st_mode)
            reachable = mode | stat.S_IXGRP | stat.S_IXOTH
            if found.st_uid == os.geteuid() and mode != reachable:
                os.fchmod(held, reachable)
        finally:
            os.close(held)
    except OSError as error:
        raise StartError(
            f"cannot let control_group reach the control socket in {directory}: {error.strerror}; "
            "name a path in another directory in control"
        ) from error


class _Bound(socket.socket):
    """A socket that knows which file its path became, and in which directory."""

    file: _File | None = None
    directory: int | None = None

    def remove(self, name: str) -> None:
        """Remove the file that the path became, if it is still there."""
        if self.directory is None or self.file is None:
            return
        if self.file == _file_at(name, self.directory):
            with suppress(OSError):
                os.unlink(name, dir_fd=self.directory)

    def close(self) -> None:
        """Close the socket, and its directory."""
        if self.directory is not None:
            os.close(self.directory)
            self.directory = None
        super().close()


def _open_directory(path: Path) -> int:
    """Hold the socket's directory open: nobody else can exchange it, or what is made in it."""
    try:
        return ownership.open_directory(path.parent, os.geteuid(), shared=True)
    except StartError as refused:
        raise StartError(f"cannot open the control socket {path}: {refused} (in control)") from None


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
def _alone(path: Path, directory: int) -> Iterator[None]:
    """Keep other agents from opening the same path meanwhile.

    Without this, two that find a dead agent's socket could each remove it, the second one the
    first one's new socket; and a socket that is bound and does not listen yet looks dead. Once it
    listens, a look at it tells. The file stays: were it removed, two could lock two files.
    """
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    name = f"{path.name}.lock"
    held = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        owner = os.fstat(held).st_uid
        if owner not in (0, os.geteuid()):
            raise StartError(
                f"cannot open the control socket {path}: {name} beside it belongs to user {owner}, "
                "who could keep the agent out; remove it, or name another path in control"
            )
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


def _make_way(path: Path, directory: int) -> None:
    """Remove a socket on which nobody listens; refuse anything else that is there."""
    try:
        mode = os.stat(path.name, dir_fd=directory, follow_symlinks=False).st_mode
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
    os.unlink(path.name, dir_fd=directory)


def _bind(path: Path, directory: int, group: int | None) -> socket.socket:
    new = _Bound(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        mask = os.umask(0o177)
        try:
            new.bind(str(path))
        finally:
            os.umask(mask)
        new.directory = os.dup(directory)
        # Opened and not only looked at: from here on it is this file, whatever its name leads to.
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(path.name, flags, dir_fd=directory)
        try:
            found = os.fstat(made)
            if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
                raise StartError(
                    f"cannot open the control socket {path}: another program has put something "
                    "else there meanwhile; name a path in a directory of the agent's own in control"
                )
            new.file = found.st_dev, found.st_ino
            if group is not None:
                _give_to_group(made, path, group)
        finally:
            os.close(made)
        new.setblocking(False)
        new.listen(_BACKLOG)
    except BaseException:
        close_control(new, path)
        raise
    return new


def _give_to_group(made: int, path: Path, group: int) -> None:
    # Neither chown nor chmod takes the descriptor itself (open(2), O_PATH); this link never leads
    # to another file.
    file = Path(f"/proc/self/fd/{made}")
    try:
        os.chown(file, -1, group)
        file.chmod(0o660)
    except OSError as error:
        raise StartError(
            f"cannot give the control socket {path} to the group {group}: {error.strerror}; make "
            "the agent's user a member of it, or name another one in control_group"
        ) from error


def _file_at(name: str, directory: int) -> _File | None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@implementer(IReadDescriptor)
class ControlPort:
    """Accepts the connections to a control socket.

    Twisted's own port for UNIX sockets would set mode 0666, listen with a backlog of 50, and at its
    end shut the socket down, which systemd could not use again then, and remove its path.

    Nor would Twisted's transport alone do: it receives the files that a client passes along.

    :param reactor: the reactor; it provides ``IReactorTime`` as well.
    :param listening: a listening, non-blocking UNIX socket; it stays the caller's.
    :param factory: makes the protocols; None instead of one closes the connection.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactorFDSet, listening: socket.socket, factory: IProtocolFactory
    ) -> None:
        self._readers = reactor
        self._closer = Closer(IReactorTime(reactor))
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
                if self._closer.is_full:
                    self._pause(PERIOD)
                    return
                connection, _ = self._listening.accept()
                self._adopt(connection)
        except BlockingIOError:
            return
        except OSError as error:
            # They wait in the kernel, and would be offered again at once.
            self._log.error(
                "the control socket accepts nobody for a moment: {error}", error=error.strerror
            )
            self._pause(PAUSE)

    def _pause(self, seconds: float) -> None:
        self._readers.removeReader(self)
        self._resume = self._clock.callLater(seconds, self.start)

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: a listening socket has no connection to lose.

        :param reason: why the reactor looks at it no more.
        """

    def logPrefix(self) -> str:
        """Name this in the log.

        :return: the name.
        """
        return "control"

    def _adopt(self, accepted: socket.socket) -> None:
        connection = Connection(accepted, self._closer.close)
        try:
            connection.setblocking(False)
            channel = self._factory.buildProtocol(UNIXAddress(None))
            if channel is None:
                connection.close()
                return
            transport = Server(connection, channel, (None, None), None, 0, self._readers)
            channel.makeConnection(transport)
        except Exception:  # noqa: BLE001 - out of here, it would end all accepting
            self._log.failure("a connection to the control socket came to nothing")
            connection.close()
