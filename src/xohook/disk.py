"""The agent's own disks around a freeze: the stamp goes on, and the log falls silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogPublisher

from xohook.errors import RecordError
from xohook.logs import WaitingLog
from xohook.record import Entry
from xohook.stamp import Stamp
from xohook.writing import DiskWriter

START_WAITS = 5.0
"""Seconds for which a start waits for each change of the stamp. A frozen disk is no reason not to
start: it may be what this start thaws."""

LIFT_WAITS = 2.0
"""Seconds for which a thaw waits until the stamp is removed. A disk that needs longer removes it
later; with :data:`xohook.writing.END_WAITS` it makes the five seconds of ``docs/operation.rst``."""

LIFT_AGAIN = 5.0
"""Seconds until a stamp that could not be removed is tried again: as a record that could not be
written (:data:`xohook.keeper.SAVE_AGAIN`)."""

_NO_ANSWER = "the disk does not answer; see whether its filesystem is frozen, full or failing"


class WrittenStamp(Stamp):
    """The stamp of an agent that starts, and has no reactor yet: changed by the writer.

    :param directory: the state directory.
    :param writer: the writer of the stamp.
    """

    _log = Logger()

    def __init__(self, directory: Path, writer: DiskWriter) -> None:
        super().__init__(directory)
        self._writer = writer

    def press(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
        """Put the stamp on the disk, and wait :data:`START_WAITS` at most.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :raises RecordError: where it cannot be written, or not in time.
        """
        problem = self._do("press", self.encode(window, time, at_rest))
        if problem != "":
            raise RecordError(f"cannot write the stamp {self.path}: {problem or _NO_ANSWER}")

    def lift(self) -> None:
        """Take the stamp off the disk; where that takes longer, the writer does it later.

        :raises RecordError: where it cannot be removed.
        """
        problem = self._do("lift")
        if problem is None:
            self._log.warn(
                "the stamp {path} is removed later: {why}", path=self.path, why=_NO_ANSWER
            )
        elif problem:
            raise RecordError(f"cannot remove the stamp {self.path}: {problem}")

    def _do(self, word: str, *values: bytes) -> str | None:
        """Give an order; tell what went wrong, or None where nothing is known in time."""
        answers: list[str] = []
        self._writer.ask(word, *values).addCallback(answers.append)
        until = time.monotonic() + START_WAITS
        while not answers and self._writer.wait(until):
            pass
        return answers[0] if answers else None


class Disk:
    """The stamp and the log of one agent.

    :param reactor: the clock.
    :param stamp: the stamp in the state directory.
    :param log: the log that waits.
    :param ask: gives an order to the writer of the stamp, see
        :meth:`xohook.writing.DiskWriter.ask`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        stamp: Stamp,
        log: WaitingLog,
        ask: Callable[..., Deferred[str]],
    ) -> None:
        self._reactor = reactor
        self._stamp = stamp
        self._waiting_log = log
        self._ask = ask
        self._presses = 0
        self._lift_again: IDelayedCall | None = None
        self._lift_problem = ""

    def attach(self, publisher: LogPublisher) -> None:
        """Take the place of a publisher's observers, so that the log can be held back.

        :param publisher: the publisher.
        """
        self._waiting_log.attach(publisher)

    async def press(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
        """Put the stamp on the disk, or a new one over the old.

        It waits for as long as the disk does not answer. Cancelled, it leaves the order to the
        writer, which carries it out before any later one.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :raises RecordError: where it cannot be written.
        """
        self._presses += 1
        self._forget_lift()
        late = self._reactor.callLater(LIFT_WAITS, self._tell_waiting)
        try:
            problem = await self._ask("press", self._stamp.encode(window, time, at_rest))
        finally:
            if late.active():
                late.cancel()
        if problem:
            raise RecordError(f"cannot write the stamp {self._stamp.path}: {problem}")

    async def lift(self) -> None:
        """Take the stamp off the disk, and wait :data:`LIFT_WAITS` at most.

        A failure is logged, and tried again every :data:`LIFT_AGAIN` seconds until the next press:
        a snapshot that is taken meanwhile would pass for that of the window.
        """
        self._forget_lift()
        waiting: Deferred[None] = Deferred()

        def give_up() -> None:
            self._tell_waiting()
            waiting.callback(None)

        late = self._reactor.callLater(LIFT_WAITS, give_up)

        def answered(_: object) -> None:
            if late.active():
                late.cancel()
                waiting.callback(None)

        self._order_lift().addCallback(answered)
        await waiting

    def _order_lift(self) -> Deferred[None]:
        presses = self._presses

        def lifted(problem: str) -> None:
            if self._presses == presses:
                self._judge_lift(problem)

        return self._ask("lift").addCallback(lifted)

    def _judge_lift(self, problem: str) -> None:
        before, path = self._lift_problem, self._stamp.path
        self._forget_lift()
        self._lift_problem = problem
        if problem:
            self._lift_again = self._reactor.callLater(LIFT_AGAIN, self._order_lift)
            if problem != before:
                self._log.error(
                    "cannot remove the stamp {path}: {why}; this is tried again every"
                    " {seconds:.0f} s",
                    path=path,
                    why=problem,
                    seconds=LIFT_AGAIN,
                )
        elif before:
            self._log.warn("the stamp {path} is removed now", path=path)

    def _forget_lift(self) -> None:
        """Stop the attempts to remove the stamp."""
        self._lift_problem = ""
        if self._lift_again is not None and self._lift_again.active():
            self._lift_again.cancel()
        self._lift_again = None

    def hold_back(self) -> None:
        """Let nothing be written to any disk."""
        self._waiting_log.hold_back()

    def let_out(self) -> None:
        """Write what has waited."""
        self._waiting_log.let_out()

    def _tell_waiting(self) -> None:
        self._log.warn(
            "the disk has not answered for {seconds:g} s: the stamp {path} waits for it; see"
            " whether its filesystem is frozen, full or failing",
            seconds=LIFT_WAITS,
            path=self._stamp.path,
        )
