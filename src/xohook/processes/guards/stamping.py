"""Writes and removes the stamp, for :mod:`xohook.processes.guards.writer`.

Only one writer of a stamp works at a time. A frozen disk can hold up a writer's rename or unlink
beyond the end of its agent. When the disk is thawed, that call acts on whatever has the name by
then. So a writer locks a file beside the stamp before its first order, and the next agent's writer
waits for that lock. The kernel releases it when the writer has ended, and so after the call.
"""

import errno
import fcntl
import os
import select
from contextlib import suppress
from pathlib import Path

from xohook.processes.guards.frames import agent_is_there, answer

LOCK = "stamp.lock"
"""The file beside the stamp whose lock (flock(2)) a writer has from its first order to its end."""

_NOT_OFFERED = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What flock(2) says where a filesystem has no locks."""


class Stamp:
    """The stamp.

    :param path: its absolute path.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._is_alone = False

    def obey(self, word: str, *values: "str | int | bytes") -> None:
        """Carry out an order, and say how it went.

        :param word: what to do.
        :param values: the order's number, and what it needs.
        """
        number, *rest = values
        try:
            if not self._is_alone and not self._lock():
                return
            if word == "press":
                for data in rest:
                    self._press(bytes(data))  # type: ignore[arg-type] # It is bytes.
            else:
                self._lift()
        except FileNotFoundError as error:
            # Without the directory there is no stamp.
            answer(int(number), "" if word == "lift" else str(error.strerror))
        except OSError as error:
            answer(int(number), error.strerror or str(error))
        else:
            answer(int(number), "")

    def watch(self, watch: select.poll) -> None:
        """Have nothing else watched."""

    def pass_on(self) -> None:
        """Pass on nothing."""

    def _lock(self) -> bool:
        """Wait until no other writer of this stamp is left.

        :return: whether the agent still is there, if there was one to wait for.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        # It is never closed: the lock lasts until the process has ended.
        opened = os.open(self._path.with_name(LOCK), flags, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(opened, fcntl.LOCK_EX)
            # The next agent's start judges the stamp itself.
            if not agent_is_there():
                return False
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
        self._is_alone = True
        return True

    def _press(self, data: bytes) -> None:
        try:
            self._write(data)
            if not agent_is_there():
                # This was stuck, and the agent has ended meanwhile: its window is over.
                return
            self._draft.rename(self._path)
        finally:
            with suppress(FileNotFoundError):
                self._draft.unlink()
        self._sync_directory()

    def _write(self, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        draft = os.open(self._draft, flags, 0o600)
        try:
            owner = self._path.parent.stat()
            if os.geteuid() == 0 and owner.st_uid != 0:
                # An agent that runs as the directory's owner has to read it.
                os.fchown(draft, owner.st_uid, owner.st_gid)
            while data:
                data = data[os.write(draft, data) :]
            os.fsync(draft)
        finally:
            os.close(draft)

    def _lift(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._sync_directory()

    def _sync_directory(self) -> None:
        opened = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
