"""``xohook status``: what is registered, frozen and held now, and how the last window ended."""

from __future__ import annotations

import json
import pwd
import time
from pathlib import Path

import click

from xohook.cli import agent, options, overview
from xohook.errors import XohookError


@click.command()
@options.configuration
@options.as_json
@click.pass_context
def command(context: click.Context, file: Path, as_json: bool) -> None:
    """Say what is registered, frozen and held now, and how the last window ended.

    Exits 1 where the last window was not good, something is frozen still, an app that is required
    is not registered, or the agent cannot be asked.
    """
    try:
        with agent.Connection(agent.locate(context, file)) as connection:
            status = connection.call("status")
    except XohookError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from error
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        # While something is frozen, who looks up a user may wait for a disk.
        user = str if status["open"] or overview.stuck(status) else _user_name
        click.echo("\n".join(overview.lines(status, time.time(), user)))
    if not overview.is_good(status):
        raise SystemExit(1)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
