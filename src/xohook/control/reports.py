"""The status of windows in plain values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from xohook import __version__
from xohook.control.apps import Apps
from xohook.coordinator.coordinator import Coordinator
from xohook.coordinator.participant_runs import ParticipantRun
from xohook.window.answers import Answer

TAIL = 1024
"""Bytes of a participant's output that a description holds (``docs/hook.rst``, JSON)."""


def describe(
    answer: Answer, runs: Sequence[ParticipantRun], *, in_full: bool = True
) -> dict[str, Any]:
    """Describe a window.

    :param answer: what there is to say of it.
    :param runs: how far each of its participants has come.
    :param in_full: whether to include the ends of their outputs, and what went wrong, which may be
        the last line of one.
    :return: what ``docs/hook.rst`` describes.
    """
    return {
        "window": answer.window,
        "state": answer.state,
        "problems": list(answer.lines) if in_full else [],
        "participants": [
            {
                "name": run.name,
                "phase": run.phase,
                "outcome": _outcome(run, in_full=in_full),
                "seconds": round(_seconds(run), 6),
                "limit": run.running[1] if run.running else None,
                "output": run.output[-TAIL:].decode(errors="replace") if in_full else "",
            }
            for run in runs
        ],
    }


def _seconds(run: ParticipantRun) -> float:
    """Return how long the present operation has run, or how long the last one took."""
    return run.clock.seconds() - run.running[0] if run.running else run.seconds


def describe_unthawed(coordinator: Coordinator, *, in_full: bool) -> list[dict[str, Any]]:
    """List what may still be frozen after its thaw.

    :param coordinator: opens, holds and closes windows.
    :param in_full: whether to include the reasons.
    :return: a description for each participant, as ``docs/protocol.rst`` has it.
    """
    return [
        {
            "name": each.entry.name,
            "mounts": list(each.unthawed.points),
            "problem": each.unthawed.problem if in_full else "",
        }
        for each in coordinator.unthawed
    ]


def _outcome(run: ParticipantRun, *, in_full: bool) -> str:
    problem = run.freeze_problem or run.thaw_problem
    return problem if problem and in_full else "failed" if problem else "ok"


def status(
    coordinator: Coordinator, apps: Apps, started: float, missing: Sequence[str], *, in_full: bool
) -> dict[str, Any]:
    """Describe the agent.

    :param coordinator: opens, holds and closes windows.
    :param apps: the apps that are registered.
    :param started: when the agent started, in seconds since the epoch.
    :param missing: what participants need and is not there, a line each.
    :param in_full: whether to include the ends of the participants' outputs.
    :return: what ``docs/protocol.rst`` describes.
    """
    window = coordinator.status()
    return {
        **describe(window.answer, window.runs, in_full=in_full),
        "version": __version__,
        "pid": os.getpid(),
        "started": started,
        "open": window.is_open,
        "opened": window.opened,
        "left": window.left,
        "unthawed": describe_unthawed(coordinator, in_full=in_full),
        "apps": apps.describe(),
        "absent": apps.absent(),
        "missing": list(missing) if in_full else [],
    }
