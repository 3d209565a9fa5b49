"""The options that every subcommand has, and how each of them fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from xohook.config.loading import DEFAULT_PATH
from xohook.errors import XohookError

configuration = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, readable=False),
    default=DEFAULT_PATH,
    show_default=True,
    metavar="FILE",
    help="The agent's configuration.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@contextmanager
def failing(*, as_json: bool) -> Iterator[None]:
    """Say in words, or in JSON, what went wrong within, and exit with 1.

    :param as_json: whether standard output is to have one JSON object with ``error``.
    :raises SystemExit: where anything of xohook's own went wrong.
    """
    try:
        yield
    except XohookError as error:
        if as_json:
            click.echo(json.dumps({"error": str(error)}, indent=2))
        else:
            click.echo(str(error), err=True)
        raise SystemExit(1) from error
