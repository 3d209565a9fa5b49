"""A pair of programs, one that freezes and one that thaws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from xohook.config.settings import CommandSettings
from xohook.participants import Operation
from xohook.participants.owed_thaw import Programmed
from xohook.participants.programs import Surroundings
from xohook.processes.process import IProcessReactor


class Command(Programmed):
    """A ``[command:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param surroundings: what its programs have in common, where that is not to be made from the
        section.
    """

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: CommandSettings,
        surroundings: Surroundings | None = None,
    ) -> None:
        surroundings = surroundings or Surroundings(
            settings.account, settings.directory, settings.environment
        )
        super().__init__(reactor, settings, surroundings)
        self._freeze = settings.freeze
        self._thaw = settings.thaw
        self.holds = settings.thaw is not None

    @classmethod
    def from_record(cls, reactor: IProcessReactor, name: str, data: Mapping[str, Any]) -> Command:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the clock and the source of processes.
        :param name: its name.
        :param data: what :meth:`recovery_data` returned then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        then = Surroundings.from_record(data)
        settings = CommandSettings(
            name=name,
            order=0,
            freeze=None,
            thaw=tuple(data["thaw"]) if data["thaw"] else None,
            account=then.account,
            directory=Path(then.directory),
            environment=data["environment"],
            freeze_timeout=0.0,
            thaw_timeout=float(data["timeout"]),
            abort=False,
        )
        return cls(reactor, settings, then)

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record.
        """
        return {
            "thaw": self._thaw,
            "timeout": self.thaw_timeout,
            **self._surroundings.recovery_data(),
        }

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Run the program that freezes.

        :param operation: what is asked for.
        :return: fires with the end of its output when it has ended well.
        """
        return Deferred.fromCoroutine(self._run_freeze(operation))

    async def run_thaw(self, operation: Operation) -> bytes:
        """Run the program that thaws, unless the one that freezes runs on.

        :param operation: what is asked for.
        :return: the end of its output.
        :raises NotRunError: where it cannot be run.
        :raises ParticipantError: where it has run and failed.
        """
        error = self._runner.not_ended()
        if error is not None:
            raise error
        return await self._do("thaw", self._thaw, operation)

    async def _run_freeze(self, operation: Operation) -> bytes:
        self._refuse_beside()
        return await self._do("freeze", self._freeze, operation)

    async def _do(
        self, name: str, arguments: tuple[str, ...] | None, operation: Operation
    ) -> bytes:
        if arguments is None:
            operation.persist({})
            return b""
        return await self._runner.run(arguments, name, operation)
