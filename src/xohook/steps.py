"""One participant's way through a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xohook.durations import format_duration
from xohook.errors import ParticipantError, XohookError
from xohook.participants import Participant, Phase
from xohook.record import Entry

_log = Logger()


@attrs.define(eq=False)
class Step:
    """How far one participant has come in a window.

    :param participant: the participant.
    :param clock: measures and bounds its phases.
    :param write: writes the record; raises :exc:`~xohook.errors.RecordError`.
    :param phase: ``waiting``, ``freezing``, ``frozen``, ``failed``, ``thawing`` or ``thawed``.
    :param freeze_problem: why it was not frozen; empty where nothing is known of that.
    :param thaw_problem: why it was not thawed; empty where nothing is known of that.
    :param seconds: how long its last phase took.
    :param output: the end of what it wrote in its last phase, or in the one that failed.
    :param process: its process, as the record names it; empty where none runs.
    """

    participant: Participant
    clock: IReactorTime
    write: Callable[[], None]
    phase: str = "waiting"
    freeze_problem: str = ""
    thaw_problem: str = ""
    seconds: float = 0.0
    output: bytes = b""
    process: Mapping[str, Any] = attrs.Factory(dict)

    @property
    def name(self) -> str:
        """The participant's name."""
        return self.participant.name

    @property
    def may_hold(self) -> bool:
        """Whether there may be something to thaw."""
        return self.participant.holds and self.phase not in ("waiting", "thawed")

    def entry(self) -> Entry | None:
        """Tell what the record must hold of it.

        :return: its entry; None where the next start has nothing to do for it.
        """
        if not (self.process or self.may_hold):
            return None
        owed = self.participant.owed()
        return Entry(self.name, self.participant.order, owed, self.process)

    async def freeze(self, window: str) -> None:
        """Freeze the participant.

        :param window: the window's id.
        :raises ParticipantError: where it does not freeze in time and that ends the window.
        """
        self.phase = "freezing"
        phase = Phase(window, self.participant.freeze_timeout, "", self._note)
        try:
            # What an earlier window broke off must not act after this freeze.
            await self.participant.when_quiet()
            self.freeze_problem = await self._do(self.participant.freeze, phase)
        except CancelledError:
            self.phase, self.freeze_problem = "failed", "broken off"
            raise
        self.phase = "failed" if self.freeze_problem else "frozen"
        if self.freeze_problem:
            _log.warn(
                "window {window}: {name} not frozen: {problem}",
                window=window,
                name=self.name,
                problem=self.freeze_problem,
            )
            if self.participant.abort:
                raise ParticipantError(self.freeze_problem)

    async def thaw(self, window: str, outcome: str) -> None:
        """Thaw the participant, if there is anything to thaw; what fails is kept and logged.

        :param window: the window's id.
        :param outcome: how the window ends.
        """
        if not self.may_hold:
            return
        await self.participant.when_quiet()
        self.phase = "thawing"
        phase = Phase(window, self.participant.thaw_timeout, outcome, self._note_if_possible)
        self.thaw_problem = await self._do(self.participant.thaw, phase)
        # A thaw that failed is the administrator's from now on, and not the next start's.
        self.phase = "thawed"
        if self.thaw_problem:
            _log.error(
                "window {window}: {name} NOT THAWED: {problem}",
                window=window,
                name=self.name,
                problem=self.thaw_problem,
            )

    async def _do(self, act: Callable[[Phase], Deferred[bytes]], phase: Phase) -> str:
        begun = self.clock.seconds()
        problem, output = "", b""
        try:
            output = await act(phase).addTimeout(phase.timeout, self.clock)
        except defer.TimeoutError:
            problem = f"not done within {format_duration(phase.timeout)}, and ended"
        except ParticipantError as error:
            problem, output = str(error), error.output
        except XohookError as error:
            problem = str(error)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one must not stop the others.
            _log.failure("{name} met a fault of xohook itself", name=self.name)
            problem = f"a fault of xohook itself: {error!r}"
        finally:
            self.seconds = self.clock.seconds() - begun
            self.process = {}
        if problem or not self.freeze_problem:
            self.output = output
        if not problem:
            _log.info(
                "window {window}: {name} {done} in {seconds:.3f} s",
                window=phase.window,
                name=self.name,
                done="thawed" if phase.outcome else "frozen",
                seconds=self.seconds,
            )
        return problem

    def _note(self, process: Mapping[str, Any]) -> None:
        self.process = process
        self.write()

    def _note_if_possible(self, process: Mapping[str, Any]) -> None:
        try:
            self._note(process)
        except XohookError as error:
            _log.error("{error}; the thaw goes on", error=error)
