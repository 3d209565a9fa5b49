"""``xohook register``: lets a pair of programs be an app, for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from xohook.cli import agent, options
from xohook.cli.program_app import Pair
from xohook.client import AsyncRegistration
from xohook.config.options import LAST_ORDER, LONGEST_TIMEOUT, NAME, SHORTEST
from xohook.config.values import RefusedError, command_line, duration
from xohook.errors import XohookError
from xohook.host import systemd
from xohook.participants.app import TIMEOUT
from xohook.participants.programs import PATH

# What was meant for this process is not for the programs that it runs.
_OWN = ("NOTIFY_SOCKET", "XOHOOK_")
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _read(convert: Callable[[str], Any]) -> Callable[..., Any]:
    """Have a parameter read as such an option of the configuration is."""

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
        if text is None:
            return None
        if not text.strip():
            raise click.BadParameter("it is empty")
        try:
            return convert(text)
        except RefusedError as refused:
            allowed = f" ({refused.allowed})" if refused.allowed else ""
            raise click.BadParameter(f"{refused}{allowed}") from None

    return read


def _app_name(text: str) -> str:
    # docs/protocol.rst, register.
    if NAME.fullmatch(text) is None:
        raise RefusedError(f"{text!r} is no app's name", "1 to 64 of A-Z a-z 0-9 . _ -")
    return text


_command = _read(command_line)
_duration = _read(duration(SHORTEST, LONGEST_TIMEOUT))


@click.command()
@click.option(
    "--name", metavar="NAME", callback=_read(_app_name), required=True, help="The app's name."
)
@click.option("--freeze", metavar="CMD", callback=_command, help="The program that freezes it.")
@click.option("--thaw", metavar="CMD", callback=_command, help="The program that thaws it.")
@click.option("--order", type=click.IntRange(0, LAST_ORDER), help="Lower orders freeze first.")
@click.option(
    "--freeze-timeout",
    metavar="DURATION",
    callback=_duration,
    help="How long a freeze may take, such as 30s.",
)
@click.option(
    "--thaw-timeout", metavar="DURATION", callback=_duration, help="How long a thaw may take."
)
@click.option(
    "--on-failure",
    type=click.Choice(["abort", "continue"]),
    help="Whether a freeze that fails ends the window.",
)
@options.configuration
@click.pass_context
def command(
    context: click.Context,
    name: str,
    freeze: tuple[str, ...] | None,
    thaw: tuple[str, ...] | None,
    order: int | None,
    freeze_timeout: float | None,
    thaw_timeout: float | None,
    on_failure: Literal["abort", "continue"] | None,
    file: Path,
) -> None:
    """Let two programs be an app that takes part, until SIGTERM or Ctrl-C.

    CMD is a program and its arguments, split as a shell splits words; no shell is run. It finds
    XOHOOK_PHASE, XOHOOK_WINDOW, XOHOOK_TIMEOUT (in seconds) and, when thawing, XOHOOK_OUTCOME in
    its environment. A freeze that ends with another status than 0 has failed, and its last line of
    output says why. Whatever ends the hold, and be it this command's own end, the thaw is run, but
    not after a SIGKILL of this command. A freeze that runs as another user (sudo) may be impossible
    to end; the thaw runs after it.
    """
    if freeze is None and thaw is None:
        raise click.UsageError("give --freeze or --thaw, or both")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OWN)}
    try:
        for words in filter(None, (freeze, thaw)):
            _look_for(words[0], inherited.get("PATH", PATH))
        pair = Pair(freeze, thaw, thaw_timeout or TIMEOUT, inherited)
        registration = AsyncRegistration(
            name,
            freeze=pair.freeze,
            thaw=pair.thaw,
            order=order,
            freeze_timeout=freeze_timeout,
            thaw_timeout=thaw_timeout,
            on_failure=on_failure,
            control=agent.locate(context, file),
        )
        # Its program is ended by that, with its whole group.
        registration.cancel_freeze = True
    except XohookError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from error
    _tell_on_standard_error()
    asyncio.run(_stay(registration, pair))


def _look_for(program: str, path: str) -> None:
    if shutil.which(program, path=path) is None:
        where = "" if "/" in program else f" in {path}"
        raise XohookError(
            f"{program}: there is no program of that name{where} that user {os.geteuid()} may run; "
            "write its whole path, or make it executable"
        )


class _Words(logging.Formatter):
    """Says of an exception what it says, and not where it was raised."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        return record.getMessage() if error is None else f"{record.getMessage()}: {error}"


def _tell_on_standard_error() -> None:
    teller = logging.StreamHandler()
    teller.setFormatter(_Words())
    logging.basicConfig(level=logging.INFO, handlers=[teller])


async def _stay(registration: AsyncRegistration, pair: Pair) -> None:
    """Be registered until a signal comes; then thaw, if anything is frozen."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in _ENDS:
        # What nohup or a shell has this process ignore stays ignored.
        if signal.getsignal(each) is not signal.SIG_IGN:
            loop.add_signal_handler(each, ended.set)
    async with registration:
        ready = asyncio.ensure_future(_say_ready(registration))
        await ended.wait()
        ready.cancel()
    await pair.settle()


async def _say_ready(registration: AsyncRegistration) -> None:
    if await registration.wait():
        systemd.notify("READY=1", os.environ)
