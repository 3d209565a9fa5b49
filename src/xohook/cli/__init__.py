"""The command ``xohook``; each subcommand is imported only when it is the one that is asked for."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

# A filesystem may be frozen, and whoever writes a .pyc to it hangs.
sys.dont_write_bytecode = True

import click  # noqa: E402 - the line above has to come first.

from xohook import __version__  # noqa: E402

# The name of each subcommand, which its module has too, and what the overview says of it.
_SUBCOMMANDS = {
    "check": "Say what is wrong with the configuration and this machine.",
    "setup": "Print what to paste into Xen Orchestra.",
    "status": "Say what is registered, frozen and held now.",
    "thaw": "End the present window now.",
    "register": "Let two programs be an app that takes part.",
}

# Why a file takes no more (write(2)).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUBCOMMANDS)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            # What is left in the buffer would be written at the end, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"standard output cannot be written: {error.strerror}", err=True)
            raise SystemExit(1) from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _SUBCOMMANDS:
            return None
        command: click.Command = import_module(f"xohook.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_SUBCOMMANDS.items()))


@click.group(cls=_LazyGroup)
@click.version_option(__version__, prog_name="xohook")
def main() -> None:
    """Look after the snapshot agent that Xen Orchestra asks to freeze this VM.

    Exit status: 0 all is well, 1 what was asked about is not, 2 wrong usage.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal of another encoding is no reason to say nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
