"""Ready-made participants as data: what a section that names one need not say itself.

Each is a file of two sections: one named for the kind, with the options that the recipe fills in,
and ``[check]``, by which the client and its login are tried without freezing anything. For a
session that is what is written to its client (``input``) and the whole line that it answers
(``expect``); for a command it is a program of its own (``command``). ``needs`` says
what to see to where that fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from xohook.config.ini import Entry, parse

_HERE = Path(__file__).parent
_CHECK = "check"


@attrs.frozen
class Recipe:
    """One recipe.

    :param name: its name.
    :param kind: the kind of participant that it is for.
    :param entries: the options that it fills in.
    :param check: how it is tried.
    """

    name: str
    kind: str
    entries: tuple[Entry, ...]
    check: Mapping[str, str]

    @property
    def needs(self) -> str:
        """What it needs of the server and the section, in one line."""
        return " ".join(self.check["needs"].split())


def known() -> list[str]:
    """Tell which recipes there are.

    :return: their names, in order.
    """
    return sorted(path.stem for path in _HERE.glob("*.ini"))


def read(name: str) -> Recipe:
    """Read a recipe.

    :param name: one of those that are known.
    :return: the recipe.
    """
    path = _HERE / f"{name}.ini"
    sections, mistakes = parse(path.read_bytes(), str(path))
    assert not mistakes, mistakes
    by_name = {section.name: section.entries for section in sections}
    check = {entry.option: entry.value for entry in by_name.pop(_CHECK)}
    [(kind, entries)] = by_name.items()
    return Recipe(name, kind, entries, check)
