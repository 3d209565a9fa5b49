"""Tests for :mod:`xohook.service.handover`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.host.accounts import Account
from xohook.service.handover import Form

ACCOUNT = Account("www", 33, 33, (33, 4), "/var/www")


class FormTests(SynchronousTestCase):
    """What is handed over is what was given, and nothing but values can be."""

    def test_round_trip(self) -> None:
        """Every kind of value of the settings is equal afterwards."""
        form = Form(Account)
        values: tuple[object, ...] = (
            *(None, True, 3, 1.5, "tëxt", (), ("a", ("b",)), frozenset({"a", "b"}), ACCOUNT),
            *({}, {"A": "1"}, Path("/a b"), IPv4Network("10.0.0.0/8"), IPv6Network("fe80::/10")),
        )
        self.assertEqual(form.unpack(form.pack(values)), values)

    def test_undecodable_path(self) -> None:
        """A path that is not UTF-8 survives."""
        form = Form()
        path = Path("/srv/\udcff")
        self.assertEqual(form.unpack(form.pack(path)), path)

    def test_one_line(self) -> None:
        """It is one line of ASCII, whatever is in it."""
        packed = Form().pack("a\nb\u2028ü")
        self.assertTrue(packed.isascii())
        self.assertEqual(len(packed.splitlines()), 1)

    def test_unknown(self) -> None:
        """A class that is not named is neither written nor made."""
        self.assertRaises(TypeError, Form().pack, ACCOUNT)
        self.assertRaises(ValueError, Form().unpack, Form(Account).pack(ACCOUNT))

    def test_broken(self) -> None:
        """What was cut off or lacks a field is refused."""
        packed = Form(Account).pack(ACCOUNT)
        for text in ("", packed[:-1], '{"Account": {"name": "www"}}', "{}", '{"a": 1, "b": 2}'):
            self.assertRaises(ValueError, Form(Account).unpack, text)
