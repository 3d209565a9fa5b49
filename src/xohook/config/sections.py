"""What stands in a configuration's sections, held against the table of options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

import attrs

from xohook.config import recipes
from xohook.config.ini import Entry, Section
from xohook.config.kinds import KINDS, Kind
from xohook.config.options import AGENT, NAME, Given, Schema
from xohook.config.values import RefusedError, near
from xohook.errors import Mistake

AGENT_SECTION = "xohook"
"""The name of the agent's own section."""


def misnamed(section: Section) -> Mistake | None:
    """Say what is wrong with a section's name.

    :param section: a section of any name.
    :return: the mistake; None where the section is the agent's own or a known kind's.
    """
    if section.name == AGENT_SECTION:
        return None
    kind, colon, name = section.name.partition(":")
    if kind not in KINDS:
        known = ", ".join([f"[{AGENT_SECTION}]", *(f"[{kind}:NAME]" for kind in KINDS)])
        guess = near(kind, [AGENT_SECTION, *KINDS])
        return _about_section(section, "unknown section", f"{guess}known are {known}")
    if not colon:
        return _about_section(section, "the participant has no name", f"[{kind}:NAME]")
    if NAME.fullmatch(name) is None:
        return _about_section(
            section,
            f"{name!r} cannot be a participant's name",
            "1 to 64 of the characters A-Z a-z 0-9 . _ -",
        )
    return None


def unknown_options(section: Section) -> Iterator[Mistake]:
    """Find the options that the section's sort does not have.

    :param section: a section that is not misnamed.
    :return: a mistake for each.
    """
    schema = _schema(section)
    for entry in section.entries:
        if entry.option in schema.later:
            yield _about_entry(entry, "not known yet", "leave it out; a later release brings it")
        elif entry.option not in schema.options:
            guess = near(entry.option, schema.options)
            known = ", ".join(sorted(schema.options))
            yield _about_entry(entry, "unknown option", f"{guess}known are {known}")


def merged(sections: Iterable[Section]) -> dict[str, Section]:
    """Lay later sections over earlier ones of the same name, option by option.

    :param sections: the sections of all files, in their order.
    :return: each section by its name, at the place where it stands first.
    """
    result: dict[str, Section] = {}
    for section in sections:
        under = result.get(section.name, section)
        entries = {entry.option: entry for entry in (*under.entries, *section.entries)}
        result[section.name] = attrs.evolve(under, entries=tuple(entries.values()))
    return result


def judged(section: Section) -> tuple[Given, list[Mistake]]:
    """Convert what a section's known options say; a refused value counts as the default.

    What the section leaves unset its recipe fills in, as if it stood on the recipe's line.

    :param section: a merged section that is not misnamed.
    :return: what it says, and what is wrong with it.
    """
    schema = _schema(section)
    values = {name: option.default for name, option in schema.options.items()}
    mistakes = []
    entries = own = _given_entries(section)
    if "recipe" in own:
        try:
            entries = {**_recipe_entries(own["recipe"]), **own}
        except RefusedError as refused:
            mistakes.append(_about_entry(own["recipe"], refused.problem, refused.allowed))
    for entry in entries.values():
        try:
            values[entry.option] = schema.options[entry.option].convert(entry.value)
        except RefusedError as refused:
            source = "" if entry.option in own else f"the recipe's {entry.value!r}: "
            mistakes.append(_about_entry(entry, source + refused.problem, refused.allowed))
    given = Given(values, frozenset(entries))
    for found in schema.contradictions(given):
        if found.option is None:
            mistakes.append(_about_section(section, found.problem, found.allowed))
        else:
            mistakes.append(_about_entry(entries[found.option], found.problem, found.allowed))
    return given, mistakes


def about_option(section: Section, option: str, problem: str, allowed: str) -> Mistake:
    """Tell a mistake that an option's value leads to, be it given or the default.

    :param section: a merged section that is not misnamed.
    :param option: the option's name.
    :param problem: what is wrong.
    :param allowed: what would be right.
    :return: the mistake, at the option's line where it is given, else at the section's.
    """
    entry = _given_entries(section).get(option)
    if entry is not None:
        return _about_entry(entry, problem, allowed)
    return attrs.evolve(_about_section(section, problem, allowed), option=option)


def named_recipe(section: Section) -> str:
    """Tell which recipe a section names.

    :param section: a merged section that is not misnamed.
    :return: the recipe's name; empty where it names none.
    """
    entry = _given_entries(section).get("recipe")
    return entry.value if entry is not None else ""


def doubled_mounts(sections: Mapping[str, Section]) -> Iterator[Mistake]:
    """Find the filesystems that are to be frozen twice: the second freeze would always fail.

    :param sections: the merged sections by name.
    :return: a mistake for each section whose mount an earlier one has too.
    """
    first: dict[str, str] = {}
    for section in sections.values():
        entry = _given_entries(section).get("mount")
        if entry is None:
            continue
        # As a path, so that an end with a slash makes no difference.
        other = first.setdefault(str(PurePath(entry.value)), section.name)
        if other != section.name:
            yield _about_entry(entry, f"[{other}] freezes it already", "each filesystem once")


def kind_of(section: Section) -> Kind:
    """Tell a participant's kind.

    :param section: a section that is neither misnamed nor the agent's own.
    :return: the kind.
    """
    return KINDS[section.name.partition(":")[0]]


def _given_entries(section: Section) -> dict[str, Entry]:
    # An empty value is as good as none, so that a drop-in can take an option back.
    options = _schema(section).options
    return {
        entry.option: entry for entry in section.entries if entry.value and entry.option in options
    }


def _recipe_entries(named: Entry) -> dict[str, Entry]:
    """Give what a recipe fills in, at the place where it is named.

    :raises RefusedError: where there is no such recipe, or it is another kind's.
    """
    names = recipes.known()
    if named.value not in names:
        known = f"known are {', '.join(names)}"
        raise RefusedError(f"there is no recipe {named.value!r}", near(named.value, names) + known)
    recipe = recipes.read(named.value)
    kind = named.section.partition(":")[0]
    if recipe.kind != kind:
        raise RefusedError(
            f"{recipe.name} is not for the kind {kind}", f"a section [{recipe.kind}:NAME]"
        )
    return {
        entry.option: attrs.evolve(named, option=entry.option, value=entry.value)
        for entry in recipe.entries
    }


def _schema(section: Section) -> Schema:
    return AGENT if section.name == AGENT_SECTION else kind_of(section).schema


def _about_section(section: Section, problem: str, allowed: str) -> Mistake:
    return Mistake(section.file, section.line, section.name, None, problem, allowed)


def _about_entry(entry: Entry, problem: str, allowed: str) -> Mistake:
    return Mistake(entry.file, entry.line, entry.section, entry.option, problem, allowed)
