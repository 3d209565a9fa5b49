"""Checks what the agent sends, and shortens what goes into log lines and answers. Pure.

``docs/protocol.rst``, Messages, has the rules.
"""

from __future__ import annotations

import json
from typing import Any

LONGEST = 16 * 1024 * 1024
"""Bytes of a message from the agent, its line feed not counted (docs/protocol.rst, Messages)."""

LONGEST_TEXT = 500
"""Characters of a text from outside that go into a log line or an answer. The agent shows 200."""

LONGEST_TIME = 1_000_000.0
"""Seconds that a ``timeout`` or a ``hold`` may have: poll(2) counts milliseconds in an ``int``."""

LONGEST_HOLD = 4300.0
"""Seconds, at most, that a client stays frozen, whatever ``hold`` the agent names. An agent names
at most 4,200.5: the longest ``freeze_budget``, the longest ``hold_limit`` and half a second
(docs/configuration.rst)."""


class ProtocolError(Exception):
    """The agent sent something that is not allowed. The text says what; close the connection."""


def parse(line: bytes) -> dict[str, Any]:
    """Parse one message.

    :param line: the message without its line feed.
    :return: its members.
    :raises ProtocolError: where it is too long, or no JSON-RPC 2.0 object in UTF-8.
    """
    if len(line) > LONGEST:
        raise too_long()
    try:
        message = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        # Wrong JSON, wrong UTF-8, a number of too many digits, or nesting that is too deep.
        raise ProtocolError(f"a message is not JSON in UTF-8: {error}") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolError("a message is not a JSON-RPC 2.0 object")
    return message


def too_long() -> ProtocolError:
    """Return the error for a message that is longer than :data:`LONGEST`."""
    return ProtocolError(f"a message is longer than {LONGEST} bytes")


def text_param(params: dict[str, Any], name: str) -> str:
    """Return a parameter that has to be a string.

    :param params: the parameters of a request.
    :param name: the parameter's name.
    :return: its value.
    :raises ProtocolError: where it is missing or no string.
    """
    text = params.get(name)
    if not isinstance(text, str):
        raise ProtocolError(f"{name} is not a string")
    return text


def seconds_param(params: dict[str, Any], name: str) -> float:
    """Return a parameter that has to be a number of seconds.

    :param params: the parameters of a request.
    :param name: the parameter's name.
    :return: its value in seconds.
    :raises ProtocolError: where it is missing, no number, or not from 0 to :data:`LONGEST_TIME`.
    """
    seconds = params.get(name)
    # In Python True is a number too, and NaN is not within any bounds.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ProtocolError(f"{name} is not a number")
    if not 0 <= seconds <= LONGEST_TIME:
        raise ProtocolError(f"{name} is not between 0 and {LONGEST_TIME:.0f} seconds")
    return float(seconds)


def one_line(text: str) -> str:
    """Return a text as one printable line.

    :param text: the text.
    :return: its first 500 characters, each run of white space as one space, the rest escaped.
    """
    cut = " ".join(text[:LONGEST_TEXT].split())
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
    return shown[:LONGEST_TEXT]


def describe_error(error: BaseException) -> str:
    """Describe an exception in one printable line.

    :param error: the exception.
    :return: its type and its text, cut to 500 characters; the text alone where the exception has an
        attribute ``says_all`` that is true.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an application's exception may fail to describe itself.
        text = "its text cannot be shown"
    kind = type(error).__name__
    if text and getattr(error, "says_all", False):
        return one_line(text)
    return one_line(f"{kind}: {text}" if text else kind)
