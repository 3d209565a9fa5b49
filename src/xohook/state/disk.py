"""What the agent itself writes to disks around a freeze: the stamp, and the log that pauses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogPublisher

from xohook.errors import RecordError
from xohook.state.record import Entry
from xohook.state.stamp import Stamp
from xohook.state.waiting_log import WaitingLog
from xohook.state.writers import DiskWriter

START_WAITS = 5.0
"""Seconds for which a start waits for each change of the stamp. It starts without the change where
the disk is frozen: this start may be what thaws it."""

REMOVE_WAITS = 2.0
"""Seconds for which a thaw waits until the stamp is removed; on a slow disk it is removed later.
With :data:`xohook.state.writers.END_WAITS` it makes the five seconds of ``docs/operation.rst``."""

REMOVE_AGAIN = 5.0
"""Seconds until a stamp that could not be removed is tried again: as a record that could not be
written (:data:`xohook.coordinator.coordinator.SAVE_AGAIN`)."""

_NO_ANSWER = "the disk does not answer; see whether its filesystem is frozen, full or failing"


class WrittenStamp(Stamp):
    """The stamp during a start, when no reactor runs yet; the writer writes it.

    :param directory: the state directory.
    :param writer: the writer of the stamp.
    """

    _log = Logger()

    def __init__(self, directory: Path, writer: DiskWriter) -> None:
        super().__init__(directory)
        self._writer = writer

    def write(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
        """Write the stamp, and wait :data:`START_WAITS` at most.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :raises RecordError: if it cannot be written, or not in time.
        """
        problem = self._do("press", self.encode(window, time, at_rest))
        if problem != "":
            raise RecordError(f"cannot write the stamp {self.path}: {problem or _NO_ANSWER}")

    def remove(self) -> bool:
        """Remove the stamp; if the disk is slow, the writer removes it later.

        :return: whether it is gone.
        :raises RecordError: if it cannot be removed.
        """
        problem = self._do("lift")
        if problem is None:
            self._log.warn(
                "the stamp {path} is removed later: {why}", path=self.path, why=_NO_ANSWER
            )
        elif problem:
            raise RecordError(f"cannot remove the stamp {self.path}: {problem}")
        return problem is not None

    def _do(self, word: str, *values: bytes) -> str | None:
        """Send a request to the writer; return its error, None if it does not answer in time."""
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
    :param log: the log that can be paused.
    :param ask: sends a request to the writer of the stamp, see
        :meth:`xohook.state.writers.DiskWriter.ask`.
    :param has_stamp: whether a stamp may be there already.
    :ivar has_stamp: whether a stamp may be there.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        stamp: Stamp,
        log: WaitingLog,
        ask: Callable[..., Deferred[str]],
        *,
        has_stamp: bool = False,
    ) -> None:
        self._reactor = reactor
        self._stamp = stamp
        self._waiting_log = log
        self._ask = ask
        self.has_stamp = has_stamp
        self._writes = 0
        self._removal_again: IDelayedCall | None = None
        self._removal_problem = ""

    def attach(self, publisher: LogPublisher) -> None:
        """Take the place of a publisher's observers, so that the log can be paused.

        :param publisher: the publisher.
        """
        self._waiting_log.attach(publisher)

    async def write_stamp(self, window: str, time: float, at_rest: Sequence[Entry]) -> None:
        """Write the stamp, or replace the one that is there.

        It waits for as long as the disk does not answer. If it is cancelled, the writer still
        writes the stamp, before any later request.

        :param window: the window's id.
        :param time: when it opened, in seconds since the epoch.
        :param at_rest: the participants that are frozen.
        :raises RecordError: if it cannot be written.
        """
        content = self._stamp.encode(window, time, at_rest)
        self.has_stamp = True
        self._writes += 1
        self._forget_removal()
        late = self._reactor.callLater(REMOVE_WAITS, self._log_waiting)
        try:
            problem = await self._ask("press", content)
        finally:
            if late.active():
                late.cancel()
        if problem:
            raise RecordError(f"cannot write the stamp {self._stamp.path}: {problem}")

    async def remove_stamp(self) -> None:
        """Remove the stamp, and wait :data:`REMOVE_WAITS` at most.

        A failure is logged, and tried again every :data:`REMOVE_AGAIN` seconds until the next stamp
        is written: a snapshot that is taken meanwhile would pass for that of the window.
        """
        self._forget_removal()
        waiting: Deferred[None] = Deferred()

        def give_up() -> None:
            self._log_waiting()
            waiting.callback(None)

        late = self._reactor.callLater(REMOVE_WAITS, give_up)

        def answered(_: object) -> None:
            if late.active():
                late.cancel()
                waiting.callback(None)

        self._order_removal().addCallback(answered)
        await waiting

    def _order_removal(self) -> Deferred[None]:
        writes = self._writes

        def removed(problem: str) -> None:
            if self._writes == writes:
                self._judge_removal(problem)

        return self._ask("lift").addCallback(removed)

    def _judge_removal(self, problem: str) -> None:
        before, path = self._removal_problem, self._stamp.path
        self._forget_removal()
        self._removal_problem = problem
        self.has_stamp = bool(problem)
        if problem:
            self._removal_again = self._reactor.callLater(REMOVE_AGAIN, self._order_removal)
            if problem != before:
                self._log.error(
                    "cannot remove the stamp {path}: {why}; this is tried again every"
                    " {seconds:.0f} s",
                    path=path,
                    why=problem,
                    seconds=REMOVE_AGAIN,
                )
        elif before:
            self._log.warn("the stamp {path} is removed now", path=path)

    def _forget_removal(self) -> None:
        """Stop the attempts to remove the stamp."""
        self._removal_problem = ""
        if self._removal_again is not None and self._removal_again.active():
            self._removal_again.cancel()
        self._removal_again = None

    def pause_log(self) -> None:
        """Keep what is logged in memory from now on."""
        self._waiting_log.pause()

    def resume_log(self) -> None:
        """Write what was logged meanwhile, and go on writing."""
        self._waiting_log.resume()

    def _log_waiting(self) -> None:
        self._log.warn(
            "the disk has not answered for {seconds:g} s: the stamp {path} waits for it; see"
            " whether its filesystem is frozen, full or failing",
            seconds=REMOVE_WAITS,
            path=self._stamp.path,
        )
