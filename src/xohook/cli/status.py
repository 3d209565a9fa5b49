"""``xohook status``: what is registered, frozen and held now, and how the last window ended."""

from __future__ import annotations

import json
import pwd
import time
from pathlib import Path

import click

from xohook.cli import agent, options, overview


@click.command()
@options.configuration
@options.as_json
@click.pass_context
def command(context: click.Context, file: Path, as_json: bool) -> None:
    """Say what is registered, frozen and held now, and how the last window ended.

    Exits 1 where the last window was not good, something is frozen still, an app that is required
    is not registered, or the agent cannot be asked.
    """
    with options.failing(as_json=as_json):
        with agent.Connection(agent.locate(context, file)) as connection:
            status = connection.call("status")
        version = status.get("version") if isinstance(status, dict) else None
        with agent.understanding(version):
            good = overview.is_good(status)
            # While something is frozen, who looks up a user may wait for a disk.
            user = str if status["open"] or overview.stuck(status) else _user_name
            lines = list(overview.lines(status, time.time(), user))
    click.echo(json.dumps(status, indent=2) if as_json else "\n".join(lines))
    if not good:
        raise SystemExit(1)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
