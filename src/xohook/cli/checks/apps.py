"""Whether apps can reach the control socket, and take the names that they are to take."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from xohook.config.settings import AppSettings, Settings
from xohook.errors import StartError
from xohook.findings import Finding, error, ok, warning
from xohook.host import ownership
from xohook.participants.frozen import refuse_frozen


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at the control socket's place and group, without making anything, and at each app.

    :param settings: the configuration.
    :return: one finding about the socket, if there is to be one, or more where it lies badly; and
        one for each app that the configuration names.
    """
    if settings.control is not None:
        yield from _examine_socket(settings.control, settings)
    for app in settings.apps:
        problem = _problem(app, settings)
        if not problem:
            yield ok(f"[{app.name}]: {_described(app)}")
        elif app.required:
            yield error(f"[{app.name}] {problem}")
        else:
            yield warning(f"[{app.name}] {problem}")


def _examine_socket(path: Path, settings: Settings) -> Iterator[Finding]:
    place = f"control = {path}"
    found: list[Finding] = []
    # The runtime directory is looked at by itself, and made where it is missing.
    if path.parent != settings.runtime_directory:
        found += _directory_findings(place, path.parent)
        found += _closed_findings(place, path.parent, settings.control_group)
        try:
            refuse_frozen("control", path, settings.participants)
        except StartError as refused:
            found.append(error(str(refused)))
    if _is_in_the_way(path):
        found.append(error(f"{place}: what is there is no socket; move it away, or name another"))
    group = settings.control_group
    if group is not None and os.geteuid() != 0 and group not in (os.getegid(), *os.getgroups()):
        found.append(
            error(
                f"control_group = {_group_name(group)}: the agent's user is not in it, and cannot "
                "give it the socket; put it into the group (usermod -aG), or name another"
            )
        )
    yield from found or [ok(place)]


def _closed_findings(place: str, directory: Path, group: int | None) -> Iterator[Finding]:
    """Find a directory that keeps the group's members from the socket that is theirs."""
    if group is None:
        return
    try:
        found = directory.stat()
    except OSError:
        # It has been told of already.
        return
    needed = stat.S_IXGRP if found.st_gid == group else stat.S_IXOTH
    if stat.S_ISDIR(found.st_mode) and not found.st_mode & needed:
        yield error(
            f"{place}: members of control_group may not enter {directory}; run 'chmod a+x "
            f"{directory}', or name another path"
        )


def _directory_findings(place: str, directory: Path) -> Iterator[Finding]:
    try:
        mode = directory.stat().st_mode
    except OSError as hidden:
        yield error(f"{place}: {directory}: {hidden.strerror}; make it, or name another path")
        return
    if not stat.S_ISDIR(mode) or not os.access(directory, os.W_OK | os.X_OK):
        yield error(f"{place}: nothing can be made in {directory}; name another path")
        return
    try:
        os.close(ownership.open_directory(directory, os.geteuid(), shared=True))
    except StartError as refused:
        yield error(f"{place}: {refused}")
    except OSError as hidden:
        yield error(f"{place}: {directory}: {hidden.strerror}; name another path")


def _is_in_the_way(path: Path) -> bool:
    try:
        return not stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _problem(app: AppSettings, settings: Settings) -> str:
    if settings.control is None:
        return (
            f"required = {'yes' if app.required else 'no'}: with control = no, no app can "
            "register; leave control out, or this section"
        )
    account = app.account
    if account is None or account.uid in (0, os.geteuid()):
        return ""
    place = f"user = {account.name}: cannot connect to the control socket"
    group = settings.control_group
    if group is None:
        return f"{place}, which only root and the agent's user may; set control_group to its group"
    if group not in account.groups:
        return (
            f"{place}, for it is not in the control_group; run: usermod -aG {_group_name(group)} "
            f"{account.name}, and start the app again"
        )
    return ""


def _described(app: AppSettings) -> str:
    user = f", as {app.account.name}" if app.account else ""
    return ("has to register" if app.required else "may register") + user


def _group_name(number: int) -> str:
    # The configuration was read just now, and had the number from the name.
    return grp.getgrgid(number).gr_name
