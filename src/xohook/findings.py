"""What a check finds."""

from __future__ import annotations

from typing import Literal

import attrs

Level = Literal["ok", "warning", "error"]


@attrs.frozen
class Finding:
    """One thing that was looked at.

    :param level: ``error`` where the agent cannot do its work with it.
    :param text: where, what is so, and what to do.
    """

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.text}"


def ok(text: str) -> Finding:
    """Make a finding that nothing is wrong with.

    :param text: where, and what is so.
    :return: the finding.
    """
    return Finding("ok", text)


def warning(text: str) -> Finding:
    """Make a finding that the agent can live with.

    :param text: where, what is so, and what to do.
    :return: the finding.
    """
    return Finding("warning", text)


def error(text: str) -> Finding:
    """Make a finding that the agent cannot do its work with.

    :param text: where, what is wrong, and what to do.
    :return: the finding.
    """
    return Finding("error", text)
