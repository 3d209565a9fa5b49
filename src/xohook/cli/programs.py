"""Whether the participants' programs are there, and their users may run them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from xohook.cli.findings import Finding, error, ok
from xohook.participants.command import PATH
from xohook.settings import Account, ParticipantSettings


def examine(participant: ParticipantSettings) -> Iterator[Finding]:
    """Look for what a participant needs to run.

    :param participant: the participant.
    :return: a finding for each of its programs, and one for a directory that is of no use.
    """
    directory = participant.directory or Path("/")
    user = participant.account.name if participant.account else "the agent's user"
    if not _passes(participant.account, "-d", directory):
        yield error(
            f"[{participant.name}] directory = {directory}: {user} cannot work there; make the "
            "directory, or let that user into it"
        )
        return
    for phase, words in (("freeze", participant.freeze), ("thaw", participant.thaw)):
        if words:
            yield _judge(f"[{participant.name}] {phase}", words[0], participant)


def _judge(place: str, program: str, participant: ParticipantSettings) -> Finding:
    candidates = _candidates(program, participant)
    for candidate in candidates:
        if _passes(participant.account, "-f", candidate):
            return ok(f"{place}: {candidate}")
    user = participant.account.name if participant.account else "the agent's user"
    present = [candidate for candidate in candidates if candidate.exists()]
    if present:
        return error(
            f"{place}: {present[0]} is there, but {user} cannot run it; make it executable for "
            "that user (chmod, and its directories too), or name another program or user"
        )
    where = "" if "/" in program else f" in {_path(participant)}"
    return error(
        f"{place}: {program} is not found{where}; install it, write its whole path, or set PATH "
        "in environment"
    )


def _path(participant: ParticipantSettings) -> str:
    return participant.environment.get("PATH", PATH)


def _candidates(program: str, participant: ParticipantSettings) -> list[Path]:
    directory = participant.directory or Path("/")
    if "/" in program:
        return [directory / program]
    return [directory / entry / program for entry in _path(participant).split(":")]


def _passes(account: Account | None, kind: str, path: Path) -> bool:
    """Ask whether a user may execute (or enter) a path that is of the kind ``test`` names."""
    # The kernel is asked as that user, because mode bits alone tell of neither access control
    # lists nor the directories on the way.
    other = account if account is not None and account.uid != os.geteuid() else None
    # The path is an argument of its own and never part of the script.
    answer = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'test {kind} "$1" && test -x "$1"', "sh", path],
        cwd="/",
        user=other.uid if other else None,
        group=other.gid if other else None,
        extra_groups=other.groups if other else None,
        check=False,
    )
    return answer.returncode == 0
