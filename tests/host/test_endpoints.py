"""Tests for :mod:`xohook.host.endpoints`."""

from __future__ import annotations

import errno
import socket

from twisted.trial.unittest import SynchronousTestCase

from xohook.host.endpoints import HIGHEST, Place, bind, bind_one, place


class PlaceTests(SynchronousTestCase):
    """An entry of ``listen`` tells where it listens."""

    def test_port(self) -> None:
        """A port's digits are all addresses of both families."""
        self.assertEqual(place("1727"), Place(interface=None, port=1727, both=True))

    def test_tcp(self) -> None:
        """Twisted's ``tcp`` is IPv4 unless an IPv6 interface is given; fields may be named."""
        self.assertEqual(place("tcp:1727"), Place(None, 1727, both=False))
        self.assertEqual(place("tcp:port=1727:backlog=5"), Place(None, 1727, both=False))
        one = place("tcp:1727:interface=192.0.2.1")
        self.assertEqual(one, Place("192.0.2.1", 1727, both=False))

    def test_escapes(self) -> None:
        """Colons of an IPv6 address are escaped in a description."""
        one = place(r"tcp:1727:interface=2001\:db8\:\:1")
        self.assertEqual(one, Place("2001:db8::1", 1727, both=False))

    def test_tcp6(self) -> None:
        """Twisted's ``tcp6`` is all IPv6 addresses unless it says one."""
        self.assertEqual(place("tcp6:1727"), Place("::", 1727, both=False))

    def test_families(self) -> None:
        """IPv6 is served by a port, and by an interface that is one of IPv6."""
        served = {entry: place(entry).ipv6 for entry in ("1", "tcp:1", "tcp6:1")}  # type: ignore[union-attr]  # each is a place
        self.assertEqual(served, {"1": True, "tcp:1": False, "tcp6:1": True})

    def test_unknown(self) -> None:
        """Other kinds of endpoints, and descriptions that are wrong, tell nothing."""
        for entry in ("unix:/run/x", "systemd:domain=INET:index=0", "tcp:", "tcp:http", "x"):
            self.assertIsNone(place(entry))

    def test_far_too_many_digits(self) -> None:
        """A port with more digits than a number may have is only beyond the highest."""
        for digits in ("99999", "9" * 5000):
            found = place(f"tcp:{digits}")
            assert found is not None
            self.assertGreater(found.port, HIGHEST)
        self.assertEqual(place("tcp:0000001727"), Place(None, 1727, both=False))


class ExcludesTests(SynchronousTestCase):
    """Of two places the kernel may give one alone."""

    def test_excluded(self) -> None:
        """The same port and address stand out against each other, however they are written."""
        for one, other in (
            ("1727", "tcp:1727"),
            ("1727", "tcp6:1727"),
            ("tcp:1727", "tcp6:1727"),
            ("1727", "tcp:1727:interface=192.0.2.1"),
            ("tcp6:1727", r"tcp:1727:interface=2001\:db8\:\:1"),
            (r"tcp:1727:interface=\:\:1", r"tcp6:1727:interface=0\:\:1"),
        ):
            self.assertTrue(self.excludes(one, other), (one, other))
            self.assertTrue(self.excludes(other, one), (other, one))

    def test_beside_each_other(self) -> None:
        """Other ports, other addresses and other families do not, and port 0 never does."""
        for one, other in (
            ("1727", "1728"),
            ("0", "tcp:0"),
            ("tcp:1727", r"tcp:1727:interface=2001\:db8\:\:1"),
            ("tcp:1727:interface=192.0.2.1", "tcp:1727:interface=192.0.2.2"),
            ("tcp:1727:interface=192.0.2.1", r"tcp:1727:interface=2001\:db8\:\:1"),
        ):
            self.assertFalse(self.excludes(one, other), (one, other))
            self.assertFalse(self.excludes(other, one), (other, one))

    def test_kernel_agrees(self) -> None:
        """A socket that listens at one of them keeps the other from being bound."""
        with bind(0) as held:
            held.listen()
            number = held.getsockname()[1]
            self.assertTrue(self.excludes(f"{number}", f"tcp:{number}:interface=127.0.0.1"))
            error = self.assertRaises(OSError, bind_one, "127.0.0.1", number)
            self.assertEqual(error.errno, errno.EADDRINUSE)

    def excludes(self, one: str, other: str) -> bool:
        first, second = place(one), place(other)
        assert first is not None
        assert second is not None
        return first.excludes(second)


class BindTests(SynchronousTestCase):
    """A port is taken as the kernel can give it."""

    def test_no_ipv6(self) -> None:
        """A kernel without IPv6 gives an IPv4 socket."""
        whole = socket.socket

        def without_ipv6(family: int, kind: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            return whole(family, kind)

        self.patch(socket, "socket", without_ipv6)
        with bind(0) as bound:
            self.assertEqual((bound.family, bound.getsockname()[0]), (socket.AF_INET, "0.0.0.0"))

    def test_other_errors(self) -> None:
        """A port that is held is not tried again as IPv4 alone."""
        with bind(0) as held:
            held.listen()
            error = self.assertRaises(OSError, bind, held.getsockname()[1])
            self.assertEqual(error.errno, errno.EADDRINUSE)
