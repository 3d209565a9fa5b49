"""Text that came from others, made safe for a log, an answer or a terminal. Pure."""

from __future__ import annotations

LONGEST = 200
"""Characters of a foreign text that a line of the log or of an answer holds."""


def printable(text: str, longest: int = LONGEST) -> str:
    """Escape what is not to be printed, and cut what is too long.

    :param text: any text.
    :param longest: characters that may be left of it.
    :return: one line without control characters.
    """
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    # Python's own escapes, of which every codec is at hand: nothing may be imported in a hold.
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in shown)


def counted(count: int, noun: str) -> str:
    """Write how many there are of something.

    :param count: how many.
    :param noun: what, in the singular; its plural ends in "s".
    :return: for instance ``no apps``, ``1 app`` or ``2 apps``.
    """
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
