"""One participant's way through a window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xohook.answers import Outcome
from xohook.durations import format_duration
from xohook.errors import NotHeldError, ParticipantError, XohookError
from xohook.participants import Participant, Phase, Unthawed
from xohook.record import Entry

_log = Logger()


@attrs.frozen
class Terms:
    """What a window has agreed on with all of its participants.

    :param window: the window's id.
    :param until: the time of the monotonic clock at which guards let go, should they hear nothing
        else.
    :param let_go: called with a participant and the reason when it lets go before it is asked to.
    """

    window: str
    until: float
    let_go: Callable[[Participant, str], None]


@attrs.define(eq=False)
class Step:
    """How far one participant has come in a window.

    :param participant: the participant.
    :param clock: measures and bounds its phases.
    :param write: writes the record; raises :exc:`~xohook.errors.RecordError`.
    :param changed: is told of each change of the phase.
    :param adopt: takes over what may still be frozen after its thaw, with its entry in the record.
    :param phase: ``waiting``, ``preparing``, ``prepared``, ``freezing``, ``frozen``, ``failed``,
        ``thawing``, ``thawed``, ``stuck``, ``undone`` (it had begun, and was never frozen) or
        ``done`` (there was nothing to thaw).
    :param freeze_problem: why it was not frozen; empty where nothing is known of that.
    :param thaw_problem: why it was not thawed; empty where nothing is known of that.
    :param is_thawed_early: whether that is only that it was thawed before it was asked to.
    :param seconds: how long its last phase took.
    :param output: the end of what it wrote in its last phase, or in the one that failed.
    :param process: its process, as the record names it; empty where none runs.
    :param lapse: why it let go before it was asked to; empty where it did not.
    :param running: since when its present phase runs, by the clock, and for how many seconds it
        may; None where none runs.
    """

    participant: Participant
    clock: IReactorTime
    write: Callable[[], None]
    changed: Callable[[Step], None] = lambda _: None
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
    def thaw_line(self) -> str:
        """What went wrong with its thaw, in one line; empty where nothing did."""
        if not self.thaw_problem:
            return ""
        what = "not frozen until its thaw" if self.is_thawed_early else "not thawed"
        return f"{self.name}: {what}: {self.thaw_problem}"

    def entry(self) -> Entry | None:
        """Tell what the record must hold of it.

        :return: its entry; None where the next start has nothing to do for it.
        """
        if not (self.process or self.may_hold):
            return None
        owed = self.participant.owed()
        return Entry(self.name, self.participant.order, owed, self.process)

    async def freeze(self, terms: Terms) -> None:
        """Freeze the participant.

        :param terms: what the window has agreed on.
        :raises ParticipantError: where it does not freeze in time and that ends the window.
        """
        phase = self._freeze_phase(terms)
        act = partial(self.participant.freeze, phase)
        await self._come_to_rest(terms, "freezing", "frozen", act)
        if not self.freeze_problem:
            self._log_done(phase, "frozen")

    async def prepare(self, terms: Terms) -> None:
        """Prepare the participant, before any is frozen.

        :param terms: what the window has agreed on.
        :raises ParticipantError: where it does not get ready in time and that ends the window.
        """
        prepare = self.participant.prepare
        if prepare is not None:
            phase = self._freeze_phase(terms)
            await self._come_to_rest(terms, "preparing", "prepared", partial(prepare, phase))

    async def thaw(self, window: str, outcome: str) -> None:
        """Thaw the participant, if there is anything to thaw; what fails is kept and logged.

        :param window: the window's id.
        :param outcome: how the window ends.
        """
        if not self.may_hold:
            if self.phase == "frozen":
                self._enter("done")
            return
        was_frozen = self.phase == "frozen"
        # What runs on even so stays in the record.
        await self.participant.when_quiet()
        self._enter("thawing")
        timeout = self.participant.thaw_timeout
        phase = Phase(window, timeout, outcome, self._note_if_possible)
        self.thaw_problem = await self._do(partial(self.participant.thaw, phase), timeout)
        if self.lapse and not self.thaw_problem and Outcome(outcome).is_good:
            # Noticed only in the thaw of others, it may have come before the end of the hold.
            self.thaw_problem, self.is_thawed_early = self.lapse, True
        if self.is_thawed_early and not self.participant.abort:
            # With on_failure = continue it may let go, noticed in the hold or only now.
            _log.warn("{name} let go: {problem}", name=self.name, problem=self.thaw_problem)
            self.thaw_problem = ""
        done = "thawed" if was_frozen else "undone"
        self._leave(done)
        self._note_if_possible({})
        if not self.thaw_problem:
            self._log_done(phase, done)
            return
        _log.error(
            "window {window}: {name} {what}: {problem}",
            window=window,
            name=self.name,
            what="was NOT FROZEN until its thaw" if self.is_thawed_early else "NOT THAWED",
            problem=self.thaw_problem,
        )

    def _leave(self, done: str) -> None:
        """Be done with it; what may still be frozen is no longer this window's."""
        unthawed = self.participant.unthawed
        if unthawed is None:
            # A thaw that failed is the administrator's from now on, and not the next start's.
            self._enter(done)
            return
        entry = Entry(self.name, self.participant.order, self.participant.owed(), unthawed.process)
        self._enter("stuck")

        def end() -> None:
            self.thaw_problem = unthawed.problem or self.thaw_problem
            self._enter(done)

        unthawed.on_thawed.append(end)
        self.adopt(unthawed, entry)

    def _freeze_phase(self, terms: Terms) -> Phase:
        return Phase(
            terms.window,
            self.participant.freeze_timeout,
            "",
            self._note,
            terms.until,
            partial(self._let_go, terms),
        )

    def _let_go(self, terms: Terms, reason: str) -> None:
        if self.participant.abort:
            self.lapse = reason
        terms.let_go(self.participant, reason)

    async def _come_to_rest(
        self, terms: Terms, during: str, after: str, act: Callable[[], Deferred[Any]]
    ) -> None:
        if self.phase == "unprepared":
            return
        self.freeze_problem = ""
        self._enter(during)
        try:
            # What an earlier window broke off must not act after this freeze.
            await self._be_quiet()
            self.freeze_problem = await self._do(act, self.participant.freeze_timeout)
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

    async def _do(self, act: Callable[[], Deferred[Any]], timeout: float) -> str:
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

    async def _be_quiet(self) -> None:
        """Wait for the end of what was broken off: until then its process stands in the record."""
        await self.participant.when_quiet()
        self.process = {}

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.changed(self)

    def _log_done(self, phase: Phase, done: str) -> None:
        _log.info(
            "window {window}: {name} {done} in {seconds:.3f} s",
            window=phase.window,
            name=self.name,
            done=done,
            seconds=self.seconds,
        )

    def _note(self, process: Mapping[str, Any]) -> None:
        is_in_record = bool(self.process or process or self.participant.owed())
        self.process = process
        if is_in_record:
            self.write()

    def _note_if_possible(self, process: Mapping[str, Any]) -> None:
        try:
            self._note(process)
        except XohookError as error:
            _log.error("{error}; the thaw goes on", error=error)
