"""The syntax of a configuration file: bytes to sections and entries, with every mistake's line.

The rules are those of ``docs/configuration.rst``, "How a file is written".
"""

from __future__ import annotations

import re

import attrs

from xohook.errors import Mistake

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


@attrs.frozen
class Entry:
    """One option and its value.

    :param file: the file that it stands in.
    :param line: the option's line, counted from 1.
    :param section: the section's name without brackets.
    :param option: the option's name.
    :param value: the value without outer blanks, its lines joined with newlines; may be empty.
    """

    file: str
    line: int
    section: str
    option: str
    value: str


@attrs.frozen
class Section:
    """One section, which may be empty.

    :param file: the file that it stands in.
    :param line: the header's line, counted from 1.
    :param name: its name without brackets.
    :param entries: its entries in the order of the file, no option twice.
    """

    file: str
    line: int
    name: str
    entries: tuple[Entry, ...] = ()


def parse(data: bytes, file: str) -> tuple[tuple[Section, ...], tuple[Mistake, ...]]:
    """Read one file, going on after each mistake so that all are told at once.

    What a mistaken line evidently meant is kept: the first of a doubled option, the name of an
    unclosed header. So one mistake does not call forth others, and whoever only needs one option
    of a broken file can still have it.

    :param data: the file's content.
    :param file: the file's name, for entries and mistakes.
    :return: the sections in order, no name twice, and the mistakes in order.
    """
    reading = _Reading(file)
    for number, line in enumerate(data.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), start=1):
        reading.take(number, line.removesuffix(b"\r"))
    return tuple(draft.finished(file) for draft in reading.sections.values()), tuple(
        reading.mistakes
    )


@attrs.define
class _EntryDraft:
    """An entry whose value may still go on."""

    line: int
    indent: int
    lines: list[str]


@attrs.define
class _SectionDraft:
    """A section whose entries are still being read."""

    line: int
    name: str
    entries: dict[str, _EntryDraft] = attrs.Factory(dict)

    def finished(self, file: str) -> Section:
        return Section(
            file,
            self.line,
            self.name,
            tuple(
                Entry(file, draft.line, self.name, option, "\n".join(draft.lines).strip())
                for option, draft in self.entries.items()
            ),
        )


@attrs.define
class _Reading:
    """How far a file has been read."""

    file: str
    sections: dict[str, _SectionDraft] = attrs.Factory(dict)
    mistakes: list[Mistake] = attrs.Factory(list)
    section: _SectionDraft | None = None
    entry: _EntryDraft | None = None

    def take(self, number: int, raw: bytes) -> None:
        """Read the next line."""
        text = self._decoded(number, raw)
        content = text.strip()
        if not content or content[0] in ";#":
            return
        indent = len(text) - len(text.lstrip())
        if self.entry is not None and indent > self.entry.indent:
            self.entry.lines.append(content)
        elif content[0] == "[":
            self._take_header(number, content)
        else:
            self._take_option(number, indent, content)

    def _decoded(self, number: int, raw: bytes) -> str:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self._mistaken(
                number,
                None,
                f"byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8",
                "save the file as UTF-8",
            )
            return raw.decode("utf-8", errors="replace")
        control = _CONTROL_CHARACTER.search(text)
        if control is not None:
            self._mistaken(
                number,
                None,
                f"character {control.start() + 1} of the line is {control.group()!r}",
                "text without controls",
            )
            return _CONTROL_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text)
        return text

    def _take_header(self, number: int, content: str) -> None:
        self.entry = None
        name, bracket, rest = content[1:].partition("]")
        name = name.strip()
        self.section = self.sections.get(name)
        if self.section is not None:
            self._mistaken(
                number,
                None,
                f"stands on line {self.section.line} already",
                "one section of a name in a file",
            )
        else:
            self.section = _SectionDraft(number, name)
        if not name:
            self._mistaken(number, None, "the section has no name", "[NAME]")
            return
        self.sections[name] = self.section
        if not bracket:
            self._mistaken(number, None, "the section's header is not closed", f"[{name}]")
        elif rest:
            self._mistaken(
                number,
                None,
                f"{rest.strip()!r} follows the header",
                "a comment stands on a line of its own",
            )

    def _take_option(self, number: int, indent: int, content: str) -> None:
        option, delimiter, value = content.partition("=")
        option = option.rstrip()
        # Open even where the line is mistaken, so that what continues it is not blamed too.
        self.entry = _EntryDraft(number, indent, [value.strip()])
        if not delimiter:
            self._mistaken(
                number,
                None,
                f"{content!r} has no '='",
                "OPTION = VALUE; a line that continues a value is indented",
            )
        elif not option:
            self._mistaken(number, None, "no option's name stands before the '='", "OPTION = VALUE")
        elif self.section is None:
            self._mistaken(number, option, "stands before any section", "first [xohook], then it")
        elif option in self.section.entries:
            first = self.section.entries[option].line
            self._mistaken(number, option, f"stands on lines {first} and {number}", "only one")
        else:
            self.section.entries[option] = self.entry

    def _mistaken(self, number: int, option: str | None, problem: str, allowed: str) -> None:
        section = None if self.section is None else self.section.name or None
        self.mistakes.append(Mistake(self.file, number, section, option, problem, allowed))
