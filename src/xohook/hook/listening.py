"""The listening sockets: all of them opened, with TLS around each, or none."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorSocket,
    IReactorTime,
)
from twisted.python.failure import Failure

from xohook.errors import StartError
from xohook.hook.plain_http import HTTPSFactory, PlainRequests
from xohook.host import endpoints

if TYPE_CHECKING:
    from xohook.hook.tls import ServerTLS

# As many as the agent serves at once (docs/hook.rst, Requests and answers); the kernel's
# net.core.somaxconn may lower it.
_BACKLOG = 1024
_ANY_IPV4 = "0.0.0.0"  # noqa: S104 - compared with, not bound


def open_listeners(
    reactor: IReactorSocket,
    listen: Sequence[str],
    factory: IProtocolFactory,
    tls: ServerTLS,
    inherited: Sequence[socket.socket] = (),
) -> list[IListeningPort]:
    """Open every address that the configuration names, or serve what systemd has opened.

    :param reactor: whose sockets they become; it provides ``IReactorTime`` as well.
    :param listen: a port number's digits or a Twisted endpoint description, each.
    :param factory: makes the protocols that speak inside TLS.
    :param tls: what TLS is served with.
    :param inherited: listening, non-blocking TCP sockets, which are the reactor's from then on;
        where there are any, ``listen`` is not opened.
    :return: the open ports, in the order of ``inherited`` or of ``listen``.
    :raises StartError: one of them cannot be opened; those that were close in the reactor's next
        turn.
    """
    clock = IReactorTime(reactor)
    plain_requests = PlainRequests(clock)
    opened: list[IListeningPort] = []
    try:
        for entry in inherited or listen:
            wrapped = HTTPSFactory(tls, factory, clock, plain_requests)
            if isinstance(entry, socket.socket):
                opened.append(_adopt(reactor, entry, wrapped))
            elif entry.isdecimal():
                opened.append(_open_port(reactor, int(entry), wrapped))
            else:
                opened.append(_open_endpoint(reactor, entry, wrapped))
    except StartError:
        for port in opened:
            port.stopListening()
        raise
    return opened


def describe(opened: Sequence[IListeningPort]) -> str:
    """Say for the log where the agent listens.

    :param opened: what :func:`open_listeners` gave.
    :return: the addresses, for instance ``port 1727 (IPv6 and IPv4)``.
    """
    return ", ".join(_describe(port.getHost()) for port in opened)


def _describe(address: object) -> str:
    if isinstance(address, IPv6Address):
        if address.host == "::":
            return f"port {address.port} (IPv6 and IPv4)"
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        if address.host == _ANY_IPV4:
            return f"port {address.port} (IPv4)"
        return f"{address.host}:{address.port}"
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    return str(address)


def _open_port(reactor: IReactorSocket, number: int, factory: HTTPSFactory) -> IListeningPort:
    try:
        with endpoints.bind(number) as bound:
            bound.listen(_BACKLOG)
            bound.setblocking(False)
            return _adopt(reactor, bound, factory)
    except OSError as error:
        raise StartError(endpoints.refusal(f"port {number}", error)) from error


def _adopt(
    reactor: IReactorSocket, listening: socket.socket, factory: HTTPSFactory
) -> IListeningPort:
    # The reactor duplicates the descriptor, so this one is closed either way.
    with listening:
        # Twisted types its wrapping factories as clients' ones; they serve both sides.
        return reactor.adoptStreamPort(
            listening.fileno(),
            listening.family,
            factory,  # type: ignore[arg-type]
        )


def _open_endpoint(reactor: IReactorSocket, entry: str, factory: HTTPSFactory) -> IListeningPort:
    # Imported here because the default, a port, does without it.
    from twisted.internet.endpoints import serverFromString

    doubled = endpoints.doubled_tls(entry)
    if doubled is not None:
        raise StartError(doubled)
    described = entry
    if entry.startswith(("tcp:", "tcp6:")) and ":backlog=" not in entry:
        described = f"{entry}:backlog={_BACKLOG}"
    try:
        outcome = _present_outcome(serverFromString(reactor, described).listen(factory))
    # A plugin may raise anything about its arguments.
    except Exception as error:
        raise StartError(endpoints.misdescribed(entry, error)) from error
    if outcome is None:
        raise StartError(
            f"listen = {entry}: it does not open at once, so the agent cannot know that it will; "
            "use another kind of endpoint, tcp: for instance"
        )
    if not isinstance(outcome, Failure):
        return outcome
    cause = outcome.value
    if isinstance(cause, CannotListenError) and isinstance(cause.socketError, OSError):
        raise StartError(endpoints.refusal(entry, cause.socketError)) from cause
    raise StartError(endpoints.misdescribed(entry, cause)) from cause


def _present_outcome(opening: Deferred[IListeningPort]) -> IListeningPort | Failure | None:
    """Take what a Deferred has come to by now; what comes later is of no use any more."""
    come: list[IListeningPort | Failure] = []
    opening.addBoth(come.append)
    return come[0] if come else None
