"""The syntax of a configuration file."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.config.ini import Entry, Section, parse

NO_DELIMITER = "has no '=' (OPTION = VALUE; a line that continues a value is indented)"


class ParsedTestCase(SynchronousTestCase):
    """Reads texts as the file ``x.ini``."""

    def values(self, text: str) -> dict[str, dict[str, str]]:
        """Read a text that has no mistakes."""
        sections, mistakes = parse(text.encode(), "x.ini")
        self.assertEqual(mistakes, ())
        return {
            section.name: {entry.option: entry.value for entry in section.entries}
            for section in sections
        }

    def mistakes(self, data: str | bytes) -> list[str]:
        """Read what has mistakes, and tell them as the administrator sees them."""
        found = parse(data.encode() if isinstance(data, str) else data, "x.ini")[1]
        return [str(mistake) for mistake in found]


class SyntaxTests(ParsedTestCase):
    """What a file without mistakes says."""

    def test_places(self) -> None:
        """Sections and entries know their file and line; lines count from 1."""
        sections, mistakes = parse(b"; first\n\n[a]\nb = c\n[d]\n", "x.ini")
        self.assertEqual(mistakes, ())
        self.assertEqual(
            sections,
            (
                Section("x.ini", 3, "a", (Entry("x.ini", 4, "a", "b", "c"),)),
                Section("x.ini", 5, "d"),
            ),
        )

    def test_nothing(self) -> None:
        """An empty file has no sections and no mistakes."""
        self.assertEqual(parse(b"", "x.ini"), ((), ()))

    def test_comments(self) -> None:
        """A line that begins with ``;`` or ``#``, indented or not, is no part of a value."""
        self.assertEqual(
            self.values("# x\n[a]\n  ; x\nb = c\n ; x\n # x\n d\n;e = f\n"), {"a": {"b": "c\nd"}}
        )

    def test_value_is_not_cut(self) -> None:
        """In a value ``;``, ``#``, ``%``, ``$`` and a further ``=`` are as other characters."""
        self.assertEqual(
            self.values("[a]\nb = A; B # c = %(d)s ${e}\n"), {"a": {"b": "A; B # c = %(d)s ${e}"}}
        )

    def test_blanks_around(self) -> None:
        """Blanks around names and values are no part of them."""
        self.assertEqual(self.values("[ a ]\t\nb=c\nd \t = \t e \n"), {"a": {"b": "c", "d": "e"}})

    def test_continued(self) -> None:
        """Lines indented deeper than the option continue it; empty ones between do not end it."""
        self.assertEqual(
            self.values("[a]\nb = c\n\n  d = e\n\t[f]\nempty =\n  then = full\nx =\n"),
            {"a": {"b": "c\nd = e\n[f]", "empty": "then = full", "x": ""}},
        )

    def test_indented_as_a_whole(self) -> None:
        """Options that are indented alike are options, not one another's continuation."""
        self.assertEqual(
            self.values("  [a]\n  b = c\n    d\n  e = f\n"), {"a": {"b": "c\nd", "e": "f"}}
        )

    def test_foreign_editors(self) -> None:
        """A byte order mark and line ends of carriage return and newline are no part of a file."""
        self.assertEqual(self.values("\ufeff[a]\r\nb = ü\r\n c\r\n"), {"a": {"b": "ü\nc"}})

    def test_case_matters(self) -> None:
        """Names are kept as they are written."""
        self.assertEqual(self.values("[A]\nB = C\nb = c\n"), {"A": {"B": "C", "b": "c"}})


class MistakeTests(ParsedTestCase):
    """What is told of a mistaken file."""

    def test_doubled_option(self) -> None:
        """The same option twice in a section is told with both lines; the first is kept."""
        data = b"[a]\nb = 1\nb = 2\n"
        self.assertEqual(self.mistakes(data), ["x.ini:3 [a] b: stands on lines 2 and 3 (only one)"])
        self.assertEqual([entry.value for entry in parse(data, "x.ini")[0][0].entries], ["1"])

    def test_doubled_section(self) -> None:
        """The same section twice is told, and so are the options doubled over both."""
        self.assertEqual(
            self.mistakes("[a]\nb = 1\n[c]\n[a]\nb = 2\n"),
            [
                "x.ini:4 [a]: stands on line 1 already (one section of a name in a file)",
                "x.ini:5 [a] b: stands on lines 2 and 5 (only one)",
            ],
        )

    def test_no_delimiter(self) -> None:
        """A line with no ``=`` that continues nothing is told, once with all that continues it."""
        self.assertEqual(
            self.mistakes("[a]\nb: c\n  d\n"),
            [f"x.ini:2 [a]: 'b: c' {NO_DELIMITER}"],
        )

    def test_no_name(self) -> None:
        """A value without an option's name is told."""
        self.assertEqual(
            self.mistakes("[a]\n= b\n"),
            ["x.ini:2 [a]: no option's name stands before the '=' (OPTION = VALUE)"],
        )

    def test_before_any_section(self) -> None:
        """An option before any section is told."""
        self.assertEqual(
            self.mistakes("b = c\n"),
            ["x.ini:1 b: stands before any section (first [xohook], then it)"],
        )

    def test_headers(self) -> None:
        """Headers that are nameless, unclosed or followed by something are told."""
        self.assertEqual(
            self.mistakes("[ ]\nx = y\n[a\nb = c\n[d] ; e\n"),
            [
                "x.ini:1: the section has no name ([NAME])",
                "x.ini:3 [a]: the section's header is not closed ([a])",
                "x.ini:5 [d]: '; e' follows the header (a comment stands on a line of its own)",
            ],
        )

    def test_unclosed_header_is_understood(self) -> None:
        """The options under an unclosed header are known by the section that was meant."""
        sections, _ = parse(b"[a\nb = c\n", "x.ini")
        self.assertEqual(sections, (Section("x.ini", 1, "a", (Entry("x.ini", 2, "a", "b", "c"),)),))

    def test_not_utf_8(self) -> None:
        """Bytes that are no UTF-8 are told with their line, and reading goes on after them."""
        self.assertEqual(
            self.mistakes(b"[a]\nb = caf\xe9\nc\n"),
            [
                "x.ini:2 [a]: byte 8 of the line (0xe9) is not UTF-8 (save the file as UTF-8)",
                f"x.ini:3 [a]: 'c' {NO_DELIMITER}",
            ],
        )

    def test_control_characters(self) -> None:
        """A NUL or another control character is told, and gets into no value."""
        data = b"[a]\nb = c\x00d\ne\t= \x1b[31m\n"
        self.assertEqual(
            self.mistakes(data),
            [
                "x.ini:2 [a]: character 6 of the line is '\\x00' (text without controls)",
                "x.ini:3 [a]: character 5 of the line is '\\x1b' (text without controls)",
            ],
        )
        entries = parse(data, "x.ini")[0][0].entries
        self.assertEqual([entry.value for entry in entries], ["c\ufffdd", "\ufffd[31m"])

    @given(st.binary() | st.text(alphabet="[]=;# \t\r\n\x00ab:").map(str.encode))
    def test_anything(self, data: bytes) -> None:
        """Whatever a file holds, reading ends, with every place inside the file."""
        sections, mistakes = parse(data, "x.ini")
        lines = data.count(b"\n") + 1
        for section in sections:
            self.assertTrue(1 <= section.line <= lines)
            for entry in section.entries:
                self.assertTrue(section.line < entry.line <= lines or mistakes)
        for mistake in mistakes:
            assert mistake.line is not None
            self.assertTrue(1 <= mistake.line <= lines)
