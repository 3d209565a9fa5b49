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
from types import FrameType
from typing import Any, cast

import attrs
from twisted.application.service import MultiService
from twisted.logger import ILogObserver
from twisted.python import usage

from xohook import __version__
from xohook.config import loading
from xohook.coordinator.recovery import Recovered, recover
from xohook.errors import ConfigurationError, XohookError
from xohook.host import directories, systemd
from xohook.host.lock import Lock, lock
from xohook.service.agent import Agent
from xohook.service.reading import MistakesError, Task, read_first
from xohook.state.directory_lock import StateLock
from xohook.state.disk import Disk, WrittenStamp
from xohook.state.output import Output, Target, fill_streams
from xohook.state.record import Record
from xohook.state.stamp import Stamp
from xohook.state.waiting_log import WaitingLog
from xohook.state.writers import DiskWriter

COLLECTED_AFTER = 50_000
"""New objects after which Python looks for garbage: with its own 700 it would go through all that
thousands of apps have registered again and again, in the middle of a window."""


class Options(usage.Options):
    """The command line of ``twistd xohook``."""

    synopsis = "[-c FILE]"
    longdesc = "The snapshot agent for Linux VMs that Xen Orchestra backs up."
    optParameters = [["config", "c", str(loading.DEFAULT_PATH), "The configuration."]]  # noqa: RUF012

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
        fill_streams()
        # An import that writes its .pyc to a frozen filesystem would hang for good.
        sys.dont_write_bytecode = True
        # It asks for the configuration to be read again; a start reads it anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.path = Path(self["config"]).absolute()
        self.output: Output | None = None
        with _told(()):
            if self.parent is not None:
                # Before the thaws: from here on nothing that is said can hold them up.
                self.output = Output(main(), Target.of(self.parent))
            # By the process's number, which changes when twistd goes into the background.
            self.inherited = systemd.inherited(os.environ, os.getpid())
            self.found = _recover(self.path)


class Started(MultiService):
    """The agent, and what keeps step with twistd around it.

    :param options: the command line, parsed.
    :param agent: the agent.
    """

    def __init__(self, options: Options, agent: Agent) -> None:
        super().__init__()
        self._output = options.output
        self._lock = options.found.lock
        agent.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Have twistd write the log by way of the writer.

        :param parent: the application.
        """
        if self._output is not None:
            parent.setComponent(ILogObserver, self._output.observer())
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Follow twistd into the background, and open the listening sockets."""
        self._lock.sign()
        if self._output is not None:
            self._output.leave_terminal()
        super().privilegedStartService()


def makeService(options: Options) -> Started:
    """Make the agent.

    :param options: the command line, parsed.
    :return: the service.
    :raises SystemExit: with what was wrong, where, and what to do.
    """
    gc.set_threshold(COLLECTED_AFTER, 20, 20)
    found = options.found
    with _told(found.recovered.problems):
        if options.output is not None:
            options.output.check()
        if not found.state_lock.is_taken:
            # Before anything is made in it.
            read_first(Task(path=options.path, only_directory=True), os.environ)
            found.state_lock.take()
        agent = Agent(
            main(),
            read_first(Task(path=options.path), os.environ),
            found.record,
            found.recovered,
            Disk(
                main(),
                found.stamp,
                WaitingLog(),
                found.writer.ask,
                has_stamp=found.recovered.has_stamp,
            ),
            options.inherited,
            os.environ,
        )
        started = Started(options, agent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    return started


def main() -> Any:
    """Give the reactor that twistd runs.

    :return: the reactor, with a monotonic clock: a stepped one must change no deadline.
    """
    # Its first import opens descriptors, which must not be those of closed standard streams.
    from twisted.internet import reactor

    chosen = cast(Any, reactor)
    chosen.seconds = time.monotonic
    return chosen


def _stop(number: int, frame: FrameType | None) -> None:
    """End the agent as soon as it runs: before that twistd has no handler of its own."""
    handler = main().sigInt if number == signal.SIGINT else main().sigTerm
    main().callWhenRunning(handler, number, frame)


@attrs.frozen
class Found:
    """What a start has found.

    :param lock: the lock of the runtime directory.
    :param state_lock: the lock of the state directory.
    :param record: the record in it.
    :param stamp: the stamp of the state directory.
    :param writer: the writer of the stamp.
    :param recovered: what has come of the thaws that were owed.
    """

    lock: Lock
    state_lock: StateLock
    record: Record
    stamp: Stamp
    writer: DiskWriter
    recovered: Recovered


@contextmanager
def _told(before: Iterable[str]) -> Iterator[None]:
    """Tell what is wrong in words, without a traceback; the log of this start is never opened."""
    try:
        yield
    except (ConfigurationError, MistakesError) as error:
        raise SystemExit("\n".join([*before, str(error)])) from None
    except XohookError as error:
        raise SystemExit("\n".join([*before, f"xohook: {error}"])) from None


def _recover(path: Path) -> Found:
    state, runtime = loading.locate_directories(path, environ=os.environ)
    record, stamp = Record(runtime), Stamp(state)
    if not any(os.path.exists(each) for each in (path, record.path, stamp.path)):  # noqa: PTH110 - it answers where Path.exists() raises.
        # There is no agent here: leave nothing behind.
        loading.load(path, environ=os.environ)
    # Both are judged and locked before anything in them is read. The state directory is not made
    # yet: what makes it would hang on a filesystem that is still frozen.
    directories.prepare(runtime, os.geteuid())
    directories.judge(state, os.geteuid())
    locked = lock(runtime)
    state_lock = StateLock(state, os.geteuid())
    state_lock.take()
    writer = DiskWriter(main(), str(stamp.path))
    recovered = recover(record, WrittenStamp(state, writer))
    return Found(locked, state_lock, record, stamp, writer, recovered)
