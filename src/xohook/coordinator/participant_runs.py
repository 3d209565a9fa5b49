"""The run of one participant through a window: prepare, freeze, thaw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xohook.durations import format_duration
from xohook.errors import NotHeldError, ParticipantError, XohookError
from xohook.participants import Operation, Participant, Unthawed
from xohook.state.record import Entry
from xohook.window.answers import Outcome

_log = Logger()


@attrs.frozen
class WindowTerms:
    """What is the same for all participants of a window.

    :param window: the window's id.
    :param until: the time of the monotonic clock at which guards let go, unless they are told
        another one.
    :param let_go: called with a participant and the reason when it lets go by itself.
    """

    window: str
    until: float
    let_go: Callable[[Participant, str], None]


@attrs.define(eq=False)
class ParticipantRun:
    """How far one participant has come in a window.

    :param participant: the participant.
    :param clock: measures and bounds its operations.
    :param write: writes the record; raises :exc:`~xohook.errors.RecordError`.
    :param changed: called with this run when its phase has changed.
    :param adopt: takes over what may still be frozen after the thaw, with its entry in the record.
    :param phase: ``waiting``, ``preparing``, ``prepared``, ``unprepared``, ``freezing``,
        ``frozen``, ``failed``, ``thawing``, ``thawed``, ``stuck``, ``undone`` (its freeze had begun
        and never ended well) or ``done`` (there was nothing to thaw).
    :param freeze_problem: why it was not frozen; empty if nothing is known of that.
    :param thaw_problem: why it was not thawed; empty if nothing is known of that.
    :param is_thawed_early: whether it was thawed before the agent asked it to, and that alone is
        the thaw's problem.
    :param seconds: how long its last operation took.
    :param output: the end of what it wrote in its last operation, or in the one that failed.
    :param process: its process, as in the record; empty if none runs.
    :param lapse: why it let go before it was asked to; empty if it did not.
    :param running: when the present operation began, by the clock, and how many seconds it may
        take; None if none runs.
    """

    participant: Participant
    clock: IReactorTime
    write: Callable[[], None]
    changed: Callable[[ParticipantRun], None] = lambda _: None
    adopt: Callable[[Unthawed, Entry], None] = lambda *_: None
    phase: str = "waiting"
    freeze_problem: str = ""
    thaw_problem: str = ""
    is_thawed_early: bool = False
    seconds: float = 0.0
    output: bytes = b""
    process: Mapping[str, Any] = attrs.Factory(dict)
    lapse: str = ""
    running: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The participant's name."""
        return self.participant.name

    @property
    def may_hold(self) -> bool:
        """Whether there may be something to thaw."""
        return self.participant.holds and self.phase not in (
            "waiting",
            "thawed",
            "undone",
            "stuck",
        )

    @property
    def filesystem_frozen(self) -> bool:
        """Whether it may have a filesystem frozen."""
        return self.participant.freezes_filesystem and self.may_hold

    @property
    def thaw_line(self) -> str:
        """What went wrong with its thaw, in one line; empty if nothing did."""
        if not self.thaw_problem:
            return ""
        what = "not frozen until its thaw" if self.is_thawed_early else "not thawed"
        return f"{self.name}: {what}: {self.thaw_problem}"

    def entry(self) -> Entry | None:
        """Return its entry in the record.

        :return: the entry; None if the next start has nothing to do for it.
        """
        if not (self.process or self.may_hold):
            return None
        recovery_data = self.participant.recovery_data()
        return Entry(self.name, self.participant.order, recovery_data, self.process)

    async def prepare(self, terms: WindowTerms) -> None:
        """Prepare the participant, before any is frozen.

        :param terms: what is the same for all participants.
        :raises ParticipantError: if it is not prepared in time and that ends the window.
        """
        prepare = self.participant.prepare
        if prepare is not None:
            act = partial(prepare, self._freeze_operation(terms))
            await self._get_through(terms, "preparing", "prepared", act)

    async def freeze(self, terms: WindowTerms) -> None:
        """Freeze the participant.

        :param terms: what is the same for all participants.
        :raises ParticipantError: if it is not frozen in time and that ends the window.
        """
        operation = self._freeze_operation(terms)
        act = partial(self.participant.freeze, operation)
        await self._get_through(terms, "freezing", "frozen", act)
        if not self.freeze_problem:
            self._log_done(operation, "frozen")

    async def thaw(self, window: str, outcome: str, most: float = math.inf) -> None:
        """Thaw the participant, if there is anything to thaw; a failure is kept and logged.

        :param window: the window's id.
        :param outcome: how the window ends.
        :param most: seconds that the thaw may take if its participant would have more.
        """
        if not self.may_hold:
            if self.phase == "frozen":
                self._enter("done")
            return
        was_frozen = self.phase == "frozen"
        # A process that runs on even so stays in the record.
        await self.participant.when_quiet()
        self._enter("thawing")
        timeout = min(self.participant.thaw_timeout, most)
        operation = Operation(window, timeout, outcome, self._persist_if_possible)
        self.thaw_problem = await self._perform(partial(self.participant.thaw, operation), timeout)
        if self.lapse and not self.thaw_problem and Outcome(outcome).is_good:
            # Noticed only in the thaw of others, it may have come before the end of the hold.
            self.thaw_problem, self.is_thawed_early = self.lapse, True
        if self.is_thawed_early and not self.participant.abort:
            # With on_failure = continue it may let go, whether that is noticed before or now.
            _log.warn("{name} let go: {problem}", name=self.name, problem=self.thaw_problem)
            self.thaw_problem = ""
        done = "thawed" if was_frozen else "undone"
        self._end(done)
        self._persist_if_possible({})
        if not self.thaw_problem:
            self._log_done(operation, done)
            return
        _log.error(
            "window {window}: {name} {what}: {problem}",
            window=window,
            name=self.name,
            what="was NOT FROZEN until its thaw" if self.is_thawed_early else "NOT THAWED",
            problem=self.thaw_problem,
        )

    def _end(self, done: str) -> None:
        """End the run. What may still be frozen no longer belongs to this window."""
        unthawed = self.participant.unthawed
        if unthawed is None:
            # A failed thaw is not repeated by the next start: the administrator has to see to it.
            self._enter(done)
            return
        recovery_data = self.participant.recovery_data()
        entry = Entry(self.name, self.participant.order, recovery_data, unthawed.process)
        self._enter("stuck")

        def end() -> None:
            self.thaw_problem = unthawed.problem or self.thaw_problem
            self._enter(done)

        unthawed.on_thawed.append(end)
        self.adopt(unthawed, entry)

    def _freeze_operation(self, terms: WindowTerms) -> Operation:
        return Operation(
            terms.window,
            self.participant.freeze_timeout,
            "",
            self._persist,
            terms.until,
            partial(self._let_go, terms),
        )

    def _let_go(self, terms: WindowTerms, reason: str) -> None:
        if self.participant.abort:
            self.lapse = reason
        terms.let_go(self.participant, reason)

    async def _get_through(
        self, terms: WindowTerms, during: str, after: str, act: Callable[[], Deferred[Any]]
    ) -> None:
        """Get through one phase of the freeze, unless the participant could not be prepared."""
        if self.phase == "unprepared":
            return
        self.freeze_problem = ""
        self._enter(during)
        try:
            # What an earlier window cancelled must not act after this freeze.
            await self._wait_until_quiet()
            self.freeze_problem = await self._perform(act, self.participant.freeze_timeout)
        except CancelledError:
            self.freeze_problem = "broken off"
            self._enter("failed")
            raise
        if not self.freeze_problem:
            self._enter(after)
            return
        self._enter("failed" if during == "freezing" else "unprepared")
        _log.warn(
            "window {window}: {name} not frozen: {problem}",
            window=terms.window,
            name=self.name,
            problem=self.freeze_problem,
        )
        if self.participant.abort:
            raise ParticipantError(self.freeze_problem)

    async def _perform(self, act: Callable[[], Deferred[Any]], timeout: float) -> str:
        """Perform an operation; return what went wrong, empty if nothing did."""
        begun = self.clock.seconds()
        self.running = begun, timeout
        problem, output = "", b""
        is_ending = False
        try:
            output = await act().addTimeout(timeout, self.clock) or b""
        except defer.TimeoutError:
            problem = f"not done within {format_duration(timeout)}, and told to end"
            output = self.participant.tail()
            is_ending = True
        except ParticipantError as error:
            problem, output = str(error), error.output
            self.is_thawed_early = isinstance(error, NotHeldError)
        except XohookError as error:
            problem = str(error)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one must not stop the others.
            _log.failure("{name} met a fault of xohook itself", name=self.name)
            problem = f"a fault of xohook itself: {error!r}"
        finally:
            self.seconds, self.running = self.clock.seconds() - begun, None
        if not is_ending:
            self.process = {}
        if problem or not self.freeze_problem:
            self.output = output
        return problem

    async def _wait_until_quiet(self) -> None:
        """Wait for the end of what was cancelled: until then its process is in the record."""
        await self.participant.when_quiet()
        self.process = {}

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.changed(self)

    def _log_done(self, operation: Operation, done: str) -> None:
        _log.info(
            "window {window}: {name} {done} in {seconds:.3f} s",
            window=operation.window,
            name=self.name,
            done=done,
            seconds=self.seconds,
        )

    def _persist(self, process: Mapping[str, Any]) -> None:
        is_in_record = bool(self.process or process or self.participant.recovery_data())
        self.process = process
        if is_in_record:
            self.write()

    def _persist_if_possible(self, process: Mapping[str, Any]) -> None:
        try:
            self._persist(process)
        except XohookError as error:
            _log.error("{error}; the thaw goes on", error=error)
