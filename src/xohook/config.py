"""The configuration: its files to settings, or every mistake in them at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from xohook import places
from xohook.errors import ConfigurationError, Mistake
from xohook.ini import Section, parse
from xohook.sections import (
    AGENT_SECTION,
    doubled_mounts,
    judged,
    kind_of,
    merged,
    misnamed,
    named_recipe,
    unknown_options,
)
from xohook.settings import ParticipantSettings, Settings

DEFAULT_PATH = Path("/etc/xohook.ini")
"""The main file where ``-c`` names no other."""


def load(path: Path, *, environ: Mapping[str, str]) -> Settings:
    """Read the main file and then ``<that file>.d/*.ini`` in order of name.

    A later file overrides an earlier one option by option; an overridden value is not looked at.

    :param path: the main file.
    :param environ: the environment, for the directories that the files leave open.
    :return: the settings.
    :raises ConfigurationError: with the mistakes of all files.
    """
    path = path.absolute()
    files = _read(path)
    mistakes = list(files.mistakes)
    known = []
    for section in files.sections:
        wrong_name = misnamed(section)
        if wrong_name is not None:
            mistakes.append(wrong_name)
            continue
        known.append(section)
        mistakes += unknown_options(section)

    sections = merged(known)
    own = sections.pop(AGENT_SECTION, Section(str(path), 1, AGENT_SECTION))
    given, wrong = judged(own)
    mistakes += wrong
    mistakes += doubled_mounts(sections)
    participants = []
    for section in sections.values():
        said, wrong = judged(section)
        mistakes += wrong
        participants.append(kind_of(section).build(section.name, said.values))

    if mistakes:
        raise ConfigurationError(files.in_order(mistakes))
    return _settings(path, given.values, tuple(participants), environ)


def locate_directories(path: Path, *, environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Tell the two directories as far as they can be told from files that may have mistakes.

    What an earlier run left frozen has to be thawed even where the configuration has been broken
    since, so this raises nothing.

    :param path: the main file.
    :param environ: the environment, for what the files leave open.
    :return: the state directory and the runtime directory that :func:`load` would tell; the
        defaults where that is mistaken.
    """
    own = merged(_read(path).sections).get(AGENT_SECTION)
    given = {} if own is None else judged(own)[0].values
    uid = os.geteuid()
    return (
        given.get("state_directory") or places.state_directory(environ, uid),
        given.get("runtime_directory") or places.runtime_directory(environ, uid),
    )


def named_recipes(path: Path) -> dict[str, str]:
    """Tell which recipes are named in files without mistakes.

    :param path: the main file.
    :return: each recipe's name by its participant's whole name.
    """
    sections = merged(_read(path.absolute()).sections)
    found = {name: named_recipe(section) for name, section in sections.items()}
    return {name: recipe for name, recipe in found.items() if recipe}


@attrs.frozen
class _Files:
    """The main file and its drop-ins, as they were read."""

    names: tuple[str, ...]
    sections: tuple[Section, ...]
    mistakes: tuple[Mistake, ...]

    def in_order(self, mistakes: Iterable[Mistake]) -> list[Mistake]:
        """Sort mistakes as the files are read, and by line in each."""
        return sorted(mistakes, key=lambda it: (self.names.index(it.file), it.line or 0))


def _read(path: Path) -> _Files:
    directory = Path(f"{path}.d")
    names = [str(path), str(directory)]
    sections: list[Section] = []
    mistakes: list[Mistake] = []
    try:
        drop_ins = sorted(file for file in directory.iterdir() if _is_drop_in(file.name))
    except FileNotFoundError:
        drop_ins = []
    except OSError as error:
        drop_ins = []
        mistakes.append(_unreadable(directory, error, "a directory that the agent's user may read"))
    for file in (path, *drop_ins):
        names.append(str(file))
        try:
            data = file.read_bytes()
        except OSError as error:
            other = "name another with -c FILE" if file == path else "move it away"
            mistakes.append(_unreadable(file, error, f"let the agent's user read it, or {other}"))
            continue
        found, wrong = parse(data, str(file))
        sections += found
        mistakes += wrong
    return _Files(tuple(names), tuple(sections), tuple(mistakes))


def _is_drop_in(name: str) -> bool:
    # Editors keep locks and copies beside a file, hidden by a leading dot.
    return name.endswith(".ini") and not name.startswith(".")


def _unreadable(file: Path, error: OSError, remedy: str) -> Mistake:
    return Mistake(str(file), None, None, None, f"cannot be read: {error.strerror}", remedy)


def _settings(
    path: Path,
    values: Mapping[str, Any],
    participants: tuple[ParticipantSettings, ...],
    environ: Mapping[str, str],
) -> Settings:
    def beside(option: str) -> Path | None:
        # Joining an absolute path gives that path itself.
        return None if values[option] is None else path.parent / values[option]

    uid = os.geteuid()
    return Settings(
        path=path,
        listen=values["listen"],
        certificate=beside("certificate"),
        private_key=beside("private_key"),
        secret_file=beside("secret_file"),
        token_file=beside("token_file"),
        authenticate=values["authenticate"],
        allow_from=values["allow_from"],
        vm=values["vm"],
        freeze_budget=values["freeze_budget"],
        hold_limit=values["hold_limit"],
        state_directory=values["state_directory"] or places.state_directory(environ, uid),
        runtime_directory=values["runtime_directory"] or places.runtime_directory(environ, uid),
        participants=participants,
    )
