"""What the texts for people say, held against what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import Reporter
from twisted.trial.unittest import SynchronousTestCase

from xohook.cli import main
from xohook.config import loading
from xohook.window.answers import Outcome

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.rst"), *DOCS.rglob("*.rst"), ROOT / "examples" / "README.rst"])
FRAGMENTS = sorted((ROOT / "newsfragments").glob("*.rst"))

#: What begins so leads elsewhere, and is not asked for here.
ELSEWHERE = ("https:", "mailto:")


def read(page: Path) -> nodes.document:
    """Parse a page.

    :param page: the page, reStructuredText.
    :return: its tree, with a message for whatever is wrong in it.
    """
    settings = {
        "report_level": Reporter.SEVERE_LEVEL + 1,
        "halt_level": Reporter.SEVERE_LEVEL + 1,
        "syntax_highlight": "none",
    }
    return publish_doctree(
        page.read_text(encoding="utf-8"), source_path=str(page), settings_overrides=settings
    )


def complaints(document: nodes.document) -> list[str]:
    """Tell what is wrong with a page.

    :param document: its tree.
    :return: the messages, warnings and worse.
    """
    messages = [*document.parse_messages, *document.transform_messages]
    return [each.astext() for each in messages if each["level"] >= Reporter.WARNING_LEVEL]


def targets(document: nodes.document) -> Iterator[str]:
    """Tell where a page leads.

    :param document: its tree.
    :return: what its links and pictures name.
    """
    for link in document.findall(nodes.reference):
        yield link.get("refuri", "")
    for picture in document.findall(nodes.image):
        yield picture["uri"]


def typed(pattern: str) -> set[str]:
    """Find what the pages show as typed.

    :param pattern: a regular expression for the begin of a line, with one group.
    :return: what the group was, on any line of any literal or literal block.
    """
    kinds = (nodes.literal, nodes.literal_block)
    shown = [node for page in PAGES for kind in kinds for node in read(page).findall(kind)]
    return {found for node in shown for found in re.findall(pattern, node.astext(), re.MULTILINE)}


class PageTests(SynchronousTestCase):
    """The pages as such."""

    def test_valid(self) -> None:
        """Each page and each news fragment is valid reStructuredText."""
        wrong = {page.name: complaints(read(page)) for page in [*PAGES, *FRAGMENTS]}

        self.assertEqual({name: found for name, found in wrong.items() if found}, {})

    def test_links(self) -> None:
        """What a page links to or shows within the project is there."""
        dead = [
            f"{page.name}: {target}"
            for page in PAGES
            for target in targets(read(page))
            if target
            and not target.startswith(ELSEWHERE)
            and not (page.parent / target.partition("#")[0]).exists()
        ]

        self.assertEqual(dead, [])

    def test_index(self) -> None:
        """Each page of docs/ can be found from the index."""
        listed = set(targets(read(DOCS / "index.rst")))

        self.assertEqual({page.name for page in DOCS.glob("*.rst")} - listed, {"index.rst"})


class PromiseTests(SynchronousTestCase):
    """What the pages say that there is."""

    def test_outcomes(self) -> None:
        """The hook's page lists each outcome that a window can have, and no other."""
        section = next(
            each
            for each in read(DOCS / "hook.rst").findall(nodes.section)
            if each["names"] == ["outcomes"]
        )
        firsts = {row[0].astext() for row in section.findall(nodes.row)} - {"outcome"}

        self.assertEqual(firsts, {outcome.value for outcome in Outcome})

    def test_subcommands(self) -> None:
        """Each subcommand that there is stands on a page, and no other does."""
        there = main.list_commands(click.Context(main))

        self.assertEqual(typed(r"^(?:\S*/)?xohook\s([a-z]+)"), set(there))

    def test_make(self) -> None:
        """Each ``make`` command on a page has its rule in the Makefile."""
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        rules = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))

        self.assertLessEqual({"run", "test"}, typed(r"^make\s([a-z]+)"))
        self.assertLessEqual(typed(r"^make\s([a-z]+)"), rules)

    def test_service(self) -> None:
        """The unit starts the program that the pages install, with their configuration."""
        unit = (ROOT / "etc/xohook.service").read_text(encoding="utf-8")
        start = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        assert start is not None
        program, *arguments = start[1].split()

        self.assertIn(str(Path(program).parent), typed(r"^(/\S+)/pip install"))
        self.assertEqual(arguments, ["-n", "--pidfile=", "xohook", "-c", str(loading.DEFAULT_PATH)])
