"""The options that every subcommand has."""

from __future__ import annotations

from pathlib import Path

import click

from xohook.config import DEFAULT_PATH

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
