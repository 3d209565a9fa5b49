"""``xohook check``: what is wrong, and what to do about it. It makes and changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import attrs
import click

from xohook import config
from xohook.cli import (
    addresses,
    apps,
    belongings,
    earlier,
    options,
    programs,
    stillness,
    trials,
    watchdog,
)
from xohook.cli.findings import Finding, error, ok
from xohook.errors import ConfigurationError
from xohook.settings import Settings


@click.command()
@options.configuration
@options.as_json
def command(file: Path, as_json: bool) -> None:
    """Say what is wrong with the configuration and this machine.

    Prints a line for each thing looked at: ok, warning, or error with what to do. Exits 1 if there
    is any error. Run it as the user that the agent runs as.
    """
    found = list(_examine(file))
    good = all(finding.level != "error" for finding in found)
    if as_json:
        document = {"ok": good, "findings": [attrs.asdict(finding) for finding in found]}
        click.echo(json.dumps(document, indent=2))
    else:
        for finding in found:
            click.echo(str(finding))
    if not good:
        raise SystemExit(1)


def _examine(file: Path) -> Iterator[Finding]:
    try:
        settings = config.load(file, environ=os.environ)
    except ConfigurationError as wrong:
        yield from (error(str(mistake)) for mistake in wrong.mistakes)
        return
    yield ok(f"{settings.path}: read")
    yield from _examine_machine(settings, datetime.now(timezone.utc))


def _examine_machine(settings: Settings, now: datetime) -> Iterator[Finding]:
    recipes = config.named_recipes(settings.path)
    for participant in settings.participants:
        found = list(programs.examine(participant))
        yield from found
        if participant.name in recipes and all(finding.level == "ok" for finding in found):
            yield trials.examine(participant, recipes[participant.name])
    yield from stillness.examine(settings.participants, settings.apps)
    yield from watchdog.examine(settings)
    yield from belongings.directories(settings)
    yield from apps.examine(settings)
    yield from belongings.authentication(settings)
    finding, certificate = belongings.served_certificate(settings, now)
    yield finding
    found_there = addresses.examine(settings.listen, certificate)
    yield from found_there.findings
    yield from earlier.examine(settings, is_alone=found_there.unserved)
