"""What twistd asks for: the options of ``twistd xohook``, and the service."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.logger import ILogObserver
from twisted.python import usage

from xohook import __version__, config, places, systemd
from xohook.errors import ConfigurationError, XohookError
from xohook.journal import JournalObserver, is_journal
from xohook.lock import lock
from xohook.record import Record
from xohook.recovery import Recovered, recover
from xohook.service import Agent
from xohook.stamp import Stamp

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
    record, stamp, recovered = options.found
    with _told(recovered.problems):
        settings = config.load(options.path, environ=os.environ)
        places.prepare(settings.state_directory, os.geteuid())
        agent = Agent(
            main, settings, record, recovered.strays, stamp, options.inherited, os.environ
        )
    agent.log_observer = _log_observer(options.parent or {})
    return agent


def _log_observer(twistd: Mapping[str, Any]) -> ILogObserver | None:
    """Give what writes to the journal, where twistd would write its own lines there."""
    goes_elsewhere = twistd.get("syslog") or twistd.get("logger")
    is_standard_output = twistd.get("nodaemon") and twistd.get("logfile") in (None, "", "-")
    if goes_elsewhere or not is_standard_output or not is_journal(1, os.environ):
        return None
    return JournalObserver(sys.stdout)


@contextmanager
def _told(before: Iterable[str]) -> Iterator[None]:
    """Tell what is wrong in words, without a traceback; the log of this start is never opened."""
    try:
        yield
    except ConfigurationError as error:
        raise SystemExit("\n".join([*before, str(error)])) from None
    except XohookError as error:
        raise SystemExit("\n".join([*before, f"xohook: {error}"])) from None


def _recover(path: Path) -> tuple[Record, Stamp, Recovered]:
    state, runtime = config.locate_directories(path, environ=os.environ)
    record, stamp = Record(runtime), Stamp(state)
    if not any(os.path.exists(each) for each in (path, record.path, stamp.path)):  # noqa: PTH110 - it answers where Path.exists() raises.
        # There is no agent here: leave nothing behind.
        config.load(path, environ=os.environ)
    places.prepare(runtime, os.geteuid())
    lock(runtime)
    return record, stamp, recover(record, stamp)
