"""The error tree: everything that xohook says is wrong, in words for whoever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


class XohookError(Exception):
    """The root of the tree; its text is meant for the administrator."""


@attrs.frozen
class Mistake:
    """One thing that is wrong in the configuration.

    :param file: the file that it stands in.
    :param line: the line in that file, counted from 1; None where it concerns no line.
    :param section: the section's name without brackets; None where there is none.
    :param option: the option's name; None where it concerns the section or the file.
    :param problem: what is wrong.
    :param allowed: what would be right; empty where the problem says it already.
    """

    file: str
    line: int | None
    section: str | None
    option: str | None
    problem: str
    allowed: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [place]
        if self.section is not None:
            parts.append(f"[{self.section}]")
        if self.option is not None:
            parts.append(self.option)
        text = f"{' '.join(parts)}: {self.problem}"
        return f"{text} ({self.allowed})" if self.allowed else text


class ConfigurationError(XohookError):
    """The configuration cannot be used.

    :param mistakes: every mistake that was found, in the order of the files.
    """

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class StartError(XohookError):
    """The agent cannot start, for a reason that is not in its configuration's text."""


class RecordError(XohookError):
    """The record in the runtime directory cannot be read or written."""


class CallError(XohookError):
    """What is asked for over the control socket cannot be done.

    :param code: the kind of error (``docs/protocol.rst``, Errors).
    :param problem: what is wrong.
    :param data: more of it in plain values; None where there is no more.
    """

    def __init__(self, code: int, problem: str, data: Any = None) -> None:
        super().__init__(problem)
        self.code = code
        self.data = data


class ParticipantError(XohookError):
    """A participant did not freeze or thaw as it should have.

    :param problem: what went wrong, in one line.
    :param output: the end of what it wrote.
    """

    def __init__(self, problem: str, output: bytes = b"") -> None:
        super().__init__(problem)
        self.output = output


class NotHeldError(ParticipantError):
    """A participant is thawed, but was not frozen until it was asked to thaw."""
