"""One agent a state directory: two would remove each other's stamp.

The lock is on the directory itself. A lock file would have to be made, and that waits for ever
where an earlier agent left the filesystem frozen.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from xohook.errors import StartError
from xohook.host import ownership

# What flock(2) says where a filesystem cannot lock a directory: NFS makes a lock for writing of it,
# which no directory can be opened for (EBADF), or has no lock server (ENOLCK); others know none.
_NOT_OFFERED = {
    errno.EBADF,
    errno.EINVAL,
    errno.EIO,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
}
_PROC = Path("/proc")
# "1: FLOCK  ADVISORY  WRITE 812 fd:00:1234 0 EOF" (proc(5), /proc/locks).
_LOCK = re.compile(r"FLOCK +ADVISORY +WRITE +(-?\d+) +([0-9a-f]+):([0-9a-f]+):(\d+) ")


class StateLock:
    """The lock on one state directory.

    :param directory: the state directory.
    :param uid: the agent's user.
    """

    _log = Logger()

    def __init__(self, directory: Path, uid: int) -> None:
        self._directory = directory
        self._uid = uid
        self._held: int | None = None

    @property
    def is_taken(self) -> bool:
        """Whether this process has locked the directory, or tried all that can be done."""
        return self._held is not None

    def take(self) -> None:
        """Lock the directory, if it is there and this process has not locked it yet.

        The lock lasts until this process and its children by fork have ended. A process that has
        been killed and hangs in the kernel keeps its lock, but writes nothing more: it is passed
        over. So is a filesystem that has no locks, with a warning.

        :raises StartError: another agent has it.
        """
        if self._held is not None:
            return
        try:
            self._held = ownership.open_directory(self._directory, self._uid, own=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StartError(
                f"cannot lock the state directory {self._directory}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._refuse_living(holders(self._held))
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise StartError(
                    f"cannot lock the state directory {self._directory}: {error.strerror}"
                ) from error
            self._log.warn(
                "the state directory {directory} cannot be locked, for its filesystem says"
                " {problem}: see that no other agent uses it",
                directory=str(self._directory),
                problem=error.strerror,
            )

    def _refuse_living(self, pids: tuple[int, ...]) -> None:
        living = [pid for pid in pids if not is_dying(pid)]
        if living or not pids:
            who = f"process {living[0]}" if living else "which is in another container or user's"
            raise StartError(
                f"another agent ({who}) is running with the state directory {self._directory}: "
                "stop it, or give this one a state_directory of its own"
            )
        self._log.warn(
            "the state directory {directory} is locked by process {pid}, which was killed and hangs"
            " in the kernel: going on without it",
            directory=str(self._directory),
            pid=pids[0],
        )


def holder(directory: Path) -> int | None:
    """Tell which process has locked a state directory, without locking it.

    :param directory: the state directory; it need not be there.
    :return: its number; None where there is none, or none to be seen from here, or where all who
        have it are dying, whom :class:`StateLock` passes over.
    """
    with suppress(OSError):
        seen = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return next((pid for pid in holders(seen) if not is_dying(pid)), None)
        finally:
            os.close(seen)
    return None


def holders(descriptor: int) -> tuple[int, ...]:
    """Tell which processes hold a file's lock.

    :param descriptor: the open file.
    :return: their numbers; none where the kernel shows none, as of another process namespace
        (proc(5)).
    """
    found = os.fstat(descriptor)
    first = tuple(pid for pid in _lockers(_text(_PROC / "locks"), found) if pid > 0)
    if not first or not all(map(is_dying, first)):
        return first
    # Who locked it may have ended and left the lock to a child, as twistd in the background does.
    numbers = sorted(int(each.name) for each in _PROC.iterdir() if each.name.isdecimal())
    return tuple(pid for pid in numbers if _holds(pid, found)) or first


def is_dying(pid: int) -> bool:
    """Tell whether a process runs no more of its program, though it may still be there.

    :param pid: its number.
    :return: whether it has ended, or will as soon as the kernel lets it.
    """
    fields = dict(re.findall(r"^(\w+):\s*(\S+)", _text(_PROC / str(pid) / "status"), re.MULTILINE))
    if not fields or fields["State"] in "ZX":
        return True
    killed = 1 << (signal.SIGKILL - 1)
    return bool((int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)) & killed)


def _holds(pid: int, found: os.stat_result) -> bool:
    with suppress(OSError):
        for each in (_PROC / str(pid) / "fdinfo").iterdir():
            if list(_lockers(_text(each), found)):
                return True
    return False


def _lockers(text: str, found: os.stat_result) -> Iterator[int]:
    for pid, major, minor, inode in _LOCK.findall(text):
        device = os.makedev(int(major, 16), int(minor, 16))
        # A subvolume of btrfs has a number of its own, which the kernel does not show here; such
        # numbers have no major one.
        is_device = device == found.st_dev or not os.major(found.st_dev)
        if int(inode) == found.st_ino and is_device:
            yield int(pid)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
