"""A directory of executables, each run with ``freeze`` or ``thaw`` as its argument."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred

from xohook.config.settings import ScriptsSettings
from xohook.durations import format_duration
from xohook.errors import NotRunError, ParticipantError
from xohook.participants import Operation
from xohook.participants.owed_thaw import Programmed
from xohook.participants.programs import Surroundings
from xohook.processes.guards import listing
from xohook.processes.process import ENDING, IProcessReactor

_SHARED = 2
"""The part of a thaw's time that is shared out evenly, so that each script has its turn however
many before it hang: one in so many. The rest is for whoever needs more."""

_LAST_WORD = 0.1
"""Seconds, a twentieth of its time at most, that the last script leaves of the thaw's time, so that
all problems are told before that is up."""


class Scripts(Programmed):
    """A ``[scripts:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param begun: names of the scripts whose freeze was begun, in their order.
    :param cut_off: which of them ran when the earlier agent ended; empty where its freeze did.
    :param surroundings: what they have in common, where that is not to be made from the section.
    """

    holds = True

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: ScriptsSettings,
        begun: tuple[str, ...] = (),
        cut_off: str = "",
        surroundings: Surroundings | None = None,
    ) -> None:
        surroundings = surroundings or Surroundings(
            settings.account, settings.directory, settings.environment
        )
        super().__init__(reactor, settings, surroundings)
        self._directory = settings.directory
        self._begun = list(begun)
        self._cut_off = cut_off
        self._thawing = ""
        self._turn_ends = 0.0

    @classmethod
    def from_record(cls, reactor: IProcessReactor, name: str, data: Mapping[str, Any]) -> Scripts:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the clock and the source of processes.
        :param name: its name.
        :param data: what :meth:`recovery_data` returned then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        then = Surroundings.from_record(data)
        settings = ScriptsSettings(
            name=name,
            order=0,
            directory=Path(then.directory),
            account=then.account,
            environment=data["environment"],
            freeze_timeout=0.0,
            thaw_timeout=float(data["timeout"]),
            abort=False,
        )
        begun, cut_off = tuple(data["begun"]), data.get("thawing", "")
        # The script whose thaw was under way may hang again: the others come first.
        first = tuple(name for name in begun if name == cut_off)
        others = tuple(name for name in begun if name != cut_off)
        return cls(reactor, settings, first + others, "".join(first[:1]), then)

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record.
        """
        return {
            "begun": tuple(self._begun),
            "thawing": self._thawing,
            "timeout": self.thaw_timeout,
            **self._surroundings.recovery_data(),
        }

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Run each script with ``freeze``, in order of name.

        :param operation: what is asked for.
        :return: fires with the last one's output when all have ended well.
        """
        return Deferred.fromCoroutine(self._freeze(operation))

    async def _freeze(self, operation: Operation) -> bytes:
        self._begun, self._cut_off = [], ""
        self._refuse_beside()
        output = b""
        for name in await self._list(operation):
            self._begun.append(name)
            output = await self._run(name, "freeze", operation)
        return output

    async def _list(self, operation: Operation) -> list[str]:
        try:
            output = await self._runner.run_own(listing, str(self._directory), operation)
        except ParticipantError as error:
            why = error.output.decode(errors="replace") or str(error)
            raise ParticipantError(f"cannot read {self._directory}: {why}") from error
        return [os.fsdecode(name) for name in output.split(b"\0") if name]

    async def run_thaw(self, operation: Operation) -> bytes:
        """Run each script whose freeze was begun with ``thaw``, in reverse order.

        One that fails, is not done in its turn or cannot be run does not keep the next ones from
        theirs.

        :param operation: what is asked for.
        :return: the output of the last one.
        :raises NotRunError: where one cannot be run; it is still due afterwards.
        :raises ParticipantError: where one has run and failed.
        """
        problems, not_run, output = [], [], b""
        late = self._runner.not_ended() if self._begun else None
        due = list(self._begun)
        if late is not None:
            # The freeze was broken off in the last one that it began.
            name = self._cut_off if self._cut_off in self._begun else self._begun[-1]
            due.remove(name)
            not_run.append(f"{name}: {late}")
        turn = operation.timeout / _SHARED / max(1, len(due))
        deadline = self._reactor.seconds() + operation.timeout
        while due:
            name = self._thawing = due.pop()
            left = max(turn, deadline - self._reactor.seconds() - len(due) * turn)
            try:
                output = await self._thaw_one(operation, left, is_last=not due)
            except NotRunError as error:
                not_run.append(str(error))
            except ParticipantError as error:
                problems.append(str(error))
                output = error.output
                self._begun.remove(name)
            else:
                # Taken out only now: a start after a crash in between runs it again.
                self._begun.remove(name)
            self._thawing = ""
        if not_run:
            process = None if late is None else late.process
            raise NotRunError("; ".join([*problems, *not_run]), output, process)
        if problems:
            raise ParticipantError("; ".join(problems), output)
        return output

    def cut_off(self) -> NotRunError | None:
        """Return which scripts have had no turn when the time of all is up.

        The turns fit into that time, unless the agent was stopped.

        :return: the error that names them; None if there are none.
        """
        # It may have had its turn, and have failed; or have been begun a moment ago.
        if self._thawing in self._begun and self._reactor.seconds() >= self._turn_ends:
            self._begun.remove(self._thawing)
        self._thawing = ""
        if not self._begun:
            return None
        late = self._runner.not_ended()
        process = None if late is None else late.process
        names = ", ".join(reversed(self._begun))
        return NotRunError(f"the time was up before the turn of {names}", process=process)

    async def _thaw_one(self, operation: Operation, seconds: float, *, is_last: bool) -> bytes:
        """Run the thaw of one script, and its end too, in a part of the time."""
        name = self._thawing
        ending = ENDING if is_last else min(ENDING, seconds / 2)
        patience = seconds - (min(_LAST_WORD, seconds / 20) if is_last else ending)
        told = attrs.evolve(operation, timeout=round(seconds if is_last else patience, 2))
        self._turn_ends = self._reactor.seconds() + patience
        run = Deferred.fromCoroutine(self._run(name, "thaw", told, ending))
        try:
            return await run.addTimeout(patience, self._reactor)
        except defer.TimeoutError:
            output = self._runner.tail()
            if not is_last:
                await self._runner.when_quiet()
            raise ParticipantError(
                f"{name}: not done within {format_duration(told.timeout)}, and told to end", output
            ) from None

    async def _run(
        self, name: str, argument: str, operation: Operation, ending: float = ENDING
    ) -> bytes:
        words = (str(self._directory / name), argument)
        try:
            return await self._runner.run(words, argument, operation, ending)
        except ParticipantError as error:
            raise type(error)(f"{name}: {error}", error.output) from error


def find_scripts(directory: Path) -> list[str]:
    """Find what is to be run; this waits for as long as the directory takes.

    :param directory: the directory.
    :return: the names, as :func:`xohook.processes.guards.listing.scripts` has them.
    :raises ParticipantError: where it cannot be read.
    """
    try:
        return listing.scripts(str(directory))
    except OSError as error:
        raise ParticipantError(f"cannot read {directory}: {error.strerror}") from error
