"""The machine that this runs on: its names and its addresses, told without asking the network."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

Address = IPv4Address | IPv6Address

# What RFC 1123, section 2.1, allows in a host's name, and the underscore that people use.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")

# Addresses for documentation (RFC 5737, RFC 3849): a route towards them is the default route.
_FAR_IPV4 = "198.51.100.1"
_FAR_IPV6 = "2001:db8::1"


def names(hosts: Path = Path("/etc/hosts")) -> tuple[str, ...]:
    """Give the names that this machine has without asking a name server.

    :param hosts: the table of names (hosts(5)).
    :return: the host's name first, then its qualified names from the table; names that cannot
        stand in a certificate are left out.
    """
    own = socket.gethostname()
    try:
        table = hosts.read_text(encoding="utf-8", errors="replace")
    except OSError:
        table = ""
    found = [own]
    for line in table.splitlines():
        _, *names_of_line = line.partition("#")[0].split() or [""]
        if own in names_of_line:
            found += names_of_line
    return tuple(name for name in dict.fromkeys(found) if _NAME.fullmatch(name))


def addresses(proc: Path = Path("/proc")) -> tuple[Address, ...]:
    """Give the addresses of this machine's interfaces, the most useful to others first.

    :param proc: where procfs is mounted (proc(5)).
    :return: IPv4 before IPv6, in each the default route's own address first; loopback and
        link-local addresses are left out.
    """
    net = proc / "net"
    found: list[Address] = []
    found += _default_sources(socket.AF_INET, _FAR_IPV4)
    found += parse_fib_trie(_read(net / "fib_trie"))
    found += _default_sources(socket.AF_INET6, _FAR_IPV6)
    found += parse_if_inet6(_read(net / "if_inet6"))
    return tuple(
        address
        for address in dict.fromkeys(found)
        if not (address.is_loopback or address.is_link_local or address.is_unspecified)
    )


def parse_fib_trie(text: str) -> Iterator[IPv4Address]:
    """Read the IPv4 addresses of the interfaces from the kernel's routing trie.

    :param text: the content of ``/proc/net/fib_trie``: a leaf ``|-- ADDRESS`` is followed by its
        routes, and ``/32 host LOCAL`` is the route to an address of this machine.
    :return: the addresses, in the trie's order; one may come twice.
    """
    leaf = ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            yield IPv4Address(leaf)


def parse_if_inet6(text: str) -> Iterator[IPv6Address]:
    """Read the IPv6 addresses of the interfaces.

    :param text: the content of ``/proc/net/if_inet6``: a line an address, 32 hexadecimal digits
        first.
    :return: the addresses, in the kernel's order.
    """
    for line in text.splitlines():
        yield IPv6Address(bytes.fromhex(line.split()[0]))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""


def _default_sources(family: socket.AddressFamily, far: str) -> Iterator[Address]:
    """Ask the routing table which address the default route leaves from."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket looks up the route and sends nothing.
            probe.connect((far, 9))
            source = probe.getsockname()[0]
    except OSError:
        return
    yield IPv4Address(source) if family == socket.AF_INET else IPv6Address(source)
