"""Tests for :mod:`xohook.control.wire`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.control.wire import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    LONGEST_IN,
    LONGEST_OUT,
    OWN_FAULT,
    PARSE_ERROR,
    Decoder,
    Error,
    Malformed,
    Message,
    Notification,
    Request,
    Result,
    encode,
)

NEITHER = "its answer is not one of JSON-RPC 2.0: a result or an error, one of the two"

json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ids = st.none() | st.text() | st.integers()
objects = st.dictionaries(st.text(), json_values, max_size=4)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Request, ids, st.text(), objects),
    st.builds(Notification, st.text(), objects),
    st.builds(Result, ids, json_values),
    st.builds(Error, ids, st.integers(), st.text(), json_values),
)

#: Bytes that are nearly messages: whole ones, pieces of them, and what is none at all.
nearly = st.lists(
    st.one_of(
        messages.map(encode),
        messages.map(lambda message: encode(message)[:-5]),
        st.sampled_from([b"\n", b"\r\n", b"[]\n", b"{}\n", b"\xff\n", b"[" * 2000 + b"\n"]),
        st.binary(max_size=30),
    ),
    max_size=8,
).map(b"".join)


def decode(*pieces: bytes) -> list[Message | Malformed]:
    """Read bytes that come in these pieces.

    :param pieces: the pieces.
    :return: what was in them.
    """
    decoder = Decoder()
    return [message for piece in pieces for message in decoder.feed(piece)]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes.

    :param data: the bytes.
    :param places: where to cut, modulo the length.
    :return: the pieces, in order.
    """
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def request(**members: Any) -> bytes:
    """Write a request, or what differs from one in these members.

    :param members: what it has besides, or in the place of what is right.
    :return: the line.
    """
    whole = {"jsonrpc": "2.0", "id": 1, "method": "status", **members}
    return json.dumps(whole).encode() + b"\n"


class AnyBytesTests(SynchronousTestCase):
    """Whatever comes, in whatever pieces."""

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(data=nearly, places=st.lists(st.integers(min_value=0), max_size=12))
    def test_pieces(self, data: bytes, places: list[int]) -> None:
        """However the bytes are cut, each line gives one message or one error, the same ones."""
        whole = decode(data)
        self.assertEqual(len(whole), data.count(b"\n"))
        self.assertEqual(decode(*cut(data, places)), whole)

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        lengths=st.lists(
            st.sampled_from([0, 1, LONGEST_IN - 1, LONGEST_IN, LONGEST_IN + 1, 3 * LONGEST_IN]),
            min_size=1,
            max_size=4,
        ),
        places=st.lists(st.integers(min_value=0), max_size=12),
    )
    def test_long_pieces(self, lengths: list[int], places: list[int]) -> None:
        """Where the line is that is too long, the messages end, however the bytes are cut."""
        data = b"".join(b"7" * length + b"\n" for length in lengths)
        whole = decode(data)
        fitting = next((i for i, each in enumerate(lengths) if each > LONGEST_IN), len(lengths))
        self.assertEqual(len(whole), min(fitting + 1, len(lengths)))
        self.assertEqual(decode(*cut(data, places)), whole)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(data=st.binary(max_size=200))
    @example(data=b'{"jsonrpc":"2.0","id":1.5,"method":"a"}')
    def test_errors(self, data: bytes) -> None:
        """What is no message gives an error that can be sent."""
        for each in decode(data + b"\n"):
            if isinstance(each, Malformed):
                self.assertIn(
                    each.answer.code, (PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS), data
                )
                self.assertTrue(each.answer.message)
                encode(each.answer)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(message=messages)
    def test_round_trip(self, message: Message) -> None:
        """What is written is one line of ASCII, and is read as what it was."""
        line = encode(message)
        self.assertTrue(line.isascii())
        self.assertEqual((line.count(b"\n"), line[-1:]), (1, b"\n"))
        self.assertEqual(decode(line), [message])


class MalformedTests(SynchronousTestCase):
    """What is no message, and the error for it."""

    def refused(self, line: bytes) -> Error:
        """Read a line that is no message, between two that are.

        :param line: the line, without its end.
        :return: the error for it.
        """
        found = decode(request() + line + b"\n" + request())
        good = Request(1, "status", {})
        self.assertEqual((found[0], found[2:]), (good, [good]))
        malformed = found[1]
        assert isinstance(malformed, Malformed), malformed
        return malformed.answer

    def assert_refused(self, line: bytes, code: int, identity: str | int | None = None) -> None:
        answer = self.refused(line)
        self.assertEqual((answer.code, answer.id), (code, identity), line[:80])

    def test_not_json(self) -> None:
        """What is not JSON is a parse error: nothing, half of something, too much."""
        for line in (b"", b" ", b"\r", b"what", b'{"jsonrpc"', b"{} {}", b"{'a': 1}", b"\0", b"1,"):
            self.assert_refused(line, PARSE_ERROR)

    def test_not_utf_8(self) -> None:
        """What is not UTF-8 is a parse error, be it another encoding of right JSON."""
        for line in (b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', '{"a": "é"}'.encode("latin-1")):
            self.assert_refused(line, PARSE_ERROR)
        self.assertIn("not JSON in UTF-8", self.refused(b"\xff").message)

    def test_byte_order_mark(self) -> None:
        """A byte order mark is no JSON (RFC 8259, section 8.1)."""
        self.assert_refused(b"\xef\xbb\xbf{}", PARSE_ERROR)

    def test_no_numbers(self) -> None:
        """NaN and infinities are no JSON."""
        for word in (b"NaN", b"Infinity", b"-Infinity"):
            self.assert_refused(word, PARSE_ERROR)
            self.assert_refused(b'{"id": ' + word + b"}", PARSE_ERROR)
        self.assertIn("NaN is no number", self.refused(b"NaN").message)

    def test_huge_number(self) -> None:
        """A number of too many digits is a parse error."""
        self.assert_refused(b"7" * 60_000, PARSE_ERROR)

    def test_twice(self) -> None:
        """A name that stands twice in one object, at whatever depth, is a parse error."""
        self.assert_refused(b'{"id": 1, "id": 1}', PARSE_ERROR)
        self.assert_refused(b'{"params": {"a": [{"b": 1, "\\u0062": 2}]}}', PARSE_ERROR)
        self.assertIn("twice", self.refused(b'{"id": 1, "id": 2}').message)

    def test_deep(self) -> None:
        """What is nested too deeply is a parse error, be it closed again or not."""
        for line in (
            b"[" * LONGEST_IN,
            b"[" * 32_000 + b"]" * 32_000,
            b'{"a":' * 13_000,
            b'{"a":[' * 5_400 + b"1" + b"]}" * 5_400,
        ):
            self.assert_refused(line, PARSE_ERROR)
            self.assertIn("nested too deeply", self.refused(line).message)

    def test_not_an_object(self) -> None:
        """JSON that is not an object is an invalid request."""
        for line in (b"1", b'"status"', b"null", b"true", b"1e999"):
            self.assert_refused(line, INVALID_REQUEST)

    def test_batch(self) -> None:
        """Batches are refused whole, with one error."""
        for line in (b"[]", b"[" + request()[:-1] + b"]", b"[1, 2, 3]"):
            self.assert_refused(line, INVALID_REQUEST)
            self.assertIn("batches", self.refused(line).message)

    def test_version(self) -> None:
        """Without the version there is no message, but its id is told."""
        for version in (None, "1.0", 2.0, 2, "2", ["2.0"]):
            self.assert_refused(request(jsonrpc=version)[:-1], INVALID_REQUEST, 1)
        self.assert_refused(b'{"id": "x", "method": "status"}', INVALID_REQUEST, "x")

    def test_id(self) -> None:
        """An id is a string, an integer or null; another one cannot be told back."""
        wrong: list[Any] = [True, False, 1.0, 1.5, [], {}, [1]]
        for identity in wrong:
            self.assert_refused(request(id=identity)[:-1], INVALID_REQUEST)

    def test_method(self) -> None:
        """A method is a string, and there is one."""
        wrong: list[Any] = [None, 1, [], {}, True]
        for method in wrong:
            self.assert_refused(request(method=method)[:-1], INVALID_REQUEST, 1)
        self.assert_refused(b'{"jsonrpc": "2.0", "id": 1}', INVALID_REQUEST, 1)
        self.assert_refused(b'{"jsonrpc": "2.0"}', INVALID_REQUEST)

    def test_params(self) -> None:
        """Params go by name: an array is refused as params, anything else as a request."""
        arrays: list[Any] = [[], [1], [{}]]
        for params in arrays:
            self.assert_refused(request(params=params)[:-1], INVALID_PARAMS, 1)
        others: list[Any] = [None, 1, "name", True]
        for params in others:
            self.assert_refused(request(params=params)[:-1], INVALID_REQUEST, 1)


class TooLongTests(SynchronousTestCase):
    """Where a line is too long nobody can tell where the next one begins."""

    def over(self, *pieces: bytes) -> list[Message | Malformed]:
        decoder = Decoder()
        found = [each for piece in pieces for each in decoder.feed(piece)]
        self.assertTrue(decoder.is_over)
        self.assertEqual(list(decoder.feed(request())), [])
        return found

    def test_too_long(self) -> None:
        """It is an invalid request, with no id, and the last that is looked at."""
        line = request(params={"x": "y" * LONGEST_IN})
        for pieces in ([line], [request(), line], [request(), line + request()]):
            [*before, malformed] = self.over(*pieces)
            self.assertEqual(before, [Request(1, "status", {})] * (len(pieces) - 1))
            assert isinstance(malformed, Malformed)
            self.assertEqual((malformed.answer.id, malformed.answer.code), (None, INVALID_REQUEST))
            self.assertIn("65536", malformed.answer.message)

    def test_endless(self) -> None:
        """A line without an end is refused as soon as it is too long."""
        decoder = Decoder()
        self.assertEqual(list(decoder.feed(b" " * LONGEST_IN)), [])
        [malformed] = decoder.feed(b" ")
        self.assertIsInstance(malformed, Malformed)
        self.assertTrue(decoder.is_over)

    def test_longest(self) -> None:
        """As long as may be, without its end, is not too long."""
        line = request(params={})[:-1]
        line += b" " * (LONGEST_IN - len(line))
        self.assertEqual(decode(line + b"\n"), [Request(1, "status", {})])
        self.assertIsInstance(decode(line + b" \n")[0], Malformed)

    def test_short_ones(self) -> None:
        """Short lines may come together, however many they are."""
        self.assertEqual(len(decode(request() * 5000)), 5000)

    def test_long_result(self) -> None:
        """A result that is too long to send is an error in its place."""
        [error] = decode(encode(Result("x", "y" * LONGEST_OUT))[:-1] + b"\n")
        assert isinstance(error, Error)
        self.assertEqual((error.id, error.code), ("x", OWN_FAULT))
        self.assertIn(str(LONGEST_OUT), error.message)


class MessageTests(SynchronousTestCase):
    """What is a message, and which one."""

    def test_request(self) -> None:
        """With an id it is a request, which null is too."""
        self.assertEqual(decode(request(params={"a": 1})), [Request(1, "status", {"a": 1})])
        self.assertEqual(decode(request(id=None)), [Request(None, "status", {})])
        self.assertEqual(decode(request(id="")), [Request("", "status", {})])
        self.assertEqual(decode(request(id=-7)), [Request(-7, "status", {})])

    def test_notification(self) -> None:
        """Without an id it is a notification."""
        self.assertEqual(
            decode(b'{"jsonrpc": "2.0", "method": "x", "params": {"a": [1]}}\n'),
            [Notification("x", {"a": [1]})],
        )

    def test_crooked_notification(self) -> None:
        """One with params of another kind is one too: nobody waits to be told."""
        for params in (b"[1]", b'"a"', b"null"):
            line = b'{"jsonrpc": "2.0", "method": "x", "params": %s}\n' % params
            self.assertEqual(decode(line), [Notification("x", {})])

    def test_carriage_return(self) -> None:
        """A carriage return before the end of the line is white space."""
        self.assertEqual(decode(request()[:-1] + b"\r\n"), [Request(1, "status", {})])

    def test_unknown_members(self) -> None:
        """Members that nobody knows change nothing."""
        self.assertEqual(decode(request(more=[1])), [Request(1, "status", {})])

    def test_surrogate(self) -> None:
        """Half of a surrogate pair is text (RFC 8259, section 8.2), told back as it came."""
        [message] = decode(request(id="\ud800"))
        self.assertEqual(message, Request("\ud800", "status", {}))
        self.assertIn(b'"\\ud800"', encode(Result("\ud800", {})))

    def test_result(self) -> None:
        """An answer with a result is good, whatever the result."""
        values: list[Any] = [None, {}, 1, "x", [1]]
        for value in values:
            line = json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode() + b"\n"
            self.assertEqual(decode(line), [Result(1, value)])

    def test_error(self) -> None:
        """An answer with an error has its code, its message, and perhaps more."""
        line = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"%s}}\n'
        self.assertEqual(decode(line % b""), [Error(1, -1, "no")])
        self.assertEqual(decode(line % b', "data": [1]'), [Error(1, -1, "no", [1])])

    def test_crooked_answer(self) -> None:
        """An answer that is not right is an error, never a good one."""
        crooked: list[dict[str, Any]] = [
            {"result": {}, "error": {"code": 1, "message": "no"}},
            {"result": {}, "error": None},
            {"error": None},
            {"error": "no"},
            {"error": {}},
            {"error": {"code": "1", "message": "no"}},
            {"error": {"code": 1, "message": 2}},
            {"error": {"message": "no"}},
        ]
        for members in crooked:
            line = json.dumps({"jsonrpc": "2.0", "id": 5, **members}).encode() + b"\n"
            self.assertEqual(decode(line), [Error(5, INVALID_REQUEST, NEITHER)], members)
