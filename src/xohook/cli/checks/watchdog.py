"""Whether a hold can last longer than systemd waits for the journal's service."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xohook.config.settings import Settings
from xohook.durations import format_duration
from xohook.findings import Finding, warning
from xohook.host import mounts
from xohook.participants.frozen import frozen_by
from xohook.window.effects import MOST_LIMITS

BOOTED = Path("/run/systemd/system")
"""It is there where systemd runs the machine (sd_booted(3))."""

JOURNAL = Path("/var/log/journal")
"""Where journald keeps its files on a disk; without it they are in ``/run`` (journald.conf(5))."""

WATCHDOG = 180.0
"""Seconds after which systemd aborts journald: ``WatchdogSec=3min`` in the unit that comes with
systemd (units/systemd-journald.service)."""

PATIENCE = 5.0
"""Seconds within which systemctl has to answer."""

_UNIT = "systemd-journald.service"

# systemd.time(7), in the units that systemctl prints.
_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "month": 2_629_800.0,
    "y": 31_557_600.0,
}
_NEVER = {"0", "infinity"}


def examine(settings: Settings, journal: Path = JOURNAL) -> Iterator[Finding]:
    """Return a warning where a participant may freeze the journal's filesystem for too long.

    :param settings: the configuration.
    :param journal: the directory of the journal's files.
    :return: at most one finding.
    """
    names = freezing(settings, journal)
    if names and BOOTED.is_dir():
        yield from judge(settings, names[0], watchdog())


def freezing(settings: Settings, journal: Path) -> list[str]:
    """List the participants that freeze the filesystem of the journal.

    :param settings: the configuration.
    :param journal: the directory of the journal's files; it need not be there.
    :return: their names.
    """
    if not journal.is_dir():
        return []
    table = mounts.table()

    def device(path: Path) -> str:
        mount = mounts.mount_of(path, table)
        return mount.device if mount is not None else ""

    kept = device(journal)
    return [
        participant.name
        for participant in settings.participants
        if any(device(point) == kept for point in frozen_by(participant))
    ]


def judge(settings: Settings, name: str, limit: float) -> Iterator[Finding]:
    """Compare the longest freeze that the configuration allows with journald's watchdog.

    :param settings: the configuration.
    :param name: the participant that freezes the journal's filesystem.
    :param limit: seconds after which systemd aborts journald.
    :return: a warning where the freeze can last longer, else nothing.
    """
    longest = settings.freeze_budget + MOST_LIMITS * settings.hold_limit
    if longest < limit:
        return
    minutes = math.floor(longest / 60) + 1
    raised = f"raise WatchdogSec= of {_UNIT} to {minutes}min or more"
    # A whole second below, because a freeze that lasts as long as the limit is too long.
    shorter = math.ceil((limit - settings.freeze_budget) / MOST_LIMITS) - 1
    cure = f"set hold_limit to {format_duration(shorter)} or less, or {raised}"
    yield warning(
        f"hold_limit = {format_duration(settings.hold_limit)}: [{name}] freezes the filesystem of "
        f"{JOURNAL}, for up to {format_duration(longest)} where a second /sync joins a hold "
        f"(freeze_budget + {MOST_LIMITS} x hold_limit); after {format_duration(limit)} systemd "
        f"aborts journald, which then sets its journal aside as corrupt; "
        f"{cure if shorter > 0 else raised}"
    )


def watchdog() -> float:
    """Ask systemd how long it waits for journald.

    :return: seconds; infinity where it waits for ever, and the default where it does not answer.
    """
    command = ("systemctl", "show", "--property=WatchdogUSec", "--value", _UNIT)
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        answer = subprocess.run(  # noqa: S603 - the words are constants
            command, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return seconds(answer.stdout.strip())
    return WATCHDOG


def seconds(text: str) -> float:
    """Read a time span as systemctl prints it, for instance ``1min 30s`` (systemd.time(7)).

    :param text: the time span.
    :return: seconds; infinity for a watchdog that is off.
    :raises ValueError: where the text is no time span.
    """
    if text in _NEVER:
        return math.inf
    words = text.split()
    parts = [re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]+)", word) for word in words]
    if not words or not all(part and part[2] in _SECONDS for part in parts):
        raise ValueError(f"{text!r} is not a time span of systemd.time(7)")
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts if part)
