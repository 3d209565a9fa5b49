"""Reads all that the agent is started or reloaded with, in a process of its own.

A disk that is frozen, or a file server that is gone, may hold up whoever reads a file, makes one or
looks a user up. The agent must not wait for that: it has to thaw. So a child does all of it, and
hands over the result. A child that is held up is left behind, and everything stays as it was.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

import attrs
from twisted.internet import defer
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent, globalLogPublisher
from zope.interface import provider

from xohook.config import loading, trust
from xohook.config.settings import (
    AppSettings,
    CommandSettings,
    FilesystemSettings,
    ScriptsSettings,
    SessionSettings,
    Settings,
)
from xohook.durations import format_duration
from xohook.errors import ConfigurationError, StartError, XohookError
from xohook.hook import certificate, credentials
from xohook.hook.auth import Credentials
from xohook.hook.certificate import RENEW_BEFORE, Pair
from xohook.host import accounts, directories
from xohook.host.accounts import Account
from xohook.host.ownership import LONGEST
from xohook.participants.frozen import refuse_frozen
from xohook.processes import child
from xohook.processes.process import IProcessReactor, Run
from xohook.service.handover import Form

PATIENCE = 30.0
"""Seconds that a running agent waits for what is read. Nothing is frozen meanwhile, and nobody
waits for it but who asked for a reload."""

START_SPEAKS = 5.0
"""Seconds after which a start tells what it waits for."""

KEPT = 8 * LONGEST
"""Bytes that the child may hand over: four files of :data:`xohook.host.ownership.LONGEST`, in
JSON."""

_SET_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` (prctl(2), ``linux/prctl.h``)."""

_log = Logger()


class StuckError(StartError):
    """What is to be read is not there in time."""


class MistakesError(StartError):
    """The configuration has mistakes; with a line for each."""


@attrs.frozen(kw_only=True)
class Task:
    """What is to be read.

    :param path: the configuration; None for the certificate alone.
    :param fixed: the options that only a restart changes, with their values; none at a start.
    :param files: without a configuration: the certificate and the key that are given, or None.
    :param state_directory: without a configuration: the state directory.
    :param is_renewal: whether the agent's own certificate is renewed before its end. A start and a
        reload do not: they need no disk that can be written to, unless something is missing.
    :param only_directory: whether the state directory is to be made, and nothing else.
    """

    path: Path | None = None
    fixed: Mapping[str, Any] = attrs.field(factory=dict)
    files: tuple[Path, Path] | None = None
    state_directory: Path | None = None
    is_renewal: bool = False
    only_directory: bool = False


@attrs.frozen(kw_only=True, repr=False)
class Fresh:
    """What was read. It has no representation, so that no key ends in a log.

    :param settings: the configuration; None where it was not asked for.
    :param credentials: what requests are compared with; None likewise.
    :param login: the name and the home of the agent's user.
    :param served: the file of the certificate, for messages.
    :param chain: the certificate to serve, and its intermediates (PEM).
    :param key: its key (PEM).
    :param warnings: what the log is to say.
    """

    settings: Settings | None = None
    credentials: Credentials | None = None
    login: tuple[str, str] = ("", "")
    served: Path = Path()
    chain: str = ""
    key: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def pair(self) -> Pair:
        """The certificate and its key."""
        return Pair.from_pem(self.chain.encode(), self.key.encode())


@attrs.frozen
class Refused:
    """Why nothing was read.

    :param lines: what is wrong.
    :param is_mistaken: whether it is the configuration.
    """

    lines: tuple[str, ...]
    is_mistaken: bool = False


_FORM = Form(
    *(Task, Fresh, Refused, Settings, Credentials, Account, AppSettings),
    *(CommandSettings, FilesystemSettings, ScriptsSettings, SessionSettings),
)


class Reader:
    """Has things read for a running agent.

    :param reactor: the clock and the source of processes.
    :param environ: the environment.
    """

    def __init__(self, reactor: IProcessReactor, environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._environ = environ
        self._run: Run | None = None

    async def read(self, task: Task) -> Fresh:
        """Read, and wait :data:`PATIENCE` at most.

        :param task: what to read.
        :return: what was read.
        :raises StuckError: where it is not read in time.
        :raises StartError: where something is wrong with it; with a line for each mistake.
        """
        if self._run is not None:
            # It was killed, and ends when its disk answers. Until then another would be stuck too.
            await self._ended(self._run)
        try:
            run = self._run = Run(self._reactor, kept=KEPT)
        except OSError as error:
            raise StartError(f"no process can be started to read it: {error.strerror}") from error
        run.begin(child.part(__name__, _FORM.pack(task), self._environ))
        ended = await self._ended(run)
        return _result(ended.output, ended.describe())

    def stop(self) -> None:
        """Break off what is being read."""
        if self._run is not None:
            self._run.end()

    async def _ended(self, run: Run) -> Any:
        try:
            ended = await run.when_ended().addTimeout(PATIENCE, self._reactor)
        except defer.TimeoutError:
            raise StuckError(
                f"{_stage(run.tail())} is not read within {format_duration(PATIENCE)}, for a disk "
                "or a file server does not answer; see whether its filesystem is frozen or gone"
            ) from None
        if run is self._run:
            self._run = None
        return ended


def read_first(task: Task, environ: Mapping[str, str]) -> Fresh:
    """Read at the start, where no reactor runs yet, and wait as long as it takes.

    After :data:`START_SPEAKS` standard error says what is waited for: the log is not open yet. A
    signal ends the start, which is not itself held up.

    :param task: what to read.
    :param environ: the environment.
    :return: what was read.
    :raises StartError: where something is wrong with it.
    """
    program = child.part(__name__, _FORM.pack(task), environ)
    process = subprocess.Popen(  # noqa: S603 - a part of the agent itself.
        program.arguments,
        env=dict(program.environment),
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = bytearray()
    try:
        with process.stdout as pipe:
            watch = select.poll()
            watch.register(pipe, select.POLLIN)
            speaks: float | None = time.monotonic() + START_SPEAKS
            while True:
                left = None if speaks is None else max(0.0, speaks - time.monotonic()) * 1000
                if not watch.poll(left):
                    speaks = None
                    _say_waiting(_stage(output), process.pid)
                    continue
                part = os.read(pipe.fileno(), 65536)
                if not part:
                    break
                output += part
        status = process.wait()
    except BaseException:
        process.kill()
        raise
    return _result(bytes(output), f"exit status {status}")


def _say_waiting(stage: str, pid: int) -> None:
    # A full pipe loses the line, and holds nothing up.
    with suppress(OSError):
        print(
            f"xohook: the start waits for a disk or a file server: {stage} is not read yet (by "
            f"process {pid}); see whether its filesystem is frozen or gone",
            file=sys.stderr,
            flush=True,
        )


def _stage(output: bytes | bytearray) -> str:
    """Tell what the child was at last."""
    stages = [line for line in bytes(output).split(b"\n")[:-1] if line.startswith(b'"')]
    return str(_FORM.unpack(stages[-1].decode())) if stages else "the agent's own program"


def _result(output: bytes, end: str) -> Fresh:
    try:
        found = _FORM.unpack(output.decode().splitlines()[-1])
    except (ValueError, IndexError):
        found = None
    if isinstance(found, Refused):
        kind = MistakesError if found.is_mistaken else StartError
        raise kind("\n".join(found.lines))
    if not isinstance(found, Fresh):
        raise StartError(f"{_stage(output)} is not read: the process that reads it: {end}")
    for line in found.warnings:
        _log.warn("{line}", line=line)
    return found


# What the child does.


def main(text: str) -> NoReturn:
    """Do a task, and print a line of JSON for each stage and one for the result.

    :param text: the task.
    """
    # Without the agent nobody else ends this, and it must not write beside the next start.
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    out = os.dup(1)
    null = os.open("/dev/null", os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    task = _FORM.unpack(text)

    def say(value: Any) -> None:
        with open(out, "w", encoding="ascii", closefd=False) as file:
            file.write(_FORM.pack(value) + "\n")

    said: list[str] = []

    @provider(ILogObserver)
    def listen(event: LogEvent) -> None:
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(listen)
    try:
        say(attrs.evolve(_do(task, say), warnings=tuple(said)))
    except XohookError as error:
        lines = tuple(str(error).splitlines())
        say(Refused(lines, is_mistaken=isinstance(error, ConfigurationError)))
    except Exception:  # noqa: BLE001 - the agent logs it, and goes on.
        say(Refused(("a fault of xohook itself:", *traceback.format_exc().splitlines())))
    sys.exit(0)


def _do(task: Task, say: Any) -> Fresh:
    if task.path is None:
        say("the certificate")
        return _with_certificate(Fresh(), task.files, task.state_directory, RENEW_BEFORE)
    say(f"the configuration {task.path}")
    trust.examine(task.path, os.environ)
    settings = _keep_fixed(loading.load(task.path, environ=os.environ), task.fixed)
    say(f"the state directory {settings.state_directory}")
    if not task.fixed:
        directories.prepare(settings.state_directory, os.geteuid())
    if task.only_directory:
        return Fresh()
    say("what the participants freeze")
    refuse_frozen("runtime_directory", settings.runtime_directory, settings.participants)
    if settings.control is not None:
        refuse_frozen("control", settings.control, settings.participants)
    say(f"secret_file, token_file or what is in {settings.state_directory}")
    known = credentials.load(settings)
    own = accounts.own()
    fresh = Fresh(settings=settings, credentials=known, login=(own.name, own.home))
    files = None
    if settings.certificate is not None and settings.private_key is not None:
        files = settings.certificate, settings.private_key
    say("the certificate")
    return _with_certificate(fresh, files, settings.state_directory, timedelta(0))


def _with_certificate(
    fresh: Fresh,
    files: tuple[Path, Path] | None,
    state_directory: Path | None,
    lasts: timedelta,
) -> Fresh:
    """Add the certificate; the agent's own is made where it does not last so long any more."""
    now = datetime.now(timezone.utc)
    if files is None:
        assert state_directory is not None
        files = certificate.ensure(state_directory, now, lasts)
    pair = certificate.read(*files)
    problem = certificate.expired(pair, files[0], now)
    if problem is not None:
        _log.warn("{problem}; it is served all the same", problem=problem)
    chain, key = pair.to_pem()
    return attrs.evolve(fresh, served=files[0], chain=chain.decode(), key=key.decode())


def _keep_fixed(settings: Settings, fixed: Mapping[str, Any]) -> Settings:
    """Put aside what only a restart can change."""
    for option, value in fixed.items():
        if getattr(settings, option) != value:
            _log.warn("{option} has changed: restart the agent for it", option=option)
    return attrs.evolve(settings, **fixed)
