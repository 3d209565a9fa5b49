"""The configuration: its files to settings, or every mistake in them at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xohook.config.ini import Section, parse
from xohook.config.sections import (
    AGENT_SECTION,
    about_option,
    doubled_mounts,
    judged,
    kind_of,
    merged,
    misnamed,
    named_recipe,
    unknown_options,
)
from xohook.config.settings import AppSettings, ParticipantSettings, Settings
from xohook.config.values import RefusedError, socket_path
from xohook.errors import ConfigurationError, Mistake
from xohook.host import directories
from xohook.host.ownership import read_regular

DEFAULT_PATH = Path("/etc/xohook.ini")
"""The main file where ``-c`` names no other."""

CONTROL_NAME = "control.sock"
"""The control socket's name in the runtime directory, where ``control`` gives no other place."""

_DIRECTORIES = ("state_directory", "runtime_directory")


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
    directories = _directories(given.values, environ, os.geteuid())
    control = _control(given.values, directories[1])
    mistakes += _unaddressable(own, control)
    mistakes += doubled_mounts(sections)
    participants = []
    for section in sections.values():
        said, wrong = judged(section)
        mistakes += wrong
        participants.append(kind_of(section).build(section.name, said.values))

    if mistakes:
        raise ConfigurationError(files.in_order(mistakes))
    return _settings(path, given.values, directories, control, participants)


def locate_directories(path: Path, *, environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Tell the two directories as far as they can be told from files that may have mistakes.

    What an earlier run left frozen has to be thawed even where the configuration has been broken
    since, so this raises nothing.

    :param path: the main file.
    :param environ: the environment, for what the files leave open.
    :return: the state directory and the runtime directory that :func:`load` would tell; the
        defaults where that is mistaken.
    """
    return _directories(_told(path, _DIRECTORIES), environ, os.geteuid())


def locate_control(path: Path, *, environ: Mapping[str, str], uid: int) -> Path | None:
    """Tell where the control socket is, as far as files that may have mistakes can tell it.

    Whoever looks after a running agent has to reach it even where the configuration has been
    broken since, so this raises nothing.

    :param path: the main file.
    :param environ: the agent's environment, for what the files leave open.
    :param uid: the agent's user, likewise.
    :return: the path; None where the files say that there is no socket.
    """
    values = _told(path, ("control", *_DIRECTORIES))
    return _control(values, _directories(values, environ, uid)[1])


def read_sections(path: Path) -> dict[str, Section]:
    """Read what stands in files without mistakes, as it stands there.

    :param path: the main file.
    :return: the sections of all files, merged, by name.
    """
    return merged(_read(path.absolute()).sections)


def named_recipes(path: Path) -> dict[str, str]:
    """Tell which recipes are named in files without mistakes.

    :param path: the main file.
    :return: each recipe's name by its participant's whole name.
    """
    found = {name: named_recipe(section) for name, section in read_sections(path).items()}
    return {name: recipe for name, recipe in found.items() if recipe}


def files(path: Path) -> tuple[Path, ...]:
    """Name what a configuration is read from.

    :param path: the main file.
    :return: that file, the directory of the drop-ins and the drop-ins, as far as they can be seen.
    """
    path = path.absolute()
    directory = Path(f"{path}.d")
    try:
        return path, directory, *_drop_ins(directory)
    except OSError:
        return path, directory


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
        drop_ins = _drop_ins(directory)
    except FileNotFoundError:
        drop_ins = []
    except OSError as error:
        drop_ins = []
        mistakes.append(_unreadable(directory, error, "a directory that the agent's user may read"))
    for file in (path, *drop_ins):
        names.append(str(file))
        try:
            # Only the main file is named by hand (-c), and so by mistake.
            data = read_regular(file) if file == path else file.read_bytes()
        except OSError as error:
            other = "name another with -c FILE" if file == path else "move it away"
            mistakes.append(_unreadable(file, error, f"let the agent's user read it, or {other}"))
            continue
        found, wrong = parse(data, str(file))
        sections += found
        mistakes += wrong
    return _Files(tuple(names), tuple(sections), tuple(mistakes))


def _drop_ins(directory: Path) -> list[Path]:
    return sorted(file for file in directory.iterdir() if _is_drop_in(file.name))


def _is_drop_in(name: str) -> bool:
    # Editors keep locks and copies beside a file, hidden by a leading dot.
    return name.endswith(".ini") and not name.startswith(".")


def _unreadable(file: Path, error: OSError, remedy: str) -> Mistake:
    return Mistake(str(file), None, None, None, f"cannot be read: {error.strerror}", remedy)


def _told(path: Path, options: Collection[str]) -> Mapping[str, Any]:
    """Read some of the agent's own options, whatever else is wrong; a mistaken one is not given."""
    own = merged(_read(path).sections).get(AGENT_SECTION, Section(str(path), 1, AGENT_SECTION))
    # Nothing else is looked at: who looks up a group may wait for a disk that is still frozen.
    told = [entry for entry in own.entries if entry.option in options]
    given, _ = judged(attrs.evolve(own, entries=tuple(told)))
    return given.values


def _directories(
    values: Mapping[str, Any], environ: Mapping[str, str], uid: int
) -> tuple[Path, Path]:
    return (
        values["state_directory"] or directories.state_directory(environ, uid),
        values["runtime_directory"] or directories.runtime_directory(environ, uid),
    )


def _control(values: Mapping[str, Any], runtime_directory: Path) -> Path | None:
    control: Path | bool = values["control"]
    if isinstance(control, Path):
        return control
    return runtime_directory / CONTROL_NAME if control else None


def _unaddressable(own: Section, control: Path | None) -> Iterator[Mistake]:
    """Find that the runtime directory, wherever it is told, is too deep for the socket."""
    if control is not None:
        try:
            socket_path(control)
        except RefusedError as refused:
            remedy = f"{refused.allowed}: name a shorter path here"
            yield about_option(own, "control", refused.problem, remedy)


def _settings(
    path: Path,
    values: Mapping[str, Any],
    directories: tuple[Path, Path],
    control: Path | None,
    participants: Sequence[ParticipantSettings | AppSettings],
) -> Settings:
    def beside(option: str) -> Path | None:
        # Joining an absolute path gives that path itself.
        return None if values[option] is None else path.parent / values[option]

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
        state_directory=directories[0],
        runtime_directory=directories[1],
        control=control,
        control_group=values["control_group"],
        participants=tuple(each for each in participants if not isinstance(each, AppSettings)),
        apps=tuple(each for each in participants if isinstance(each, AppSettings)),
    )
