"""Private files, written whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xohook.host import ownership

# A name of 64 random bits is free at the first try, unless somebody sees to the contrary.
_TRIES = 100


def write_private(path: Path, data: bytes, *, lasting: bool = False) -> None:
    """Put a file in place that only its owner can read, replacing what was there.

    A reader sees the old content or the new one, whole, even if this process dies midway. As
    root, the file is given to the directory's owner, so that an agent that runs as that user can
    read what root made.

    :param path: the file; its directory exists.
    :param data: the whole content.
    :param lasting: whether it must outlive a loss of power right after the call; this waits for
        the disk.
    :raises OSError: the file cannot be written; an old one is as it was.
    """
    with (
        _directory_of(path) as directory,
        _complete_draft(directory, path, data, lasting=lasting) as draft,
    ):
        os.replace(draft, path.name, src_dir_fd=directory, dst_dir_fd=directory)


def create_private(path: Path, data: bytes, uid: int | None = None) -> bool:
    """Put a lasting private file in place unless there is one.

    Of several that try at once exactly one succeeds, and the others find its file complete.

    :param path: the file; its directory exists.
    :param data: the whole content.
    :param uid: the user to whom the directory has to belong: root makes a file for another user
        there, who could exchange the directory for one that is not theirs. By default the user of
        this process.
    :return: True if this call made the file, False if it was there.
    :raises OSError: the file cannot be written.
    :raises StartError: the directory is not that user's alone.
    """
    uid = os.geteuid() if uid is None else uid
    directory = ownership.open_directory(path.parent, uid, own=True)
    try:
        with _complete_draft(directory, path, data, lasting=True) as draft:
            try:
                os.link(draft, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            except FileExistsError:
                return False
        return True
    finally:
        os.close(directory)


def remove_lastingly(path: Path) -> None:
    """Remove a file so that it does not come back after a loss of power.

    :param path: the file; it need not be there.
    :raises OSError: it cannot be removed.
    """
    with _directory_of(path) as directory:
        with suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=directory)
        os.fsync(directory)


@contextmanager
def _directory_of(path: Path) -> Iterator[int]:
    """Hold the directory open: nobody can exchange it between two steps."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _complete_draft(directory: int, path: Path, data: bytes, *, lasting: bool) -> Iterator[str]:
    descriptor, draft = _begin(directory, path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _give_to_owner(file.fileno(), directory)
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        yield draft
        if lasting:
            os.fsync(directory)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)


def _begin(directory: int, path: Path) -> tuple[int, str]:
    # Made with mode 0600, so that there is no moment in which others can read.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_TRIES):
        name = f".{path.name}.{secrets.token_hex(8)}"
        with suppress(FileExistsError):
            return os.open(name, flags, 0o600, dir_fd=directory), name
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _give_to_owner(descriptor: int, directory: int) -> None:
    owner = os.fstat(directory)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
