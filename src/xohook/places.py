"""Where the agent keeps its things when the configuration does not say, and how safe that is."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from xohook.errors import StartError


def state_directory(environ: Mapping[str, str], uid: int) -> Path:
    """Tell where lasts what outlives a boot: certificate, secret, the VM's name.

    systemd's ``STATE_DIRECTORY`` (systemd.exec(5)) wins; else root has the FHS's place, and any
    other user the one of the XDG Base Directory Specification. A user without a home has a place
    in ``/var/tmp``, which lasts over a boot (FHS 3.0, 5.15).

    :param environ: the environment.
    :param uid: the agent's user.
    :return: an absolute path; nothing needs to be there.
    """
    given = _from_systemd(environ, "STATE_DIRECTORY")
    if given is not None:
        return given
    if uid == 0:
        return Path("/var/lib/xohook")
    state_home = _absolute(environ, "XDG_STATE_HOME")
    if state_home is not None:
        return state_home / "xohook"
    home = _absolute(environ, "HOME")
    if home is not None:
        return home / ".local/state/xohook"
    return Path(f"/var/tmp/xohook-{uid}")  # noqa: S108 - prepare() refuses another user's directory


def runtime_directory(environ: Mapping[str, str], uid: int) -> Path:
    """Tell where lasts what ends with this boot: the record and the lock.

    systemd's ``RUNTIME_DIRECTORY`` (systemd.exec(5)) wins; else root has the FHS's place, and any
    other user the one of the XDG Base Directory Specification, or one in ``/tmp`` where the login
    made none.

    :param environ: the environment.
    :param uid: the agent's user.
    :return: an absolute path; nothing needs to be there.
    """
    given = _from_systemd(environ, "RUNTIME_DIRECTORY")
    if given is not None:
        return given
    if uid == 0:
        return Path("/run/xohook")
    runtime_home = _absolute(environ, "XDG_RUNTIME_DIR")
    if runtime_home is not None:
        return runtime_home / "xohook"
    return Path(f"/tmp/xohook-{uid}")  # noqa: S108 - prepare() refuses another user's directory


def _from_systemd(environ: Mapping[str, str], variable: str) -> Path | None:
    # systemd.exec(5): several directories are separated by colons.
    first = Path(environ.get(variable, "").partition(":")[0])
    return first if first.is_absolute() else None


def _absolute(environ: Mapping[str, str], variable: str) -> Path | None:
    # The XDG specification has relative paths ignored as invalid.
    path = Path(environ.get(variable, ""))
    return path if path.is_absolute() else None


def prepare(directory: Path, uid: int) -> None:
    """Make a directory that nobody else can write to, or see that the one there is such.

    :param directory: the directory; it is made with mode 0700, its parents with 0755, and less
        where the umask says so.
    :param uid: the agent's user; root may use a directory of anybody's.
    :raises StartError: where it cannot be made, is no directory, or is open to others' writing.
    """
    try:
        _make(directory)
        link = directory.lstat()
        target = directory.stat()
    except FileExistsError:
        raise StartError(
            f"{directory} is not a directory: move it away, or name another directory"
        ) from None
    except OSError as error:
        raise StartError(
            f"The directory {directory} cannot be made: {error.strerror} ({error.filename}); "
            f"make it for the user {uid}, or name another"
        ) from error
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, uid):
        raise StartError(
            f"{directory} is a symbolic link of user {link.st_uid}, who can turn it elsewhere: "
            "remove it, or name another directory"
        )
    if uid not in (0, target.st_uid):
        raise StartError(
            f"The directory {directory} belongs to user {target.st_uid}, and the agent is user "
            f"{uid}: run 'chown {uid} {directory}' as root, or name another directory"
        )
    if target.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StartError(
            f"Others may write to the directory {directory} (mode {target.st_mode & 0o777:04o}): "
            f"run 'chmod go-w {directory}', or name another directory"
        )


def _make(directory: Path) -> None:
    for parent in reversed(directory.parents):
        if not os.path.lexists(parent):
            # With parents=True they would be open to whomever the umask does not keep out.
            parent.mkdir(mode=0o755, exist_ok=True)
    # On a frozen filesystem mkdir(2) waits, even where there is nothing to make.
    if not directory.is_dir():
        directory.mkdir(mode=0o700, exist_ok=True)
