"""Processes by their numbers: whether they live, and whether they may be ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DEAD = ("Z", "X", "x")
"""The states of a process that has ended (proc(5))."""


def group_lives(pid: int) -> bool:
    """Tell whether a process group has anybody left.

    :param pid: the number of the process that leads it, or has led it.
    :return: whether there is one; one that waits to be reaped counts.
    """
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def start_time(pid: int) -> int | None:
    """Tell when a process started, which with its number names it for good.

    :param pid: its number.
    :return: clock ticks since boot (field 22 of ``/proc/PID/stat``, proc(5)); None where there is
        no such process, or only what is left of one.
    """
    state, *fields = _stat(pid)
    return None if state in _DEAD else int(fields[18])


def process_state(pid: int) -> str:
    """Tell what a process does.

    :param pid: its number.
    :return: the letter of its state (field 3 of ``/proc/PID/stat``, proc(5)); ``X`` where there is
        no such process.
    """
    return _stat(pid)[0]


def _stat(pid: int) -> list[str]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ["X"]
    return stat.rpartition(")")[2].split()


def unkillable(group: int) -> Mapping[str, Any] | None:
    """Find a living process of a group that this process may not signal (kill(2), EPERM).

    :param group: the number of the group.
    :return: its ``pid`` and ``started``, as the record names a process; None where there is none.
        The leader comes first.
    """
    if not group_lives(group):
        return None
    others = (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())
    for pid in (group, *others):
        state, *fields = _stat(pid)
        if state not in _DEAD and int(fields[1]) == group and not _may_signal(pid):
            return {"pid": pid, "started": int(fields[18])}
    return None


def group_of_unkillable(pid: int, started: int | None) -> int | None:
    """Find the group of a process that lives and leads a group, or may not be signalled.

    Any other one may be a launcher that has not left the group of the agent that started it.

    :param pid: its number.
    :param started: when it started, as :func:`start_time` told.
    :return: the number of the group; None where there is no such process.
    """
    if started is None or start_time(pid) != started:
        return None
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return None
    return group if group == pid or not _may_signal(pid) else None


def _may_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True
