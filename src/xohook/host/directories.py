"""Where the agent keeps its things when the configuration does not say, and how safe that is."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from xohook.errors import StartError
from xohook.host import ownership

_LOGINS = Path("/run/user")
"""Where a login makes each user's runtime directory (pam_systemd(8))."""


def state_directory(environ: Mapping[str, str], uid: int) -> Path:
    """Tell where lasts what outlives a boot: certificate, secret, the VM's name.

    systemd's ``STATE_DIRECTORY`` (systemd.exec(5)) wins; else root has the FHS's place, and any
    other user the one of the XDG Base Directory Specification. A user without a home has one that
    only root can make; in ``/var/tmp`` any user could make it first, and leave files in it.

    :param environ: the environment.
    :param uid: the agent's user.
    :return: an absolute path; nothing needs to be there.
    """
    given = _from_systemd(environ, "STATE_DIRECTORY")
    if given is not None:
        return given
    return Path("/var/lib/xohook") if uid == 0 else _user_state(environ, uid)


def _user_state(environ: Mapping[str, str], uid: int) -> Path:
    state_home = _absolute(environ, "XDG_STATE_HOME")
    if state_home is not None:
        return state_home / "xohook"
    home = _absolute(environ, "HOME")
    if home is not None:
        return home / ".local/state/xohook"
    return Path(f"/var/lib/xohook-{uid}")


def runtime_directory(environ: Mapping[str, str], uid: int, logins: Path = _LOGINS) -> Path:
    """Tell where lasts what ends with this boot: the record and the lock.

    systemd's ``RUNTIME_DIRECTORY`` (systemd.exec(5)) wins; else root has the FHS's place. Any other
    user has the one of the XDG Base Directory Specification; without that variable the same one,
    where a login has made it; else one below the home, in the state directory. An ordinary user
    freezes no filesystem, so that the home does for the record. A user without a home has one
    that only root can make; in ``/tmp`` any user could make it first, and leave files in it.

    :param environ: the environment.
    :param uid: the agent's user.
    :param logins: where a login makes each user's runtime directory.
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
    login = logins / str(uid)
    if _belongs(login, uid):
        return login / "xohook"
    if any(_absolute(environ, each) for each in ("XDG_STATE_HOME", "HOME")):
        return _user_state(environ, uid) / "run"
    return Path(f"/run/xohook-{uid}")


def _belongs(directory: Path, uid: int) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid


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
    :param uid: the agent's user, to whom it has to belong.
    :raises StartError: where it cannot be made, is no directory, belongs to another user, or where
        others can write to it or exchange it.
    """
    _judge(directory, uid, make=True)


def judge(directory: Path, uid: int) -> None:
    """See that nobody else can write to a directory, without making it.

    What makes a directory waits for ever where an earlier agent left its filesystem frozen.

    :param directory: the directory; it need not be there.
    :param uid: the agent's user, to whom it has to belong.
    :raises StartError: as :func:`prepare` does.
    """
    with suppress(FileNotFoundError):
        _judge(directory, uid, make=False)


def _judge(directory: Path, uid: int, *, make: bool) -> None:
    try:
        os.close(ownership.open_directory(directory, uid, make=make, own=True))
    except FileNotFoundError:
        if not make:
            raise
        raise StartError(
            f"The directory {directory} is gone: another program has just removed it"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOTDIR and error.filename == str(directory.absolute()):
            raise StartError(
                f"{directory} is not a directory: move it away, or name another directory"
            ) from None
        verb = "made" if make else "opened"
        raise StartError(
            f"The directory {directory} cannot be {verb}: {error.strerror} ({error.filename}); "
            f"make it for the user {uid} (install -d -m 0700 -o {uid} "
            f"{shlex.quote(str(directory))}), or name another"
        ) from error
