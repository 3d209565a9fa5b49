"""Strings as TOML writes them."""

from __future__ import annotations

_SHORT = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r", '"': r"\"", "\\": r"\\"}


def _is_control(character: str) -> bool:
    return character < " " or character == "\x7f"


def quote(text: str) -> str:
    """Write a string as a TOML value.

    :param text: the string.
    :return: a literal string (``'…'``) where that can hold it, else a basic one (``"…"``) with
        escapes (TOML 1.0, "String").
    """
    if "'" not in text and not any(map(_is_control, text)):
        return f"'{text}'"
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    return f"\\u{ord(character):04X}" if _is_control(character) else character
