"""``xohook check``: what is wrong, and what to do about it. It makes and changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import attrs
import click

from xohook.cli import options
from xohook.cli.checks import (
    addresses,
    apps,
    filesystem_checks,
    leftovers,
    mistakes,
    recipe_checks,
    state_files,
    watchdog,
)
from xohook.config import loading, trust
from xohook.config.settings import Settings
from xohook.errors import ConfigurationError
from xohook.findings import Finding, error, ok
from xohook.participants import requirements
from xohook.text import printable


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
        settings = loading.load(file, environ=os.environ)
    except ConfigurationError as wrong:
        yield from (error(str(mistake)) for mistake in wrong.mistakes)
        return
    yield ok(f"{settings.path}: read")
    yield from (error(problem) for problem in trust.problems(file, os.geteuid()))
    yield from _examine_machine(settings, datetime.now(timezone.utc))


def _examine_machine(settings: Settings, now: datetime) -> Iterator[Finding]:
    # First of all, for whatever touches one of these may hang.
    yield from _encodable(mistakes.frozen_now(settings.participants))
    yield from mistakes.examine(loading.read_sections(settings.path))
    yield from _encodable(mistakes.scripts(settings.participants))
    recipes = loading.named_recipes(settings.path)
    for participant in settings.participants:
        found = list(_encodable(requirements.of_programs(participant, judge_writers=True)))
        yield from found
        if participant.name in recipes and all(finding.level == "ok" for finding in found):
            yield from _encodable(recipe_checks.examine(participant, recipes[participant.name]))
    yield from _encodable(filesystem_checks.examine(settings.participants, settings.apps))
    yield from _encodable(watchdog.examine(settings))
    yield from _encodable(state_files.state_and_runtime(settings))
    yield from _encodable(apps.examine(settings))
    yield from _encodable(state_files.authentication(settings))
    certificate = None
    try:
        finding, certificate = state_files.served_certificate(settings, now)
        yield finding
    except UnicodeEncodeError as wrong:
        yield _unencodable(wrong)
    found_there = addresses.examine(settings.listen, certificate)
    yield from found_there.findings
    yield from _encodable(leftovers.examine(settings, is_alone=found_there.unserved))


def _encodable(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Give the findings, up to a name that this locale cannot write."""
    try:
        yield from findings
    except UnicodeEncodeError as wrong:
        yield _unencodable(wrong)


def _unencodable(wrong: UnicodeEncodeError) -> Finding:
    return error(
        f"{printable(wrong.object)}: the encoding of this locale ({wrong.encoding}) has not all of "
        "these characters, so no such file can be named; set LC_ALL=C.UTF-8, here and for the agent"
    )
