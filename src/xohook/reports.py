"""What there is to tell of windows, in plain values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from xohook import __version__
from xohook.answers import Answer
from xohook.apps import Apps
from xohook.keeper import Keeper
from xohook.steps import Step

TAIL = 1024
"""Bytes of a participant's output that a description holds (``docs/hook.rst``, JSON)."""


def describe(answer: Answer, steps: Sequence[Step], *, in_full: bool = True) -> dict[str, Any]:
    """Tell of a window.

    :param answer: what is said of it.
    :param steps: how far each of its participants has come.
    :param in_full: whether the ends of their outputs are told too, and what went wrong, which may
        be the last line of one.
    :return: what ``docs/hook.rst`` describes.
    """
    return {
        "window": answer.window,
        "state": answer.state,
        "problems": list(answer.lines) if in_full else [],
        "participants": [
            {
                "name": step.name,
                "phase": step.phase,
                "outcome": _outcome(step, in_full=in_full),
                "seconds": round(_seconds(step), 6),
                "limit": step.running[1] if step.running else None,
                "output": step.output[-TAIL:].decode(errors="replace") if in_full else "",
            }
            for step in steps
        ],
    }


def _seconds(step: Step) -> float:
    """Tell for how long its present phase has run, or how long its last one took."""
    return step.clock.seconds() - step.running[0] if step.running else step.seconds


def describe_unthawed(keeper: Keeper, *, in_full: bool) -> list[dict[str, Any]]:
    """List what may still be frozen after its thaw.

    :param keeper: keeps the window.
    :param in_full: whether the reasons are told too.
    :return: a description for each participant, as ``docs/protocol.rst`` has it.
    """
    return [
        {
            "name": debt.entry.name,
            "mounts": list(debt.unthawed.points),
            "problem": debt.unthawed.problem if in_full else "",
        }
        for debt in keeper.unthawed
    ]


def _outcome(step: Step, *, in_full: bool) -> str:
    problem = step.freeze_problem or step.thaw_problem
    return problem if problem and in_full else "failed" if problem else "ok"


def status(
    keeper: Keeper, apps: Apps, started: float, missing: Sequence[str], *, in_full: bool
) -> dict[str, Any]:
    """Tell how the agent is.

    :param keeper: keeps the window.
    :param apps: the apps that are registered.
    :param started: when the agent started, in seconds since the epoch.
    :param missing: what participants need and is not there, a line each.
    :param in_full: whether the ends of the participants' outputs are told too.
    :return: what ``docs/protocol.rst`` describes.
    """
    sight = keeper.look()
    return {
        **describe(sight.answer, sight.steps, in_full=in_full),
        "version": __version__,
        "pid": os.getpid(),
        "started": started,
        "open": sight.is_open,
        "opened": sight.opened,
        "left": sight.left,
        "unthawed": describe_unthawed(keeper, in_full=in_full),
        "apps": apps.describe(),
        "absent": apps.absent(),
        "missing": list(missing) if in_full else [],
    }
