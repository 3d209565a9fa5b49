"""Tests for :mod:`xohook.host.network`."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from xohook.host import network

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
IF_INET6 = """\
fd000000000000000000000000000002 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


class ParseTests(SynchronousTestCase):
    """What the kernel says of its addresses is understood."""

    def test_fib_trie(self) -> None:
        """Only the routes to this machine itself are its addresses."""
        found = [str(address) for address in network.parse_fib_trie(FIB_TRIE)]
        self.assertEqual(found, ["127.0.0.1", "192.0.2.2"])

    def test_if_inet6(self) -> None:
        """Each line holds an address."""
        found = [str(address) for address in network.parse_if_inet6(IF_INET6)]
        self.assertEqual(found, ["fd00::2", "fe80::fc:ff:fe00:1", "::1"])


class AddressesTests(SynchronousTestCase):
    """The addresses that others can use are told."""

    def addresses(self) -> tuple[network.Address, ...]:
        net = Path(self.mktemp()) / "net"
        net.mkdir(parents=True)
        (net / "fib_trie").write_text(FIB_TRIE)
        (net / "if_inet6").write_text(IF_INET6)
        return network.addresses(net.parent)

    def test_order(self) -> None:
        """IPv4 stands before IPv6; loopback and link-local addresses are left out."""
        self.patch(network, "_default_sources", lambda family, far: iter(()))
        self.assertEqual(self.addresses(), (ip_address("192.0.2.2"), ip_address("fd00::2")))

    def test_default_route_first(self) -> None:
        """The default route's address stands before those of a container's bridge, and once."""
        sources = {socket.AF_INET: "192.0.2.200", socket.AF_INET6: "fd00::2"}
        self.patch(
            network, "_default_sources", lambda family, far: iter([ip_address(sources[family])])
        )
        found = [str(address) for address in self.addresses()]
        self.assertEqual(found, ["192.0.2.200", "192.0.2.2", "fd00::2"])

    def test_no_table(self) -> None:
        """Without the kernel's tables there may be none, and that is no error."""
        self.patch(network, "_default_sources", lambda family, far: iter(()))
        self.assertEqual(network.addresses(Path(self.mktemp())), ())


class NamesTests(SynchronousTestCase):
    """The names are told without a name server."""

    def names(self, own: str, table: str) -> tuple[str, ...]:
        self.patch(socket, "gethostname", lambda: own)
        path = Path(self.mktemp())
        path.write_text(dedent(table))
        return network.names(path)

    def test_qualified(self) -> None:
        """The table's lines with the host's name give its other names; comments give none."""
        table = """\
            127.0.0.1 localhost
            127.0.1.1\tweb01.example.org web01 # web01 shop.example.org

            192.0.2.9 web02.example.org
        """
        self.assertEqual(self.names("web01", table), ("web01", "web01.example.org"))

    def test_unfit(self) -> None:
        """Names that cannot stand in a certificate are left out."""
        self.assertEqual(self.names("(none)", ""), ())

    def test_no_table(self) -> None:
        """Without a table there is the host's own name."""
        self.patch(socket, "gethostname", lambda: "web01")
        self.assertEqual(network.names(Path(self.mktemp())), ("web01",))
