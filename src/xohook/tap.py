"""What twistd asks for: the options of ``twistd xohook``, and the service."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.python import usage

from xohook import __version__, config, places, systemd, trusted
from xohook.errors import ConfigurationError, XohookError
from xohook.lock import lock
from xohook.record import Record
from xohook.recovery import Recovered, recover
from xohook.service import Agent
from xohook.stamp import Stamp
from xohook.state_lock import StateLock

COLLECTED_AFTER = 50_000
"""New objects after which Python looks for garbage: with its own 700 it would go through all that
thousands of apps have registered again and again, in the middle of a window."""


class Options(usage.Options):
    """The command line of ``twistd xohook``."""

    synopsis = "[-c FILE]"
    longdesc = "The snapshot agent for Linux VMs that Xen Orchestra backs up."
    optParameters = [["config", "c", str(config.DEFAULT_PATH), "The configuration."]]  # noqa: RUF012

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"xohook {__version__}\n")
        sys.exit(0)

    def postOptions(self) -> None:
        """Thaw what an earlier agent left frozen.

        This is the only time that twistd gives before it removes a stale pid file, which may lie
        on what is frozen.

        :raises SystemExit: with what was wrong, where, and what to do.
        """
        # An import that writes its .pyc to a frozen filesystem would hang for good.
        sys.dont_write_bytecode = True
        # It asks for the configuration to be read again; a start reads it anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.path = Path(self["config"]).absolute()
        with _told(()):
            # By the process's number, which changes when twistd goes into the background.
            self.inherited = systemd.inherited(os.environ, os.getpid())
            self.found = _recover(self.path)


def makeService(options: Options) -> Agent:
    """Make the agent.

    :param options: the command line, parsed.
    :return: the service.
    :raises SystemExit: with what was wrong, where, and what to do.
    """
    # A stepped clock must change no deadline; Twisted's reactor goes by the time of day.
    main = cast(Any, reactor)
    main.seconds = time.monotonic
    gc.set_threshold(COLLECTED_AFTER, 20, 20)
    record, stamp, recovered, state_lock = options.found
    with _told(recovered.problems):
        settings = config.load(options.path, environ=os.environ)
        trusted.examine(options.path, os.environ)
        places.prepare(settings.state_directory, os.geteuid())
        state_lock.take()
        return Agent(main, settings, record, recovered, stamp, options.inherited, os.environ)


@contextmanager
def _told(before: Iterable[str]) -> Iterator[None]:
    """Tell what is wrong in words, without a traceback; the log of this start is never opened."""
    try:
        yield
    except ConfigurationError as error:
        raise SystemExit("\n".join([*before, str(error)])) from None
    except XohookError as error:
        raise SystemExit("\n".join([*before, f"xohook: {error}"])) from None


def _recover(path: Path) -> tuple[Record, Stamp, Recovered, StateLock]:
    state, runtime = config.locate_directories(path, environ=os.environ)
    record, stamp = Record(runtime), Stamp(state)
    if not any(os.path.exists(each) for each in (path, record.path, stamp.path)):  # noqa: PTH110 - it answers where Path.exists() raises.
        # There is no agent here: leave nothing behind.
        config.load(path, environ=os.environ)
    # Both are judged and locked before anything in them is read. The state directory is not made
    # yet: what makes it would hang on a filesystem that is still frozen.
    places.prepare(runtime, os.geteuid())
    places.judge(state, os.geteuid())
    lock(runtime)
    state_lock = StateLock(state, os.geteuid())
    state_lock.take()
    return record, stamp, recover(record, stamp), state_lock
