"""What the agent tells of itself, in lines for a human at 3 a.m. Pure.

The values are those of the JSON in ``docs/hook.rst`` and ``docs/protocol.rst``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from xohook.text import counted, printable
from xohook.window.answers import Outcome

_GOOD = ("idle", *(outcome.value for outcome in Outcome if outcome.is_good))
_PROBLEM_LENGTH = 1000
_GAP = "  "
_NO_WINDOW = (
    "Xen Orchestra has asked for none: take a snapshot of this VM to try it. It asks if the VM has",
    "the tag that 'xohook setup' prints; 'xohook check' looks at the rest.",
)

Told = Mapping[str, Any]
"""What the agent has answered."""


def is_good(status: Told) -> bool:
    """Tell whether nothing needs to be looked into.

    :param status: the answer to ``status``.
    :return: whether the last window was good, or the present one can still be; nothing is frozen
        that should not be; every app that has to be registered is; and no participant lacks
        anything.
    """
    if stuck(status) or status["absent"] or missing(status):
        return False
    return not status["problems"] if status["open"] else status["state"] in _GOOD


def stuck(told: Told) -> list[str]:
    """Name what may still be frozen after its thaw.

    :param told: an answer with ``unthawed``.
    :return: a line for each participant, printable.
    """
    return [_unthawed(each) for each in told["unthawed"]]


def _unthawed(each: Told) -> str:
    reason = f" ({each['problem']})" if each["problem"] else ""
    mounts = f": {', '.join(each['mounts'])}" if each["mounts"] else ""
    return printable(f"{each['name']}{mounts}{reason}", _PROBLEM_LENGTH)


def missing(status: Told) -> list[str]:
    """Tell what participants need and is not there.

    :param status: the answer to ``status``, of an older agent perhaps.
    :return: a line each, printable.
    """
    return [printable(line, _PROBLEM_LENGTH) for line in status.get("missing", ())]


def lines(status: Told, now: float, user: Callable[[int], str]) -> Iterator[str]:
    """Describe how the agent is.

    :param status: the answer to ``status``.
    :param now: the time, in seconds since the epoch.
    :param user: gives the name of a user by its number.
    :return: the lines; the first says what is so now.
    """
    yield _headline(status)
    since = f", for {length(now - status['started'])}" if "started" in status else ""
    yield f"agent {printable(status['version'])}, process {status['pid']}{since}"
    if status["window"] is None:
        yield from _NO_WINDOW
    if status["opened"] is not None:
        ago = length(now - status["opened"])
        yield f"the window opened at {_moment(status['opened'])}, {ago} ago"
    yield from problems(status)
    if status["absent"]:
        yield ""
        yield f"{counted(len(status['absent']), 'required app')} NOT REGISTERED, start:"
        yield from (f"{_GAP}{printable(name)}" for name in status["absent"])
    if missing(status):
        yield ""
        yield "MISSING when the agent started, and needed by the next window:"
        yield from (f"{_GAP}{line}" for line in missing(status))
    yield ""
    yield from participants(status)
    yield ""
    yield from _apps(status["apps"], user)


def problems(told: Told) -> Iterator[str]:
    """Describe what went wrong.

    :param told: an answer with ``problems``.
    :return: the lines, none where nothing did.
    """
    if told["problems"]:
        yield ""
        yield f"{counted(len(told['problems']), 'problem')}:"
        yield from (f"{_GAP}{printable(line, _PROBLEM_LENGTH)}" for line in told["problems"])


def participants(told: Told) -> Iterator[str]:
    """Describe how far each participant has come, with the output of those that failed.

    :param told: an answer with ``participants``.
    :return: the lines.
    """
    found: Sequence[Told] = told["participants"]
    phases = Counter(printable(each["phase"]) for each in found)
    summary = ", ".join(f"{count} {phase}" for phase, count in phases.items())
    yield f"{counted(len(found), 'participant')}{': ' if found else ''}{summary}"
    rows = [
        (
            printable(each["name"]),
            printable(each["phase"]),
            _time(each),
            "" if _is_running(each) else printable(each["outcome"], _PROBLEM_LENGTH),
        )
        for each in found
    ]
    for each, row in zip(found, _columns(rows), strict=True):
        yield row
        if each["outcome"] != "ok":
            yield from (f"{_GAP * 2}| {printable(line)}" for line in each["output"].splitlines())


def _is_running(participant: Told) -> bool:
    return participant.get("limit") is not None


def _time(participant: Told) -> str:
    if _is_running(participant):
        return f"{participant['seconds']:.1f} s of {participant['limit']:g} s"
    return f"{participant['seconds']:.3f} s"


def length(seconds: float) -> str:
    """Write a length of time as one reads it from a clock.

    :param seconds: the length.
    :return: for instance ``42s``, ``1m42s`` or ``3h01m``.
    """
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes_beyond = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes_beyond:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _headline(status: Told) -> str:
    state, window = printable(status["state"]), printable(str(status["window"]))
    if status["open"]:
        what = "HOLDING" if state == "holding" else state
        left = "" if status["left"] is None else f" for {length(status['left'])} more"
        return f"{what} window {window}{left}"
    if stuck(status):
        return f"MAY STILL BE FROZEN, thaw tried again and again: {'; '.join(stuck(status))}"
    if status["window"] is None:
        return "idle; NO WINDOW YET since the agent started"
    return f"idle; last window {window} {state}"


def _apps(apps: Sequence[Told], user: Callable[[int], str]) -> Iterator[str]:
    yield f"{counted(len(apps), 'app')} registered"
    rows = (
        (
            printable(app["name"]),
            f"user {printable(user(app['uid']))}",
            f"process {app['pid']}",
            f"order {app['order']}",
        )
        for app in apps
    )
    yield from _columns(list(rows))


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Put cells below one another; the last column is as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield (_GAP + _GAP.join(cells)).rstrip()


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
