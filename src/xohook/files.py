"""Private files, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
    with _complete_draft(path, data, lasting=lasting) as draft:
        draft.replace(path)


def create_private(path: Path, data: bytes) -> bool:
    """Put a lasting private file in place unless there is one.

    Of several that try at once exactly one succeeds, and the others find its file complete.

    :param path: the file; its directory exists.
    :param data: the whole content.
    :return: True if this call made the file, False if it was there.
    :raises OSError: the file cannot be written.
    """
    with _complete_draft(path, data, lasting=True) as draft:
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return False
    return True


def remove_lastingly(path: Path) -> None:
    """Remove a file so that it does not come back after a loss of power.

    :param path: the file; it need not be there.
    :raises OSError: it cannot be removed.
    """
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


@contextmanager
def _complete_draft(path: Path, data: bytes, *, lasting: bool) -> Iterator[Path]:
    directory = path.parent
    # mkstemp makes the file with mode 0600, so that there is no moment in which others can read.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=directory)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _give_to_owner(file.fileno(), directory)
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        yield draft
        if lasting:
            _sync_directory(directory)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _give_to_owner(descriptor: int, directory: Path) -> None:
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
