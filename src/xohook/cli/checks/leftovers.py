"""What another run of the agent has left, or keeps: the record, the stamp, the lock."""

from __future__ import annotations

import os
from collections.abc import Iterator

from xohook.config.settings import Settings
from xohook.errors import XohookError
from xohook.findings import Finding, error, ok
from xohook.host import lock
from xohook.state import directory_lock
from xohook.state.record import Record
from xohook.state.stamp import Stamp


def examine(settings: Settings, *, is_alone: bool) -> Iterator[Finding]:
    """Look at what a start reads first, and at whether there may be a start at all.

    :param settings: the configuration.
    :param is_alone: whether it is certain that no agent serves this configuration's addresses.
    :return: a finding for each of record and stamp that is there, and one for a lock that is held.
    """
    for left in (Record(settings.runtime_directory), Stamp(settings.state_directory)):
        if os.path.lexists(left.path):
            yield _readable(left)
    if lock.is_held(settings.runtime_directory):
        yield _held(settings, is_alone)
        return
    other = directory_lock.holder(settings.state_directory)
    if other is not None:
        yield error(
            f"state_directory = {settings.state_directory}: process {other} is an agent with "
            "another runtime_directory that uses it; stop that one, or name another directory here"
        )


def _readable(left: Record | Stamp) -> Finding:
    try:
        left.read()
    except XohookError as unusable:
        return error(str(unusable))
    return ok(f"{left.path}: can be read")


def _held(settings: Settings, is_alone: bool) -> Finding:
    place = f"runtime_directory = {settings.runtime_directory}"
    if not is_alone:
        return ok(f"{place}: in use by the running agent")
    return error(
        f"{place}: an agent is running with it that serves none of the addresses in listen; "
        "restart it where they have changed, else stop it, or name another directory here"
    )
