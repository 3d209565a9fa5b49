"""What systemd passes in and is told: sd_listen_fds(3) and sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from itertools import repeat

import attrs

from xohook.errors import StartError

_FIRST = 3
"""The first descriptor that is passed in (sd_listen_fds(3), ``SD_LISTEN_FDS_START``)."""

_UNNAMED = "unknown"
"""The name of one that was given none (sd_listen_fds(3))."""

_FAMILIES = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}


@attrs.frozen
class Inherited:
    """The listening sockets that systemd has opened for the agent.

    :param hook: those of the hook; where there are none, the agent opens its own.
    :param control: the control socket; where there is none, the agent opens its own.
    """

    hook: tuple[socket.socket, ...] = ()
    control: socket.socket | None = None


def inherited(environ: MutableMapping[str, str], pid: int) -> Inherited:
    """Take over what systemd has passed in (sd_listen_fds(3)).

    The sockets are non-blocking from then on, and no program that the agent runs inherits them.

    :param environ: the environment; the variables that tell of them are taken out of it.
    :param pid: the process that asks; what was meant for another one is left alone.
    :return: the sockets.
    :raises StartError: there is something else than listening stream sockets among them, or more
        than one control socket.
    """
    meant_for, told = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS")
    if not meant_for or not told or _number("LISTEN_PID", meant_for) != pid:
        return Inherited()
    del environ["LISTEN_PID"], environ["LISTEN_FDS"]
    count = _number("LISTEN_FDS", told)
    hook: list[socket.socket] = []
    control: list[socket.socket] = []
    for descriptor, name in enumerate(_names(environ, count), _FIRST):
        taken = _take(descriptor, name)
        (control if taken.family == socket.AF_UNIX else hook).append(taken)
    if len(control) > 1:
        paths = ", ".join(str(each.getsockname()) for each in control)
        raise StartError(
            f"systemd passes in {len(control)} UNIX sockets ({paths}), and there is one control "
            "socket: leave one ListenStream= with a path in the socket unit"
        )
    return Inherited(tuple(hook), control[0] if control else None)


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Tell systemd of the agent's state, where it is listening.

    :param state: an assignment of sd_notify(3), for instance ``READY=1``.
    :param environ: the environment, whose ``NOTIFY_SOCKET`` names systemd's socket.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    # Whoever set the variable may have gone; then there is nobody left to tell.
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.sendto(state.encode(), address)


def _number(variable: str, value: str) -> int:
    # No number of a process or a file has more digits.
    if not (value.isascii() and value.isdecimal() and 0 < len(value) < 11) or int(value) == 0:
        raise StartError(
            f"{variable}={value!r} in the environment is no number of sd_listen_fds(3): start the "
            "agent from a socket unit of systemd, or without that variable"
        )
    return int(value)


def _names(environ: MutableMapping[str, str], count: int) -> Iterable[str]:
    given = environ.pop("LISTEN_FDNAMES", None)
    if given is None:
        return repeat(_UNNAMED, count)
    names = given.split(":")
    if len(names) != count:
        raise StartError(
            f"LISTEN_FDNAMES={given!r} in the environment names {len(names)} files, and LISTEN_FDS "
            f"says that there are {count}: start the agent from a socket unit of systemd"
        )
    return names


def _take(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _not_taken(descriptor, name, f"{error.strerror}") from error
    if not (
        taken.family in _FAMILIES
        and taken.type == socket.SOCK_STREAM
        and taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        raise _not_taken(descriptor, name, "not a listening stream socket, of TCP or UNIX")
    taken.setblocking(False)
    return taken


def _not_taken(descriptor: int, name: str, problem: str) -> StartError:
    return StartError(
        f"systemd passes in {name!r} (descriptor {descriptor}): {problem}; the agent takes what "
        "ListenStream= opens, with Accept=no, and nothing else"
    )
