"""A pair of programs, one that freezes and one that thaws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from xohook.participants import Phase
from xohook.participants.configured import Configured
from xohook.participants.programs import Runner, Surroundings
from xohook.process import IProcessReactor
from xohook.settings import CommandSettings


class Command(Configured):
    """A ``[command:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param surroundings: what its programs have in common, where that is not to be made from the
        section.
    """

    stills = False
    unthawed = None
    prepare = None

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: CommandSettings,
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(settings)
        self._freeze = settings.freeze
        self._thaw = settings.thaw
        self._surroundings = surroundings or Surroundings(
            settings.account, settings.directory, settings.environment
        )
        self._runner = Runner(reactor, self._surroundings)
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
        then = Surroundings.from_record(owed)
        settings = CommandSettings(
            name=name,
            order=0,
            freeze=None,
            thaw=tuple(owed["thaw"]) if owed["thaw"] else None,
            account=then.account,
            directory=Path(then.directory),
            environment=owed["environment"],
            freeze_timeout=0.0,
            thaw_timeout=float(owed["timeout"]),
            abort=False,
        )
        return cls(reactor, settings, then)

    def owed(self) -> Mapping[str, Any]:
        """Tell what the next start needs to thaw it.

        :return: plain values for the record.
        """
        return {
            "thaw": self._thaw,
            "timeout": self.thaw_timeout,
            **self._surroundings.owed(),
        }

    def extend(self, until: float) -> None:
        """Do nothing: what a program has done holds until it is undone.

        :param until: the time of the monotonic clock.
        """

    def freeze(self, phase: Phase) -> Deferred[bytes]:
        """Run the program that freezes.

        :param phase: what is asked for.
        :return: fires with the end of its output when it has ended well.
        """
        return Deferred.fromCoroutine(self._do("freeze", self._freeze, phase))

    def thaw(self, phase: Phase) -> Deferred[bytes]:
        """Run the program that thaws.

        :param phase: what is asked for.
        :return: fires with the end of its output when it has ended well.
        """
        return Deferred.fromCoroutine(self._do("thaw", self._thaw, phase))

    def tail(self) -> bytes:
        """Tell what its last program has written so far.

        :return: the end of it.
        """
        return self._runner.tail()

    def when_quiet(self) -> Deferred[None]:
        """Wait for the last program's end.

        :return: fires when it has ended, or does not end even by SIGKILL.
        """
        return self._runner.when_quiet()

    async def _do(self, name: str, arguments: tuple[str, ...] | None, phase: Phase) -> bytes:
        if arguments is None:
            phase.note({})
            return b""
        return await self._runner.run(arguments, name, phase)
