"""Lengths of time as the configuration and the messages write them: ``500ms``, ``50s``, ``2m``."""

from __future__ import annotations

import re

_SHAPE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000}


def parse_duration(text: str) -> float:
    """Read a duration, as ``docs/configuration.rst`` describes it under "Durations".

    :param text: a number, which may have decimals, and its unit with no blank between.
    :return: seconds.
    :raises ValueError: where the text is no duration.
    """
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration")
    number, unit = match.groups()
    return float(number) * _MILLISECONDS[unit] / 1000


def format_duration(seconds: float) -> str:
    """Write a duration in the largest unit that needs no more than milliseconds' precision.

    Whole minutes are written in minutes, less than a second in milliseconds, all else in seconds.

    :param seconds: the duration in seconds, rounded to milliseconds here.
    :return: a text that :func:`parse_duration` reads back.
    """
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    if not rest:
        return f"{minutes}m"
    return f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
