"""Where the credentials come from: the administrator's files, or what the agent makes once."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from pathlib import Path

from xohook.config.settings import Settings
from xohook.errors import StartError
from xohook.hook.auth import Credentials
from xohook.host import ownership
from xohook.host.files import create_private

# 256 bits: a key shorter than the hash weakens the HMAC that derives tokens (RFC 2104, section 3).
_SECRET_BYTES = 32


def own_secret_file(settings: Settings) -> Path | None:
    """Name the file of the secret that the agent makes itself.

    :param settings: the configuration.
    :return: the file, whether or not it is there; None where the administrator gave secrets or
        tokens, and so none is made.
    """
    if settings.secret_file is None and settings.token_file is None:
        return settings.state_directory / "secret"
    return None


def load(settings: Settings, uid: int | None = None) -> Credentials:
    """Read all credentials; make the secret and keep the VM's name where that is still to do.

    :param settings: the configuration; its state directory exists.
    :param uid: the agent's user; by default the user of this process.
    :return: what requests are compared with.
    :raises StartError: a file cannot be used; the text says why, and what to do.
    """
    uid = os.geteuid() if uid is None else uid
    own = own_secret_file(settings)
    if own is not None:
        _make_once(own, secrets.token_urlsafe(_SECRET_BYTES), uid)
    return Credentials(
        secrets=read_secrets(settings, uid),
        tokens=() if settings.token_file is None else read_lines(settings.token_file),
        vm=_vm(settings, uid),
    )


def read_secrets(settings: Settings, uid: int) -> tuple[str, ...]:
    """Read the secrets: those that the administrator gave, or the one that the agent made.

    :param settings: the configuration.
    :param uid: the agent's user.
    :return: the secrets; none where there are tokens alone.
    :raises StartError: as :func:`read_lines` does, or where others can write to the agent's own.
    """
    own = own_secret_file(settings)
    if own is not None:
        return read_lines(own, uid)
    return () if settings.secret_file is None else read_lines(settings.secret_file)


def read_lines(path: Path, uid: int | None = None) -> tuple[str, ...]:
    """Read secrets or tokens, one a line.

    :param path: the file: UTF-8; a line is taken as it stands, blank ones are left out.
    :param uid: the agent's user where the file is the agent's own; None where the administrator
        gave it, whoever it belongs to.
    :return: at least one line.
    :raises StartError: it cannot be read, others can read it or write to it, or there is nothing
        in it.
    """
    try:
        if uid is None:
            data, found = ownership.read_given(path)
        else:
            data, found = ownership.read(path, uid)
        mode = stat.S_IMODE(found.st_mode)
    except OSError as error:
        raise StartError(
            f"{path}: cannot be read ({error.strerror}); correct the path in the configuration, "
            "or make the file readable for the agent's user"
        ) from error
    if mode & stat.S_IRWXO:
        raise StartError(
            f"{path}: mode {mode:04o} lets every user of this machine at the secrets; run: "
            f"chmod o= {path}"
        )
    try:
        # An editor's byte order mark is none of the secret.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StartError(
            f"{path}:{line}: not UTF-8; save the file as UTF-8 (XO sends a secret as UTF-8)"
        ) from error
    lines = tuple(line.removesuffix("\r") for line in text.split("\n") if line.strip())
    if not lines:
        raise StartError(
            f"{path}: holds nothing; write one a line, or delete the file, and where the agent is "
            "to make its own take it out of the configuration too"
        )
    return lines


def kept_name(state_directory: Path, uid: int) -> str | None:
    """Give the VM's name as it was at the first start.

    :param state_directory: the agent's state directory.
    :param uid: the agent's user.
    :return: the name; None where none is kept yet.
    :raises StartError: the file is there but is of no use.
    """
    path = state_directory / "vm"
    try:
        name = ownership.read(path, uid)[0].decode().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartError(
            f"{path}: cannot be read ({error.strerror}); make it readable for the agent's user, "
            "or set vm in the configuration"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_name(path) from error
    if not name or not name.isprintable() or " " in name:
        raise _no_name(path)
    return name


def _no_name(path: Path) -> StartError:
    return StartError(
        f"{path}: holds no name; write the VM's name into it as it was (its tags in XO show it as "
        "vm=NAME), or set vm in the configuration"
    )


def _vm(settings: Settings, uid: int) -> str:
    if settings.vm is not None:
        return settings.vm
    kept = kept_name(settings.state_directory, uid)
    if kept is not None:
        return kept
    name = host_name()
    path = settings.state_directory / "vm"
    _make_once(path, name, uid)
    return kept_name(settings.state_directory, uid) or name


def host_name() -> str:
    """Give the name that is kept at the first start.

    :return: the host's name.
    :raises StartError: the host has none that can be used.
    """
    name = socket.gethostname()
    if name in {"", "(none)"} or not name.isprintable() or " " in name:
        raise StartError(
            "this host has no name that a token can be made for; set vm in the configuration, or "
            "name the host (hostnamectl set-hostname NAME)"
        )
    return name


def _make_once(path: Path, line: str, uid: int) -> None:
    try:
        if not os.path.lexists(path):
            # Should another be quicker, both go on with that one's.
            create_private(path, f"{line}\n".encode(), uid)
    except OSError as error:
        raise StartError(
            f"{path}: cannot be made ({error.strerror}); make its directory writable for the "
            "agent's user, or set state_directory in the configuration"
        ) from error
