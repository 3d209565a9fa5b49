"""Directories and files that are trusted only where no other user can change them.

What lies in the state and runtime directory is carried out: thaws are command lines. So each path
is opened component by component, and each component is judged on the open descriptor. What was
judged is what is used; nobody can exchange it in between.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from xohook.errors import StartError

LONGEST = 4 * 1024 * 1024
"""Bytes of a file that is read at a start. A record with 10,000 participants of 200 bytes each has
half of that, and JSON of this size is parsed in less than a second."""

_SEEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_directory(
    path: Path, uid: int, *, make: bool = False, own: bool = False, shared: bool = False
) -> int:
    """Open a directory that nobody but root and one user can change.

    :param path: the directory.
    :param uid: the user.
    :param make: make it with mode 0700 where it is missing, and its parents with 0755, less what
        the umask takes away.
    :param own: whether it must belong to the user; else it may be root's.
    :param shared: whether others may make files of their own in it, as in ``/tmp``: where it is
        sticky, they cannot change what is not theirs (unlink(2)).
    :return: a descriptor, for the caller to close.
    :raises OSError: it is not there, is no directory, or cannot be made or opened.
    :raises StartError: another user can change it or the way to it.
    """
    path = path.absolute()
    with _walk(path, uid, make=make) as seen:
        found = os.fstat(seen)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        if shared:
            _refuse_shared(path, found, uid)
        else:
            _refuse_directory(path, found, uid, own=own)
        return _reopen(seen, path, os.O_DIRECTORY)


def read(path: Path, uid: int) -> tuple[bytes, os.stat_result]:
    """Read a file that nobody but root and one user can change.

    Root reads for another user only what belongs to that user.

    :param path: the file.
    :param uid: the user.
    :return: its content, and what it was when it was read.
    :raises OSError: it is not there or cannot be read.
    :raises StartError: another user can change it or the way to it, or it is no regular file, or
        longer than :data:`LONGEST`.
    """
    path = path.absolute()
    with _walk(path, uid) as seen:
        found = os.fstat(seen)
        _refuse_kind(path, found)
        _refuse_file(path, found, uid)
        return _content(seen, path), found


def read_given(path: Path) -> tuple[bytes, os.stat_result]:
    """Read a file that the administrator names, whoever it belongs to.

    :param path: the file.
    :return: its content, and what it was when it was read.
    :raises OSError: it is not there or cannot be read.
    :raises StartError: everybody can write to it, or it is no regular file, or longer than
        :data:`LONGEST`.
    """
    seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(seen)
        _refuse_kind(path, found)
        if found.st_mode & stat.S_IWOTH:
            raise StartError(
                f"Everybody may write to {path} (mode {found.st_mode & 0o777:04o}): run "
                f"'chmod o-w {shlex.quote(str(path))}'"
            )
        return _content(seen, path), found
    finally:
        os.close(seen)


def read_regular(path: Path) -> bytes:
    """Read a regular file, whoever can change it.

    :param path: the file.
    :return: its content.
    :raises OSError: it is not there, cannot be read, is no regular file, or longer than
        :data:`LONGEST`.
    """
    seen = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        kind = stat.S_IFMT(os.fstat(seen).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            words = f"it is {_KINDS.get(kind, 'something else')}, and not a regular file"
            raise OSError(errno.EINVAL, words, str(path))
        with os.fdopen(_reopen(seen, path, os.O_NONBLOCK), "rb") as file:
            data = file.read(LONGEST + 1)
    finally:
        os.close(seen)
    if len(data) > LONGEST:
        words = f"it is longer than {LONGEST // 1024 // 1024} MiB"
        raise OSError(errno.EFBIG, words, str(path))
    return data


def look_at(path: Path, uid: int) -> os.stat_result:
    """Judge the way to something, and not the thing itself.

    :param path: where it is.
    :param uid: the user who can change it, besides root.
    :return: what is there.
    :raises OSError: it is not there.
    :raises StartError: another user can change the way to it.
    """
    with _walk(path.absolute(), uid) as seen:
        return os.fstat(seen)


def user_of(directory: Path, uid: int) -> int:
    """Tell which agent a command acts for: run by root, it acts for the directory's owner.

    :param directory: the agent's directory; it need not be there.
    :param uid: who runs the command.
    :return: the agent's user.
    """
    if uid == 0:
        with suppress(OSError):
            return directory.stat().st_uid
    return uid


def fault(
    path: Path, found: os.stat_result, uid: int, *, private_group: bool = False
) -> tuple[str, str] | None:
    """Tell who else can write to something.

    :param path: where it is.
    :param found: what it is.
    :param uid: the user who may, besides root.
    :param private_group: whether a group with the owner's number may, too. It is that user's own,
        by the custom of useradd(8) on distributions whose umask is 002.
    :return: what is wrong, and the command that repairs it; None where nobody can.
    """
    quoted = shlex.quote(str(path))
    if found.st_uid not in (0, uid):
        return (
            f"{path} belongs to user {found.st_uid}, and the agent is user {uid}",
            f"chown {uid} {quoted}",
        )
    writers = found.st_mode & _OTHERS_WRITE
    if private_group and found.st_gid == found.st_uid:
        writers &= ~stat.S_IWGRP
    if writers:
        mode = f"{found.st_mode & 0o777:04o}"
        return f"Others may write to {path} (mode {mode})", f"chmod go-w {quoted}"
    return None


def _refuse_file(path: Path, found: os.stat_result, uid: int) -> None:
    wrong = fault(path, found, uid)
    if wrong is None and os.geteuid() == 0 and found.st_uid != uid:
        # Root can read what that user cannot, and may have been led there by a link.
        wrong = (
            f"{path} belongs to user {found.st_uid}, and the agent is user {uid}",
            f"chown {uid} {shlex.quote(str(path))}",
        )
    if wrong is not None:
        problem, command = wrong
        raise StartError(
            f"{problem}; nothing in it is carried out. Read it; where it is right, run "
            f"'{command}' as root, else remove it"
        )


def _refuse_directory(path: Path, found: os.stat_result, uid: int, *, own: bool) -> None:
    wrong = fault(path, found, uid)
    if wrong is None and own and found.st_uid != uid:
        wrong = (
            f"{path} belongs to root, and the agent is user {uid}",
            f"chown {uid} {shlex.quote(str(path))}",
        )
    if wrong is not None:
        problem, command = wrong
        raise StartError(
            f"{problem}; nothing in it was read. See what lies in it; where it is right, run "
            f"'{command}' as root, or name another directory"
        )


def _refuse_shared(path: Path, found: os.stat_result, uid: int) -> None:
    wrong = fault(path, found, uid)
    if wrong is not None and not _is_shared_well(found, uid):
        problem, command = wrong
        raise StartError(f"{problem}: run '{command}' as root, or name another directory")


def _refuse_parent(parent: Path, found: os.stat_result, uid: int, path: Path) -> None:
    """See that nobody else can exchange what lies in a directory on the way (as sshd(8) does).

    In a sticky directory only its owner and that of the entry can rename the entry (unlink(2)), and
    the entry is judged next.
    """
    wrong = fault(parent, found, uid, private_group=True)
    if wrong is None or _is_shared_well(found, uid):
        return
    problem, command = wrong
    raise StartError(
        f"{problem}, so that {path} can be exchanged: run '{command}' as root, or name a path "
        "elsewhere"
    )


def _is_shared_well(found: os.stat_result, uid: int) -> bool:
    return found.st_uid in (0, uid) and bool(found.st_mode & stat.S_ISVTX)


def _refuse_link(link: Path, found: os.stat_result, uid: int) -> None:
    if found.st_uid not in (0, uid):
        raise StartError(
            f"{link} is a symbolic link of user {found.st_uid}, who can turn it elsewhere: "
            "remove it, or name another path"
        )


def _refuse_kind(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise StartError(f"{path} is {kind}, and must be a regular file: remove it")


@contextmanager
def _walk(path: Path, uid: int, *, make: bool = False) -> Iterator[int]:
    """Open what a path leads to, judging each directory and link on the way."""
    # Mounts whatever is mounted at first use, which O_PATH does not do (open(2)).
    with suppress(OSError):
        os.stat(f"{path}/.")  # noqa: PTH116 - Path would drop the dot
    seen = os.open("/", _SEEN)
    try:
        here = Path("/")
        left = list(reversed(path.parts[1:]))
        links = 0
        while left:
            _refuse_parent(here, os.fstat(seen), uid, path)
            name = left.pop()
            entry = _enter(name, seen, here, 0o755 if left else 0o700, make=make)
            found = os.fstat(entry)
            if not stat.S_ISLNK(found.st_mode):
                os.close(seen)
                seen = entry
                here = here.parent if name == ".." else here / name
                continue
            try:
                _refuse_link(here / name, found, uid)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                target = PurePath(os.readlink("", dir_fd=entry))
            finally:
                os.close(entry)
            if target.is_absolute():
                os.close(seen)
                seen = os.open("/", _SEEN)
                here = Path("/")
            left += reversed([part for part in target.parts if part != "/"])
        yield seen
    finally:
        os.close(seen)


def _enter(name: str, directory: int, here: Path, mode: int, *, make: bool) -> int:
    try:
        try:
            return os.open(name, _SEEN, dir_fd=directory)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=directory)
        return os.open(name, _SEEN, dir_fd=directory)
    except OSError as error:
        # The words of the system have the name alone, which does not say where.
        where = here if error.errno == errno.ENOTDIR else here / name
        raise type(error)(error.errno, error.strerror, str(where)) from None


def _reopen(seen: int, path: Path, flags: int) -> int:
    """Open for reading just what has been judged."""
    try:
        return os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


def _content(seen: int, path: Path) -> bytes:
    with os.fdopen(_reopen(seen, path, os.O_NONBLOCK), "rb") as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise StartError(
            f"{path} is longer than {LONGEST // 1024 // 1024} MiB, and so is none of the agent's "
            "files: remove it"
        )
    return data
