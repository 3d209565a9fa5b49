"""A pair of programs, one that freezes and one that thaws."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from xohook import accounts
from xohook.errors import ParticipantError
from xohook.participants import Phase
from xohook.process import IProcessReactor, Program, Run
from xohook.settings import Account, CommandSettings

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, unless the participant's environment says it."""


class Command:
    """A ``[command:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    """

    def __init__(self, reactor: IProcessReactor, settings: CommandSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._account = settings.account
        self._login = settings.account or accounts.own()
        self._language = os.environ.get("LANG", "C.UTF-8")
        self._last: Run | None = None
        self.name = settings.name
        self.order = settings.order
        self.freeze_timeout = settings.freeze_timeout
        self.thaw_timeout = settings.thaw_timeout
        self.abort = settings.abort
        self.holds = settings.thaw is not None

    @classmethod
    def from_record(cls, reactor: IProcessReactor, name: str, owed: Mapping[str, Any]) -> Command:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the clock and the source of processes.
        :param name: its name.
        :param owed: what :meth:`owed` told then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        account = owed["account"]
        settings = CommandSettings(
            name=name,
            order=0,
            freeze=None,
            thaw=tuple(owed["thaw"]) if owed["thaw"] else None,
            account=Account(**account | {"groups": tuple(account["groups"])}) if account else None,
            directory=Path(owed["directory"]),
            environment=owed["environment"],
            freeze_timeout=0.0,
            thaw_timeout=owed["timeout"],
            abort=False,
        )
        return cls(reactor, settings)

    def owed(self) -> Mapping[str, Any]:
        """Tell what the next start needs to thaw it.

        :return: plain values for the record.
        """
        return {
            "thaw": self._settings.thaw,
            "account": attrs.asdict(self._account) if self._account else None,
            "directory": str(self._directory),
            "environment": dict(self._settings.environment),
            "timeout": self.thaw_timeout,
        }

    def freeze(self, phase: Phase) -> Deferred[bytes]:
        """Run the program that freezes.

        :param phase: what is asked for.
        :return: fires with the end of its output when it has ended well.
        """
        return self._do("freeze", self._settings.freeze, phase)

    def thaw(self, phase: Phase) -> Deferred[bytes]:
        """Run the program that thaws.

        :param phase: what is asked for.
        :return: fires with the end of its output when it has ended well.
        """
        return self._do("thaw", self._settings.thaw, phase)

    def when_quiet(self) -> Deferred[None]:
        """Wait for the last program's end.

        :return: fires when it has ended, or does not end even by SIGKILL.
        """
        result: Deferred[None] = Deferred()
        if self._last is None:
            result.callback(None)
            return result
        return self._last.when_gone()

    @property
    def _directory(self) -> Path:
        return self._settings.directory or Path("/")

    def _do(
        self, phase_name: str, arguments: tuple[str, ...] | None, phase: Phase
    ) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._run(phase_name, arguments, phase))

    async def _run(self, phase_name: str, arguments: tuple[str, ...] | None, phase: Phase) -> bytes:
        if arguments is None:
            phase.note({})
            return b""
        try:
            run = Run(self._reactor)
        except OSError as error:
            raise ParticipantError(f"no process can be started: {error.strerror}") from error
        self._last = run
        ended = run.when_ended()
        try:
            phase.note({"pid": run.pid, "started": run.started})
        except BaseException:
            ended.cancel()
            ended.addErrback(lambda _: None)
            raise
        run.begin(
            Program(
                arguments=arguments,
                environment=self._environment(phase_name, phase),
                directory=str(self._directory),
                account=self._account,
            )
        )
        result = await ended
        if not result.is_good:
            raise ParticipantError(result.describe(), result.output)
        return result.output

    def _environment(self, phase_name: str, phase: Phase) -> dict[str, str]:
        environment = {
            "PATH": PATH,
            "HOME": self._login.home,
            "USER": self._login.name,
            "LANG": self._language,
            **self._settings.environment,
            "XOHOOK_PHASE": phase_name,
            "XOHOOK_WINDOW": phase.window,
            "XOHOOK_TIMEOUT": f"{phase.timeout:g}",
        }
        if phase.outcome:
            environment["XOHOOK_OUTCOME"] = phase.outcome
        return environment
