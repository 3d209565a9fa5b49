"""A TCP port on all of this machine's addresses, as one socket."""

from __future__ import annotations

import errno
import re
import socket

import attrs

from xohook.addresses import parse_address

# The kernel has no IPv6 at all, or the namespace has none of its addresses.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_REMEDIES = {
    errno.EADDRINUSE: "end the program that holds it ('xohook check' names it) or listen elsewhere",
    errno.EADDRNOTAVAIL: "this machine does not have that address; see 'ip address'",
    errno.EACCES: "ports below 1024 are for root; choose another, or grant CAP_NET_BIND_SERVICE",
}
_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound
_FIELD = re.compile(r"(?:[^:\\]|\\.)*")

LONGEST_PATH = 107
"""Bytes of a socket's path: 108, of which the last is zero (unix(7), ``sun_path``)."""

HIGHEST = 65535
"""The highest port there is (RFC 9293, section 3.1: sixteen bits)."""


@attrs.frozen
class Place:
    """Where an entry of ``listen`` listens.

    :param interface: the one address that it is bound to, as it is written; None for all.
    :param port: the TCP port; 0 lets the kernel pick one at each start.
    :param both: whether IPv4 is served through an IPv6 socket as well.
    """

    interface: str | None
    port: int
    both: bool

    @property
    def wildcard(self) -> bool:
        """Tell whether it is bound to no address in particular."""
        return self.interface in {None, *_WILDCARDS}

    @property
    def ipv6(self) -> bool:
        """Tell whether IPv6 is served here."""
        return self.both or (self.interface is not None and ":" in self.interface)

    @property
    def ipv4(self) -> bool:
        """Tell whether IPv4 is served here: by the IPv6 wildcard too (see :func:`bind_one`)."""
        return not self.ipv6 or self.wildcard

    def excludes(self, other: Place) -> bool:
        """Tell whether the kernel would not give both places, whoever asked first.

        :param other: another place.
        :return: whether some address and port is in both; never with port 0, of which there are
            many.
        """
        if self.port != other.port or self.port == 0:
            return False
        if not ((self.ipv4 and other.ipv4) or (self.ipv6 and other.ipv6)):
            return False
        return self.wildcard or other.wildcard or self._address == other._address

    @property
    def _address(self) -> object:
        # One IPv6 address can be written in many ways.
        return parse_address(self.interface) or self.interface


def place(entry: str) -> Place | None:
    """Tell where an entry of ``listen`` listens, without opening it.

    :param entry: a port number's digits or a Twisted endpoint description.
    :return: the place; None where it is no TCP port, or the description says too little. Its port
        is beyond :data:`HIGHEST` where the description's is.
    """
    if entry.isdecimal():
        return Place(interface=None, port=int(entry), both=True)
    kind, _, rest = entry.partition(":")
    fields = [re.sub(r"\\(.)", r"\1", field) for field in _FIELD.findall(rest) if field]
    named = dict(field.split("=", 1) for field in fields if "=" in field)
    plain = [field for field in fields if "=" not in field]
    port = named.get("port", plain[0] if plain else "")
    if kind not in {"tcp", "tcp6"} or not port.isdecimal():
        return None
    # Six digits are too many for a port already, and int() refuses very many.
    number = int(port.lstrip("0")[:6] or "0")
    interface = named.get("interface") or None
    if interface is None and kind == "tcp6":
        interface = "::"
    return Place(interface=interface, port=number, both=False)


def bind(port: int) -> socket.socket:
    """Take a port for IPv6 and IPv4 alike, for IPv4 alone where there is no IPv6.

    :param port: the TCP port; 0 lets the kernel pick one.
    :return: a bound socket, not listening yet.
    :raises OSError: it cannot be had.
    """
    try:
        return _bound(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return _bound(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - every address is what is asked


def bind_one(interface: str, port: int) -> socket.socket:
    """Take a port on one address, or on all of its family.

    :param interface: the address, or ``::`` or ``0.0.0.0``.
    :param port: the TCP port; 0 lets the kernel pick one.
    :return: a bound socket, not listening yet.
    :raises OSError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    return _bound(family, interface, port)


def refusal(place: str, error: OSError) -> str:
    """Say why a place cannot be listened on, and what to do.

    :param place: the port, or the entry of ``listen``.
    :param error: what the kernel said.
    :return: one sentence for the administrator.
    """
    remedy = _REMEDIES.get(error.errno or 0, "correct listen in the configuration")
    return f"cannot listen on {place}: {error.strerror or error}; {remedy}"


def doubled_tls(entry: str) -> str | None:
    """Say what is wrong with an endpoint that speaks TLS itself.

    :param entry: an entry of ``listen``.
    :return: one sentence for the administrator; None where the endpoint is of another kind.
    """
    if entry.partition(":")[0] not in {"ssl", "tls"}:
        return None
    return (
        f"listen = {entry}: TLS is put around each address already; write tcp: instead, and "
        "name certificate and private_key in their own options"
    )


def misdescribed(entry: str, error: BaseException | None) -> str:
    """Say that an entry of ``listen`` describes nothing that can be opened.

    :param entry: the entry.
    :param error: what was said about it, if anything.
    :return: one sentence for the administrator.
    """
    said = str(error) or type(error).__name__
    return (
        f"listen = {entry}: not an endpoint that can be opened ({said}); write a port number, or "
        "a description such as tcp:1727:interface=192.0.2.10"
    )


def _bound(family: socket.AddressFamily, interface: str, port: int) -> socket.socket:
    new = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            # Said outright, because net.ipv6.bindv6only may say otherwise (ipv6(7)).
            new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.bind((interface, port))
    except BaseException:
        new.close()
        raise
    return new
