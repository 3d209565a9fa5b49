"""Whether anybody but root and the agent's user can change the configuration, which runs programs.

Started by systemd the agent refuses such a configuration. Started by hand it warns: whoever types
the command names the file, and ``make run`` as root takes the one in a user's checkout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from xohook.config import loading
from xohook.errors import StartError
from xohook.host import ownership

_log = Logger()


def examine(path: Path, environ: Mapping[str, str]) -> None:
    """Warn of a configuration that others can change, or refuse it in a service.

    :param path: the main file.
    :param environ: the environment; systemd sets ``INVOCATION_ID`` in it (systemd.exec(5)).
    :raises StartError: others can change it, and systemd has started the agent.
    """
    found = tuple(problems(path, os.geteuid()))
    if found and environ.get("INVOCATION_ID"):
        raise StartError("\n".join(found))
    for problem in found:
        _log.warn("{problem}. As a service the agent would not start", problem=problem)


def problems(path: Path, uid: int) -> Iterator[str]:
    """Find out who else can change the configuration.

    :param path: the main file.
    :param uid: the agent's user.
    :return: a line for each file or directory that another user can change.
    """
    for file in loading.files(path):
        with suppress(OSError):
            # Whoever reads it says what is wrong with it.
            problem = _problem(file, uid)
            if problem:
                yield f"the configuration names the programs that user {uid} runs. {problem}"


def _problem(file: Path, uid: int) -> str:
    try:
        found = ownership.look_at(file, uid)
    except StartError as refused:
        return str(refused)
    wrong = ownership.fault(file, found, uid, private_group=True)
    return f"{wrong[0]}: run '{wrong[1]}' as root" if wrong else ""
