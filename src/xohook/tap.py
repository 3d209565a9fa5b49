"""What twistd asks for: the options of ``twistd xohook``, and the service."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.python import usage

from xohook import __version__, config, places
from xohook.errors import ConfigurationError, XohookError
from xohook.lock import Lock
from xohook.record import Record
from xohook.recovery import recover
from xohook.service import Agent
from xohook.strays import Strays


class Options(usage.Options):
    """The command line of ``twistd xohook``."""

    synopsis = "[-c FILE]"
    longdesc = "The snapshot agent for Linux VMs that Xen Orchestra backs up."
    optParameters = [["config", "c", str(config.DEFAULT_PATH), "The configuration."]]  # noqa: RUF012

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"xohook {__version__}\n")
        sys.exit(0)


def makeService(options: Options) -> Agent:
    """Make the agent, after thawing what an earlier one left frozen.

    :param options: the command line.
    :return: the service.
    :raises SystemExit: with what was wrong, where, and what to do.
    """
    # A stepped clock must change no deadline; Twisted's reactor goes by the time of day.
    main = cast(Any, reactor)
    main.seconds = time.monotonic
    path = Path(options["config"]).absolute()
    try:
        lock, record, strays = _recover(path)
        settings = config.load(path, environ=os.environ)
        places.prepare(settings.state_directory, os.geteuid())
        return Agent(main, settings, record, strays, lock, os.environ)
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None
    except XohookError as error:
        raise SystemExit(f"xohook: {error}") from None


def _recover(path: Path) -> tuple[Lock, Record, Strays]:
    directory = config.locate_runtime_directory(path, environ=os.environ)
    if not path.exists():
        # There is no agent here: leave nothing behind.
        config.load(path, environ=os.environ)
    places.prepare(directory, os.geteuid())
    lock, record = Lock(directory), Record(directory)
    return lock, record, recover(record)
