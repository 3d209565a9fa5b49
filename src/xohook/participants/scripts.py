"""A directory of executables, each run with ``freeze`` or ``thaw`` as its argument."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from xohook.errors import ParticipantError
from xohook.participants import Phase
from xohook.participants.configured import Configured
from xohook.participants.programs import Runner, Surroundings
from xohook.process import IProcessReactor
from xohook.settings import ScriptsSettings

LEFTOVERS = ("~", ".bak", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".dpkg-old", ".dpkg-new")
"""Ends of the names of files that editors and package managers leave; they are not run."""


class Scripts(Configured):
    """A ``[scripts:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param begun: names of the scripts whose freeze was begun, in their order.
    """

    holds = True
    stills = False
    unthawed = None
    prepare = None

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: ScriptsSettings,
        begun: tuple[str, ...] = (),
    ) -> None:
        super().__init__(settings)
        self._directory = settings.directory
        self._surroundings = Surroundings(
            settings.account, settings.directory, settings.environment
        )
        self._runner = Runner(reactor, self._surroundings)
        self._begun = list(begun)

    @classmethod
    def from_record(cls, reactor: IProcessReactor, name: str, owed: Mapping[str, Any]) -> Scripts:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the clock and the source of processes.
        :param name: its name.
        :param owed: what :meth:`owed` told then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        then = Surroundings.from_record(owed)
        settings = ScriptsSettings(
            name=name,
            order=0,
            directory=Path(then.directory),
            account=then.account,
            environment=owed["environment"],
            freeze_timeout=0.0,
            thaw_timeout=float(owed["timeout"]),
            abort=False,
        )
        return cls(reactor, settings, tuple(owed["begun"]))

    def owed(self) -> Mapping[str, Any]:
        """Tell what the next start needs to thaw it.

        :return: plain values for the record.
        """
        return {
            "begun": tuple(self._begun),
            "timeout": self.thaw_timeout,
            **self._surroundings.owed(),
        }

    def extend(self, until: float) -> None:
        """Do nothing: what a script has done holds until it is undone.

        :param until: the time of the monotonic clock.
        """

    def freeze(self, phase: Phase) -> Deferred[bytes]:
        """Run each script with ``freeze``, in order of name.

        :param phase: what is asked for.
        :return: fires with the last one's output when all have ended well.
        """
        return Deferred.fromCoroutine(self._freeze(phase))

    def thaw(self, phase: Phase) -> Deferred[bytes]:
        """Run each script whose freeze was begun with ``thaw``, in reverse order.

        :param phase: what is asked for.
        :return: fires with the output of the last one when all have ended well.
        """
        return Deferred.fromCoroutine(self._thaw(phase))

    def tail(self) -> bytes:
        """Tell what its last program has written so far.

        :return: the end of it.
        """
        return self._runner.tail()

    def when_quiet(self) -> Deferred[None]:
        """Wait for the last script's end.

        :return: fires when it has ended, or does not end even by SIGKILL.
        """
        return self._runner.when_quiet()

    async def _freeze(self, phase: Phase) -> bytes:
        self._begun = []
        output = b""
        for name in find_scripts(self._directory):
            self._begun.append(name)
            output = await self._run(name, "freeze", phase)
        return output

    async def _thaw(self, phase: Phase) -> bytes:
        problems, output = [], b""
        while self._begun:
            name = self._begun[-1]
            try:
                output = await self._run(name, "thaw", phase)
            except ParticipantError as error:
                problems.append(str(error))
                output = error.output
            # Taken off the end only now: a start after a crash in between runs it again.
            self._begun.pop()
        if problems:
            raise ParticipantError("; ".join(problems), output)
        return output

    async def _run(self, name: str, argument: str, phase: Phase) -> bytes:
        try:
            return await self._runner.run((str(self._directory / name), argument), argument, phase)
        except ParticipantError as error:
            raise ParticipantError(f"{name}: {error}", error.output) from error


def find_scripts(directory: Path) -> list[str]:
    """Find what is to be run, as ``qemu-ga`` does.

    :param directory: the directory.
    :return: the names of its executable files, in their order; hidden ones and what editors and
        package managers leave are left out.
    :raises ParticipantError: where it cannot be read.
    """
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise ParticipantError(f"cannot read {directory}: {error.strerror}") from error
    return [
        entry.name
        for entry in entries
        if not entry.name.startswith(".")
        and not entry.name.endswith(LEFTOVERS)
        and entry.is_file()
        and os.access(entry, os.X_OK)
    ]
