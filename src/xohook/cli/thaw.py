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
@click.option(
    "--forget",
    metavar="NAME",
    help="Do not thaw the filesystems of this participant any more: their device is gone.",
)
@click.pass_context
def command(context: click.Context, file: Path, as_json: bool, forget: str | None) -> None:
    """End the present window now: break off its freeze, or thaw what is held.

    Also tries again to thaw filesystems whose earlier thaw failed. Waits for the end of the thaw,
    which each participant's thaw_timeout bounds. Exits 1 where anything is not thawed. The window
    ends "stopped", and its snapshot cannot be trusted.
    """
    with (
        options.failing(as_json=as_json),
        agent.Connection(agent.locate(context, file)) as connection,
    ):
        # First, so that an agent that hangs does it when it goes on.
        question = connection.ask("thaw_now", **({} if forget is None else {"forget": forget}))
        status = connection.call("status")
        version = status.get("version") if isinstance(status, dict) else None
        with agent.understanding(version):
            result = _thaw(connection, question)
            status = connection.call("status")
            left = overview.stuck(result)
            lines = list(_text(result, left))
            good = result["thawed"] and not left
            if status.get("open"):
                window = printable(status["window"])
                lines += ["", f"window {window} has been opened since by another /sync"]
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(lines))
    if not good:
        raise SystemExit(1)


def _thaw(connection: agent.Connection, question: int) -> Any:
    """Wait as long as the agent answers otherwise: the thaw may take its time."""
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
        yield "NOT ALL IS THAWED. These may still be frozen:"
        yield from (f"  {line}" for line in left)
        yield "The agent tries again, at least every 30 s. By hand: fsfreeze --unfreeze MOUNTPOINT"
        yield "Where a device is gone for good: xohook thaw --forget NAME"
    if result["window"] is None:
        if not left:
            yield "nothing is frozen: no window is open"
        return
    window, state = printable(result["window"]), printable(result["state"])
    if result["thawed"]:
        yield f"thawed; window {window} {state}"
    else:
        yield f"NOT ALL IS THAWED; window {window} {state}"
    yield from overview.problems(result)
    yield ""
    yield from overview.participants(result)
