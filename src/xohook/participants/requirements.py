"""Whether what the participants need is there: programs, users' rights, directories, mounts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from xohook.config.settings import (
    CommandSettings,
    FilesystemSettings,
    ParticipantSettings,
    ScriptsSettings,
    SessionSettings,
)
from xohook.durations import format_duration
from xohook.errors import ParticipantError, StartError
from xohook.findings import Finding, error, ok, warning
from xohook.host import mounts, ownership
from xohook.host.accounts import Account
from xohook.participants.frozen import frozen_by
from xohook.participants.programs import PATH
from xohook.participants.scripts import find_scripts

# A disk that answers at all looks a file up far sooner.
_PATIENCE = 10.0

NOTHING_TO_FREEZE = "nothing that can be frozen is mounted; name a mount point"
"""What is wrong where ``mount = auto`` finds nothing."""


@attrs.frozen
class _Place:
    """Where and as whom a participant's programs run."""

    name: str
    directory: Path
    account: Account | None
    environment: Mapping[str, str]
    judge_writers: bool

    @property
    def user(self) -> str:
        return self.account.name if self.account else "the agent's user"

    @property
    def path(self) -> str:
        return self.environment.get("PATH", PATH)


class _HungError(Exception):
    """A path is not looked up in time."""


def of_programs(
    participant: ParticipantSettings, *, judge_writers: bool = False
) -> Iterator[Finding]:
    """Look for what a participant needs to run.

    :param participant: the participant.
    :param judge_writers: whether to warn of a program that other users can change.
    :return: a finding for each of its programs, and one for a directory that is of no use; none
        for a filesystem, which needs no program.
    """
    try:
        if isinstance(participant, CommandSettings):
            programs = (("freeze", participant.freeze), ("thaw", participant.thaw))
            yield from _look_for(participant, judge_writers, *programs)
        elif isinstance(participant, SessionSettings):
            yield from _look_for(participant, judge_writers, ("command", participant.command))
        elif isinstance(participant, ScriptsSettings):
            yield from _examine_scripts(participant, judge_writers)
    except _HungError as hung:
        yield error(
            f"[{participant.name}] {hung}: its disk does not answer within "
            f"{format_duration(_PATIENCE)}; see to that disk, or name a program elsewhere"
        )


def mount_problem(point: Path, table: Sequence[mounts.Mount]) -> str:
    """Tell why what is mounted at a place cannot be frozen.

    :param point: the place.
    :param table: what is mounted.
    :return: the reason; empty where it can.
    """
    # A slash at the end finds directories alone; what the caller may not see counts as missing.
    if not os.access(f"{point}/", os.F_OK):
        return f"{point} is not there, or no directory; name a mount point (findmnt lists them)"
    try:
        mount = mounts.mount_at(point.resolve(), table)
    except ParticipantError as problem:
        return f"{problem}; name a mount point (findmnt lists them)"
    if mount.kind not in mounts.FREEZABLE:
        return (
            f"{point} is on {mount.kind}, which cannot be frozen; name a filesystem on a disk, one "
            f"of {', '.join(sorted(mounts.FREEZABLE))}"
        )
    return ""


def of_mounts(participant: FilesystemSettings) -> Iterator[Finding]:
    """Look for what a filesystem participant is to freeze.

    :param participant: the participant.
    :return: an error for each mount that cannot be frozen.
    """
    table = mounts.table()
    points = frozen_by(participant)
    problems = [mount_problem(point, table) for point in points] or [NOTHING_TO_FREEZE]
    for problem in filter(None, problems):
        yield error(f"[{participant.name}] mount = {participant.mount or 'auto'}: {problem}")


def _place_of(
    participant: CommandSettings | SessionSettings | ScriptsSettings, judge_writers: bool
) -> _Place:
    return _Place(
        participant.name,
        participant.directory or Path("/"),
        participant.account,
        participant.environment,
        judge_writers,
    )


def _look_for(
    participant: CommandSettings | SessionSettings,
    judge_writers: bool,
    *programs: tuple[str, tuple[str, ...] | None],
) -> Iterator[Finding]:
    place = _place_of(participant, judge_writers)
    if not _passes(place.account, "-d", place.directory):
        yield _closed(place)
        return
    for option, words in programs:
        if words:
            yield _judge(f"[{place.name}] {option}", words[0], place)


def _examine_scripts(participant: ScriptsSettings, judge_writers: bool) -> Iterator[Finding]:
    place = _place_of(participant, judge_writers)
    if not _passes(place.account, "-d", place.directory):
        yield _closed(place)
        return
    try:
        names = find_scripts(place.directory)
    except ParticipantError as problem:
        yield error(f"[{place.name}] directory: {problem}; let the agent's user read it")
        return
    if not names:
        yield warning(
            f"[{place.name}] directory = {place.directory}: nothing executable is in it; make the "
            "scripts executable (chmod +x), or leave the section out"
        )
    for name in names:
        yield _judge(f"[{place.name}]", str(place.directory / name), place)


def _closed(place: _Place) -> Finding:
    return error(
        f"[{place.name}] directory = {place.directory}: {place.user} cannot work there; make the "
        "directory, or let that user into it"
    )


def _judge(what: str, program: str, place: _Place) -> Finding:
    candidates = _candidates(program, place)
    for candidate in candidates:
        if _passes(place.account, "-f", candidate):
            if place.judge_writers:
                return _judge_writers(what, candidate, place)
            return ok(f"{what}: {candidate}")
    present = [candidate for candidate in candidates if os.access(candidate, os.F_OK)]
    if present:
        return error(
            f"{what}: {present[0]} is there, but {place.user} cannot run it; make it executable "
            "for that user (chmod, and its directories too), or name another program or user"
        )
    where = "" if "/" in program else f" in {place.path}"
    return error(
        f"{what}: {program} is not found{where}; install it, write its whole path, or set PATH "
        "in environment"
    )


def _judge_writers(what: str, program: Path, place: _Place) -> Finding:
    """Judge who can change a program, or exchange it, besides root and the user who runs it."""
    uid = place.account.uid if place.account else os.geteuid()
    try:
        found = ownership.look_at(program, uid)
        wrong = ownership.fault(program, found, uid, private_group=True)
    except StartError as refused:
        return warning(f"{what}: {refused}")
    except OSError as gone:
        return error(f"{what}: {program}: {gone.strerror}")
    if wrong is None:
        return ok(f"{what}: {program}")
    problem, command = wrong
    return warning(f"{what}: {problem}: run '{command}' as root, or name another program")


def _candidates(program: str, place: _Place) -> list[Path]:
    if "/" in program:
        return [place.directory / program]
    return [place.directory / entry / program for entry in place.path.split(":")]


def _passes(account: Account | None, kind: str, path: Path) -> bool:
    """Ask whether a user may execute (or enter) a path that is of the kind ``test`` names."""
    # The kernel is asked as that user, because mode bits alone tell of neither access control
    # lists nor the directories on the way.
    other = account if account is not None and account.uid != os.geteuid() else None
    # The path is an argument of its own and never part of the script.
    test = subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", f'test {kind} "$1" && test -x "$1"', "sh", path],
        cwd="/",
        user=other.uid if other else None,
        group=other.gid if other else None,
        extra_groups=other.groups if other else None,
        # One that is stuck is left behind, and must not hold open what this process writes to.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return test.wait(_PATIENCE) == 0
    except subprocess.TimeoutExpired as hung:
        test.kill()
        raise _HungError(path) from hung
