"""JSON that a disk gave back, which may hold anything: plain values, or one kind of error."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from xohook.host.ownership import LONGEST

_DIGITS = len(str(2**63))
"""Digits of an integer: the longest are those of 64 bits. Python takes a minute for a million."""


def decode(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    :param data: the file's content.
    :return: its values: numbers are finite, integers have 64 bits at most, and each text can stand
        in an environment and on a command line.
    :raises ValueError: it is anything else.
    """
    try:
        values = json.loads(data.decode(), parse_int=_integer, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(values, dict):
        raise ValueError("not an object")
    left: list[Any] = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str):
            # A NUL ends a string of the kernel. Of surrogates, only those can be encoded that stand
            # for the bytes of a path that is not UTF-8.
            if b"\0" in value.encode("utf-8", "surrogateescape"):
                raise ValueError("a NUL in a text")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("no finite number")
    return values


def encode(values: Mapping[str, Any]) -> bytes:
    """Write a JSON object, as long as :func:`xohook.host.ownership.read` will read it again.

    :param values: plain values.
    :return: the file's content.
    :raises OSError: it would be longer.
    """
    data = json.dumps(values).encode()
    if len(data) > LONGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError("an integer beyond 64 bits")
    return int(digits)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON (RFC 8259)")
