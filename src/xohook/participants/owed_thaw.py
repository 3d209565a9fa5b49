"""The thaw of a participant's programs that could not be run in its turn.

Three things keep it from being run: no process can be started; a program that was told to end runs
on as another user, who may not be signalled (kill(2), EPERM), and a thaw that runs beside its own
freeze proves nothing, because the freeze may act after it; or the time of all scripts is up before
one has had its turn, because the agent was stopped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.config.settings import CommonSettings
from xohook.durations import format_duration
from xohook.errors import NotRunError, ParticipantError
from xohook.participants import Operation
from xohook.participants.base import Configured
from xohook.participants.programs import Runner, Surroundings
from xohook.processes.process import IProcessReactor
from xohook.window.answers import Outcome


class OwesThaw(Configured):
    """A participant whose thaw may have to be run later.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    """

    freezes_filesystem = False
    prepare = None

    def __init__(self, reactor: IProcessReactor, settings: CommonSettings) -> None:
        super().__init__(settings)
        self.unthawed: OwedThaw | None = None
        self._reactor = reactor

    @property
    def attempt_timeout(self) -> float:
        """Seconds that an owed thaw may take."""
        return self.thaw_timeout

    @abstractmethod
    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record.
        """

    @abstractmethod
    async def run_thaw(self, operation: Operation) -> bytes:
        """Run its thaw.

        :param operation: what is asked for.
        :return: the end of the output.
        :raises NotRunError: where it cannot be run, or not all of it.
        :raises ParticipantError: where it has run and failed.
        """

    @abstractmethod
    def when_quiet(self) -> Deferred[None]:
        """Wait for the end of what was broken off.

        :return: fires when it has ended, or cannot be ended.
        """

    def cut_off(self) -> NotRunError | None:
        """Return what is still due of a thaw whose time was up.

        :return: the error that names it; None if all of it was run.
        """
        return None

    def owe(self, process: Mapping[str, Any]) -> None:
        """Take up the thaw that an earlier run of the agent owes.

        :param process: what was running then, as the record names it; empty where nothing was.
        """
        self._owe("", Outcome.RECOVERED.value, self._kept_from(process))

    def thaw(self, operation: Operation) -> Deferred[bytes]:
        """Thaw it; where that cannot be run, :attr:`unthawed` has it afterwards.

        :param operation: what is asked for.
        :return: fires with the end of the output when all has ended well.
        """
        self.unthawed = None

        def keep(failure: Failure) -> Failure:
            error = failure.value
            if isinstance(error, CancelledError):
                error = self.cut_off()
            if isinstance(error, NotRunError):
                self._owe(operation.window, operation.outcome, error)
            return failure

        return Deferred.fromCoroutine(self.run_thaw(operation)).addErrback(keep)

    def _kept_from(self, process: Mapping[str, Any]) -> NotRunError:
        """Find out what keeps an owed thaw from being run."""
        return NotRunError("its thaw could not be run when the agent started", process=process)

    def _owe(self, window: str, outcome: str, error: NotRunError) -> None:
        self.unthawed = OwedThaw(self._reactor, self, window, outcome, error)


class Programmed(OwesThaw):
    """A participant that programs freeze and thaw.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param surroundings: what its programs have in common.
    """

    def __init__(
        self, reactor: IProcessReactor, settings: CommonSettings, surroundings: Surroundings
    ) -> None:
        super().__init__(reactor, settings)
        self._surroundings = surroundings
        self._runner = Runner(reactor, surroundings)

    def extend(self, until: float) -> None:
        """Do nothing: what a program has done holds until it is undone.

        :param until: the time of the monotonic clock.
        """

    def tail(self) -> bytes:
        """Return what its last program has written so far.

        :return: the end of it.
        """
        return self._runner.tail()

    def when_quiet(self) -> Deferred[None]:
        """Wait for the last program's end.

        :return: fires when it has ended, or cannot be ended.
        """
        return self._runner.when_quiet()

    def _kept_from(self, process: Mapping[str, Any]) -> NotRunError:
        if process:
            self._runner.take_up(process["pid"], process["started"])
        return self._runner.not_ended() or super()._kept_from({})

    def _refuse_beside(self) -> None:
        """Refuse to freeze while a program of an earlier window may still act.

        :raises ParticipantError: where one does.
        """
        error = self._runner.not_ended()
        if error is not None:
            raise ParticipantError(str(error))


class OwedThaw:
    """A thaw that is still to be run, once.

    :param clock: bounds it.
    :param participant: what is to be thawed.
    :param window: the id of the window that froze it; empty where it is not known.
    :param outcome: how that window ended.
    :param error: what keeps it from being run.
    """

    _log = Logger()

    points: tuple[str, ...] = ()

    def __init__(
        self,
        clock: IProcessReactor,
        participant: OwesThaw,
        window: str,
        outcome: str,
        error: NotRunError,
    ) -> None:
        self.name = participant.name
        self.problem = str(error)
        self.process = error.process
        self.may_be_frozen = True
        self.on_thawed: list[Callable[[], None]] = []
        self.changed: Callable[[], None] = lambda: None
        self._clock = clock
        self._participant = participant
        self._operation = Operation(window, participant.attempt_timeout, outcome, self._persist)
        self._is_running = False
        self._waiting: list[Deferred[None]] = []

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to run it.

        :return: plain values for the record.
        """
        return self._participant.recovery_data()

    async def attempt(self) -> None:
        """Run it if that is possible now; it can be cancelled, and goes on by itself then."""
        if not self.may_be_frozen:
            return
        if not self._is_running:
            self._is_running = True
            Deferred.fromCoroutine(self._run()).addErrback(self._log_fault).addCallback(self._ended)
        if self._is_running:
            ended: Deferred[None] = Deferred(lambda it: self._waiting.remove(it))
            self._waiting.append(ended)
            await ended

    def forget(self) -> None:
        """Count it as thawed: it was run, or the administrator has done it."""
        self.may_be_frozen = False
        hooks, self.on_thawed = self.on_thawed, []
        for hook in hooks:
            hook()

    async def _run(self) -> None:
        participant, timeout = self._participant, self._operation.timeout
        # Of a thaw that was cut off, a program may still be ending.
        await participant.when_quiet()
        run = Deferred.fromCoroutine(participant.run_thaw(self._operation))
        try:
            await run.addTimeout(timeout, self._clock)
            self.problem = ""
            self._log.warn("{name}: thawed now", name=self.name)
        except NotRunError as error:
            self._stay(error)
            return
        except defer.TimeoutError:
            due = participant.cut_off()
            await participant.when_quiet()
            if due is not None:
                self._stay(due)
                return
            self._fail(f"not done within {format_duration(timeout)}, and told to end")
        except ParticipantError as error:
            self._fail(str(error))
        self.forget()

    def _stay(self, error: NotRunError) -> None:
        self.problem = str(error)
        self._persist(error.process)

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._log.error("{name} NOT THAWED: {problem}", name=self.name, problem=problem)

    def _persist(self, process: Mapping[str, Any]) -> None:
        if process != self.process:
            self.process = process
            self.changed()

    def _ended(self, _: object) -> None:
        self._is_running = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _log_fault(self, fault: Failure) -> None:
        self._log.failure("a fault of xohook itself", fault)
