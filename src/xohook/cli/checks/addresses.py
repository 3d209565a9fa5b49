"""Whether the addresses that the agent listens on are free, or taken by the agent itself."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Sequence

import attrs
from twisted.internet.endpoints import serverFromString

from xohook.cli.checks.port_owners import holders
from xohook.findings import Finding, error, ok
from xohook.host import endpoints

# Seconds for a handshake with whoever listens there, on this same machine.
_PATIENCE = 2.0


@attrs.frozen
class Addresses:
    """What there is at the addresses.

    :param findings: one for each entry of ``listen``, and one more for each that is doubled.
    :param unserved: whether it is certain that the agent serves none of them at present.
    """

    findings: tuple[Finding, ...]
    unserved: bool


def examine(listen: Sequence[str], certificate: bytes | None) -> Addresses:
    """Look whether the entries of ``listen`` can be opened.

    :param listen: a port number's digits or a Twisted endpoint description, each.
    :param certificate: the agent's certificate (DER), None where there is none yet.
    :return: what there is.
    """
    findings: list[Finding] = []
    unserved = True
    earlier: dict[str, endpoints.Place] = {}
    for entry in listen:
        place = endpoints.place(entry)
        wrong = _misdescribed(entry)
        is_served = False
        if wrong is not None:
            findings.append(wrong)
        elif place is None:
            findings.append(_untried(entry))
        else:
            findings += _doubled(entry, place, earlier)
            earlier[entry] = place
            finding, is_served = _try(entry, place, certificate)
            findings.append(finding)
        # Port 0 is another one at each start, and an agent there is not found.
        unserved = unserved and place is not None and place.port != 0 and not is_served
    return Addresses(tuple(findings), unserved)


def _misdescribed(entry: str) -> Finding | None:
    """Find that an endpoint description cannot be understood, without opening it."""
    if entry.isdecimal() or endpoints.doubled_tls(entry) is not None:
        return None
    try:
        # The reactor is only kept for later.
        serverFromString(None, entry)
    # A plugin may raise anything about its arguments.
    except Exception as problem:  # noqa: BLE001
        return error(endpoints.misdescribed(entry, problem))
    return None


def _untried(entry: str) -> Finding:
    doubled = endpoints.doubled_tls(entry)
    if doubled is not None:
        return error(doubled)
    return ok(f"listen = {entry}: not tried here, the agent's start does")


def _doubled(
    entry: str, place: endpoints.Place, earlier: dict[str, endpoints.Place]
) -> list[Finding]:
    return [
        error(
            f"listen = {entry}: {other} above takes the same port on the same address; leave one "
            "of them out"
        )
        for other, taken in earlier.items()
        if taken.excludes(place)
    ]


def _try(entry: str, place: endpoints.Place, certificate: bytes | None) -> tuple[Finding, bool]:
    """Take a place and leave it; tell too whether the agent serves it."""
    try:
        _bind(place).close()
    except OSError as refused:
        if refused.errno != errno.EADDRINUSE:
            return error(endpoints.refusal(entry, refused)), False
    except (TypeError, UnicodeError) as unusable:
        # Python cannot even encode it as a host's name (RFC 5890: 63 characters between dots).
        return error(endpoints.misdescribed(entry, unusable)), False
    else:
        return ok(f"listen = {entry}: free"), False
    if certificate is not None and certificate in _served(place):
        return ok(f"listen = {entry}: in use by the running agent"), True
    return _taken(entry, place), False


def _bind(place: endpoints.Place) -> socket.socket:
    if place.both:
        return endpoints.bind(place.port)
    return endpoints.bind_one(place.interface or "0.0.0.0", place.port)  # noqa: S104 - as is asked


def _taken(entry: str, place: endpoints.Place) -> Finding:
    known = ", ".join(holders(place.port))
    return error(
        f"listen = {entry}: held by {known or 'a program that only root can name'}, and that does "
        "not serve the agent's certificate; end that program or listen elsewhere"
    )


def _served(place: endpoints.Place) -> list[bytes]:
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
