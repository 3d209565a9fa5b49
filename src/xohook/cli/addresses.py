"""Whether the addresses that the agent listens on are free, or taken by the agent itself."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl

from xohook import ports
from xohook.cli.findings import Finding, error, ok
from xohook.cli.holders import holders

# Seconds for a handshake with whoever listens there, on this same machine.
_PATIENCE = 2.0


def examine(entry: str, certificate: bytes | None) -> Finding:
    """Look whether an entry of ``listen`` can be opened.

    :param entry: a port number's digits or a Twisted endpoint description.
    :param certificate: the agent's certificate (DER), None where there is none yet.
    :return: the finding.
    """
    place = ports.place(entry)
    if place is None:
        return ok(f"listen = {entry}: not tried here, the agent's start does")
    try:
        _bind(place).close()
    except OSError as refused:
        if refused.errno != errno.EADDRINUSE:
            return error(ports.refusal(entry, refused))
        return _taken(entry, place, certificate)
    return ok(f"listen = {entry}: free")


def _bind(place: ports.Place) -> socket.socket:
    if place.both:
        return ports.bind(place.port)
    return ports.bind_one(place.interface or "0.0.0.0", place.port)  # noqa: S104 - as is asked


def _taken(entry: str, place: ports.Place, certificate: bytes | None) -> Finding:
    if certificate is not None and certificate in _served(place):
        return ok(f"listen = {entry}: in use by the running agent")
    known = ", ".join(holders(place.port))
    return error(
        f"listen = {entry}: held by {known or 'a program that only root can name'}, and that does "
        "not serve the agent's certificate; end that program or listen elsewhere"
    )


def _served(place: ports.Place) -> list[bytes]:
    """Give the certificates that are served there.

    A TLS client's handshake fails unless the server has the key of the certificate that it shows
    (RFC 8446, section 4.4.3), even where the client trusts any: what is given here is proved.
    """
    hosts = ["127.0.0.1", "::1"] if place.wildcard else [place.interface or ""]
    found = []
    for host in hosts:
        with contextlib.suppress(OSError):
            found.append(_shake_hands(host, place.port))
    return found


def _shake_hands(host: str, port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate is compared with the agent's own, byte for byte.
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=_PATIENCE) as connection,
        context.wrap_socket(connection) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""
