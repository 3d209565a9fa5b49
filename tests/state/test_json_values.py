"""Whatever is on a disk is values, or one kind of error."""

from __future__ import annotations

import contextlib
import json
import os
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.host.ownership import LONGEST
from xohook.state.json_values import decode, encode


class EncodeTests(SynchronousTestCase):
    """What is written is read again."""

    def test_round_trip(self) -> None:
        """A mount point comes back whatever its bytes are."""
        values = {"mounts": [os.fsdecode(b"/srv/\xff\xfe \t\n")]}
        self.assertEqual(decode(encode(values)), values)

    def test_too_long(self) -> None:
        """What a start would refuse to read is not written."""
        values = {"a": "x" * (LONGEST - len('{"a": ""}'))}
        self.assertEqual(len(encode(values)), LONGEST)
        self.assertRaises(OSError, encode, {**values, "b": 1})


class DecodeTests(SynchronousTestCase):
    """JSON objects, and nothing else."""

    def test_good(self) -> None:
        """Plain values come back as they are."""
        values = {"a": [1, -1.5, None, True, "ü\n", 2**63 - 1], "b": {"c": {}}}
        self.assertEqual(decode(json.dumps(values).encode()), values)

    def test_wrong(self) -> None:
        """All else is a ValueError, however it is wrong."""
        for data in (
            b"",
            b"{",
            b"[]",
            b"1",
            b"null",
            b"\xff{}",
            b"{}\0",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": 1e999}',
            b'{"a": ' + b"9" * 21 + b"}",
            b'{"a": "\\ud800"}',
            b'{"\\u0000": 1}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ):
            self.assertRaises(ValueError, decode, data)

    def test_quick(self) -> None:
        """The longest files that are read are judged within a second of processor time."""
        for data in (
            b"[" * LONGEST,
            b'{"a":[' + b"1," * (LONGEST // 2 - 10) + b"1]}",
            b'{"a":' + b"9" * (LONGEST - 10) + b"}",
            b'{"a":"' + b"x" * (LONGEST - 10) + b'"}',
        ):
            before = time.process_time()
            with contextlib.suppress(ValueError):
                decode(data)
            # Ten times what it takes, so that a busy machine does not decide.
            self.assertLess(time.process_time() - before, 10.0)

    @given(st.binary(max_size=200))
    @settings(max_examples=200, deadline=None)
    def test_anything(self, data: bytes) -> None:
        """No bytes whatever raise anything else."""
        with contextlib.suppress(ValueError):
            decode(data)
