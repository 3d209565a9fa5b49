"""The look at the participants when the agent starts: what they need and is not there.

Paths may lie on a disk that hangs, so a child process looks, and one that hangs is left behind.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xohook.config import loading
from xohook.config.settings import FilesystemSettings
from xohook.coordinator.participant_runs import ParticipantRun
from xohook.durations import format_duration
from xohook.errors import ConfigurationError
from xohook.participants.requirements import of_mounts, of_programs
from xohook.processes import child
from xohook.processes.process import IProcessReactor, Run
from xohook.window.answers import Answer

PATIENCE = 30.0
"""Seconds that the look may take; each program may take 10 of them to be looked up."""


class StartLook:
    """Looks at the participants, and keeps what is missing until a window proves otherwise.

    :param reactor: the clock and the source of processes.
    :param path: the configuration.
    :param environ: the environment.
    """

    _log = Logger()

    def __init__(self, reactor: IProcessReactor, path: Path, environ: Mapping[str, str]) -> None:
        self._reactor = reactor
        self._path = path
        self._environ = environ
        self._missing: dict[str, tuple[str, ...]] = {}
        self._run: Run | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """What is missing, a line each."""
        return tuple(line for lines in self._missing.values() for line in lines)

    def begin(self) -> None:
        """Look at the participants; what an earlier look has found counts no more."""
        self.stop()
        self._missing = {}
        Deferred.fromCoroutine(self._look()).addErrback(
            lambda fault: self._log.failure("a fault of xohook itself", fault)
        )

    def stop(self) -> None:
        """Break off the look that is under way."""
        run, self._run = self._run, None
        if run is not None:
            run.end()

    def changed(self, _: Answer, runs: Sequence[ParticipantRun]) -> None:
        """Take note that participants have frozen, and so lack nothing.

        :param runs: those whose phase has changed.
        """
        for run in runs:
            if run.phase == "frozen":
                self._missing.pop(run.name, None)

    async def _look(self) -> None:
        try:
            run = self._run = Run(self._reactor)
        except OSError as error:
            self._log.warn("the participants are not looked at: {why}", why=error.strerror)
            return
        run.begin(child.part(__name__, str(self._path), self._environ))
        try:
            ended = await run.when_ended().addTimeout(PATIENCE, self._reactor)
        except defer.TimeoutError:
            if run is self._run:
                self._log.warn(
                    "the participants are not looked at: a path does not answer within {patience};"
                    " 'xohook check' says more",
                    patience=format_duration(PATIENCE),
                )
            return
        if run is not self._run:
            return
        self._run = None
        if not ended.is_good:
            self._log.warn("the participants are not looked at: {how}", how=ended.describe())
            return
        for name, line in _found(ended.output):
            self._missing[name] = (*self._missing.get(name, ()), line)
            self._log.warn("missing, and needed by the next window: {line}", line=line)


def _found(output: bytes) -> Iterator[tuple[str, str]]:
    for line in output.splitlines():
        try:
            name, text = json.loads(line)
        except ValueError:
            # The beginning of very much output is not kept.
            continue
        yield name, text


def main(path: str) -> None:
    """Print what is missing, a line of JSON each: the participant's name, and the text.

    :param path: the configuration.
    """
    # The agent may have been killed, and then nobody else ends this.
    signal.alarm(2 * int(PATIENCE))
    try:
        settings = loading.load(Path(path), environ=os.environ)
    except ConfigurationError as changed:
        # The agent has read it well, a moment ago.
        raise SystemExit(str(changed)) from None
    for participant in settings.participants:
        if isinstance(participant, FilesystemSettings):
            findings = of_mounts(participant)
        else:
            findings = of_programs(participant)
        for finding in findings:
            if finding.level != "ok":
                print(json.dumps([participant.name, finding.text]), flush=True)
