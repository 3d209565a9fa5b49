"""``xohook thaw``: ends the present window now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from xohook.cli import agent, options, overview
from xohook.text import printable

# Seconds of silence after which one wonders.
_PAUSE = 3.0


@click.command()
@options.configuration
@options.as_json
@click.pass_context
def command(context: click.Context, file: Path, as_json: bool) -> None:
    """End the present window now: break off its freeze, or thaw what is held.

    Waits for the end of the thaw, which each participant's thaw_timeout bounds. Exits 1 where
    anything is not thawed. The window ends "stopped", and its snapshot cannot be trusted.
    """
    with (
        options.failing(as_json=as_json),
        agent.Connection(agent.locate(context, file)) as connection,
    ):
        status = connection.call("status")
        version = status.get("version") if isinstance(status, dict) else None
        with agent.understanding(version):
            result = _thaw(connection)
            status = connection.call("status")
            # A thaw that failed earlier belongs to no window that could be ended now.
            left = [] if result["window"] else overview.stuck(status)
            lines = list(_text(result, left))
            good = result["thawed"] and not left
            if status.get("open"):
                window = printable(status["window"])
                lines += ["", f"window {window} has been opened since by another /sync"]
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(lines))
    if not good:
        raise SystemExit(1)


def _thaw(connection: agent.Connection) -> Any:
    """Wait as long as the agent answers otherwise: the thaw may take its time."""
    question = connection.ask("thaw_now")
    said = ""
    while True:
        try:
            return connection.answer(question, _PAUSE)
        except agent.SilentError:
            told = _waited_for(connection.call("status"))
            if told != said:
                click.echo(told, err=True)
                said = told


def _waited_for(status: Any) -> str:
    slow = [each["name"] for each in status["participants"] if each["phase"] == "thawing"]
    names = ", ".join(map(printable, slow))
    return f"waiting for the thaw of {names or 'the window'} (Ctrl-C ends this wait alone)"


def _text(result: Any, left: list[str]) -> Iterator[str]:
    if left:
        yield f"STILL FROZEN, since an earlier thaw failed: {', '.join(left)}"
        yield "thaw it by hand (docs/operation.rst, At 3 a.m.)"
        return
    if result["window"] is None:
        yield "nothing was frozen: no window is open"
        return
    window, state = printable(result["window"]), printable(result["state"])
    if result["thawed"]:
        yield f"thawed; window {window} {state}"
    else:
        yield f"NOT ALL IS THAWED; window {window} {state}"
        yield "thaw by hand what is not (docs/operation.rst, At 3 a.m.)"
    yield from overview.problems(result)
    yield ""
    yield from overview.participants(result)
