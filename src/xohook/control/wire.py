"""JSON-RPC 2.0 as the control socket speaks it: one message a line, bytes to values and back. Pure.

The rules are those of ``docs/protocol.rst`` and of the JSON-RPC 2.0 specification
(https://www.jsonrpc.org/specification).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

LONGEST_IN = 64 * 1024
"""Bytes of a message to the agent (docs/protocol.rst, Messages)."""

LONGEST_OUT = 16 * 1024 * 1024
"""Bytes of a message from the agent (docs/protocol.rst, Messages)."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
OWN_FAULT = -32603
NOT_ALLOWED = -32001
TAKEN = -32002
NOT_REGISTERED = -32003
TOO_MANY = -32004
NOT_RELOADED = -32005

Id = str | int | None
"""What an answer is matched with its request by."""


@attrs.frozen
class Request:
    """A request, which wants an answer.

    :param id: what the answer names it by.
    :param method: the method's name.
    :param params: the parameters by name.
    """

    id: Id
    method: str
    params: Mapping[str, Any]


@attrs.frozen
class Notification:
    """A request that wants no answer.

    :param method: the method's name.
    :param params: the parameters by name.
    """

    method: str
    params: Mapping[str, Any]


@attrs.frozen
class Result:
    """The good answer to a request.

    :param id: the request's.
    :param value: the result.
    """

    id: Id
    value: Any


@attrs.frozen
class Error:
    """The answer to a request that could not be done, or to what was none.

    :param id: the request's; None where it cannot be told.
    :param code: the kind of error (docs/protocol.rst, Errors).
    :param message: what was wrong, in a sentence.
    :param data: more of it in plain values; None where there is no more.
    """

    id: Id
    code: int
    message: str
    data: Any = None


@attrs.frozen
class Malformed:
    """A line that is no message.

    :param answer: what its sender is to be told.
    """

    answer: Error


Message = Request | Notification | Result | Error
"""Whatever goes over the socket."""


class _NoMessageError(Exception):
    """What was read is no message.

    :param code: the kind of error.
    :param problem: what is wrong.
    :param identity: the id of the request that it nearly is.
    """

    def __init__(self, code: int, problem: str, identity: Id = None) -> None:
        super().__init__(problem)
        self.answer = Error(identity, code, problem)


class Decoder:
    """Takes one connection's bytes, in whatever pieces they come, and gives its messages."""

    def __init__(self) -> None:
        self._rest = b""
        self.is_over = False
        """Whether a line was too long: where the next one begins is not known any more."""

    def feed(self, data: bytes) -> Iterator[Message | Malformed]:
        """Take bytes; nothing is looked at any more after a line that is too long.

        :param data: the bytes.
        :return: the messages that are complete by them; to be gone through to the end.
        """
        if self.is_over:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in (*lines, None):
            if len(self._rest if line is None else line) > LONGEST_IN:
                self.is_over = True
                yield Malformed(
                    Error(None, INVALID_REQUEST, f"a message is longer than {LONGEST_IN} bytes")
                )
                return
            if line is not None:
                yield _decoded(line)


def encode(message: Message) -> bytes:
    """Write a message as a line.

    :param message: the message, of values that JSON has.
    :return: the line with its end; an error in the place of a result that is too long.
    """
    line = _encoder.encode({"jsonrpc": "2.0", **_members(message)}).encode()
    if len(line) > LONGEST_OUT and isinstance(message, Result):
        problem = f"the result is longer than {LONGEST_OUT} bytes"
        return encode(Error(message.id, OWN_FAULT, problem))
    return line + b"\n"


def _members(message: Message) -> dict[str, Any]:
    if isinstance(message, Request):
        return {"id": message.id, "method": message.method, "params": dict(message.params)}
    if isinstance(message, Notification):
        return {"method": message.method, "params": dict(message.params)}
    if isinstance(message, Result):
        return {"id": message.id, "result": message.value}
    error = {"code": message.code, "message": message.message}
    if message.data is not None:
        error["data"] = message.data
    return {"id": message.id, "error": error}


def _decoded(line: bytes) -> Message | Malformed:
    try:
        return _message(_parsed(line))
    except _NoMessageError as error:
        return Malformed(error.answer)


def _parsed(line: bytes) -> Any:
    try:
        return _decoder.decode(line.decode())
    except RecursionError:
        raise _NoMessageError(PARSE_ERROR, "it is nested too deeply") from None
    except ValueError as error:
        # Wrong JSON, wrong UTF-8, or a number of more digits than Python reads.
        raise _NoMessageError(PARSE_ERROR, f"it is not JSON in UTF-8: {error}") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON's (RFC 8259, section 6)")


# Made once: the functions of json make one for each message that is told how.
_encoder = json.JSONEncoder(separators=(",", ":"))
_decoder = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)


def _message(value: Any) -> Message:
    if isinstance(value, list):
        raise _NoMessageError(INVALID_REQUEST, "batches are not taken: send a message a line")
    if not isinstance(value, dict):
        raise _NoMessageError(INVALID_REQUEST, "it is not an object")
    identity = value.get("id")
    # In Python True is an integer too.
    if isinstance(identity, bool) or not isinstance(identity, Id):
        raise _NoMessageError(INVALID_REQUEST, "its id is neither a string nor an integer")
    if value.get("jsonrpc") != "2.0":
        raise _NoMessageError(INVALID_REQUEST, 'it lacks "jsonrpc": "2.0"', identity)
    if "method" in value:
        return _request(value, identity)
    if "result" in value or "error" in value:
        return _answer(value, identity)
    raise _NoMessageError(INVALID_REQUEST, "it has no method", identity)


def _request(value: Mapping[str, Any], identity: Id) -> Request | Notification:
    method, params = value["method"], value.get("params", {})
    if not isinstance(method, str):
        raise _NoMessageError(INVALID_REQUEST, "its method is not a string", identity)
    if "id" not in value:
        # Whatever is wrong with it, nobody wants to be told.
        return Notification(method, params if isinstance(params, dict) else {})
    if not isinstance(params, dict | list):
        raise _NoMessageError(INVALID_REQUEST, "its params are not an object", identity)
    if isinstance(params, list):
        raise _NoMessageError(INVALID_PARAMS, "give the params by name, in an object", identity)
    return Request(identity, method, params)


def _answer(value: Mapping[str, Any], identity: Id) -> Result | Error:
    error = value.get("error")
    if "error" not in value:
        return Result(identity, value["result"])
    if isinstance(error, dict) and "result" not in value:
        code, message = error.get("code"), error.get("message")
        if isinstance(code, int) and isinstance(message, str):
            return Error(identity, code, message, error.get("data"))
    return Error(
        identity,
        INVALID_REQUEST,
        "its answer is not one of JSON-RPC 2.0: a result or an error, one of the two",
    )
