"""Thaws what an earlier run of the agent left frozen, as the record says.

It runs before twistd opens its log or pid file, which may lie on what is frozen, and on a reactor
of its own.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import chain, repeat
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.coordinator.participant_runs import ParticipantRun
from xohook.coordinator.sequence import groups, position
from xohook.errors import RecordError, StartError
from xohook.participants.factory import from_record
from xohook.processes.process import IProcessReactor, end_leftover
from xohook.state.record import Entry, Record, State, boot_id
from xohook.state.stamp import Stamp, StampData, outlives_boot
from xohook.window.answers import Outcome
from xohook.window.late_post_syncs import LatePostSyncs

_log = Logger()


@attrs.frozen
class Recovered:
    """The result of a recovery.

    :param late_post_syncs: the ``/post-sync`` that are expected.
    :param problems: a line for each participant that could not be thawed.
    :param unthawed: the entries of what may still be frozen, for the agent to thaw.
    :param has_stamp: whether a stamp may be left.
    """

    late_post_syncs: LatePostSyncs
    problems: tuple[str, ...] = ()
    unthawed: tuple[Entry, ...] = ()
    has_stamp: bool = False


def recover(record: Record, stamp: Stamp) -> Recovered:
    """Run each thaw that is due by the record once.

    The stamp counts on a restored disk, and where the record of this boot is lost.

    :param record: the record of the runtime directory.
    :param stamp: the stamp of the state directory.
    :return: the result.
    :raises RecordError: if record or stamp cannot be read or understood.
    :raises StartError: if this is interrupted; the next start goes on with it.
    """
    state, found = record.read(), stamp.read()
    late_post_syncs = LatePostSyncs(state.late_post_syncs)
    problems: tuple[str, ...] = ()
    unthawed: tuple[Entry, ...] = ()
    state = _due(record, stamp, state, found)
    if state.window is not None or state.entries:
        pending = _PendingThaws(record, state)
        problems, unthawed = pending.run(), pending.unthawed
    if state.window is not None:
        now = time.monotonic()
        for answered, count, sources in (
            (True, state.owed, state.owed_from),
            (False, state.waiting, state.waiting_from),
        ):
            # A record of an earlier version does not say where they came from.
            for source, _ in zip(chain(sources, repeat("")), range(count), strict=False):
                late_post_syncs.expect(state.window, answered, now, source)
        _log.warn(
            "window {window} {outcome}",
            window=state.window,
            outcome=Outcome.RECOVERED.value,
        )
    try:
        expected = late_post_syncs.present(time.monotonic())
        ended = State(entries=unthawed, late_post_syncs=expected)
        record.write(ended, has_stamp=found is not None)
    except RecordError as error:
        # What has been thawed is not thawed again, even where nothing else can be written down.
        _log.error("{error}; it is removed, and no /post-sync is expected", error=error)
        ended = State(entries=unthawed)
        record.write(ended)
    has_stamp = found is not None
    if not unthawed:
        # The earlier agent's writer may put one in place after the record was read.
        may_come = stamp.path.parent.exists()
        has_stamp = not _remove_stamp(stamp, is_known=has_stamp, may_come=may_come)
        if not has_stamp and ended == State():
            record.write(ended)
    return Recovered(late_post_syncs, problems, unthawed, has_stamp)


def _due(record: Record, stamp: Stamp, state: State, found: StampData | None) -> State:
    """Choose what to thaw by, and log why a thaw is due."""
    if found is not None and found.boot != boot_id():
        _log_restored(found)
        return _take_over(record, stamp, state, found)
    if found is not None and not record.is_of_this_boot:
        _log_lost(found, record)
        # The agent died between a /sync and its /post-sync.
        return _take_over(record, stamp, state, found, owed=1)
    if state.window is not None:
        _log.warn("window {window} was open when the agent ended: recovering", window=state.window)
    return state


def _remove_stamp(stamp: Stamp, *, is_known: bool, may_come: bool) -> bool:
    """Remove the stamp.

    :param stamp: the stamp.
    :param is_known: whether it was read.
    :param may_come: whether the earlier agent's writer may still be about to put a stamp in place.
    :return: whether none is left.
    :raises RecordError: if a stamp that was read cannot be removed.
    """
    try:
        if is_known or may_come:
            return stamp.remove()
    except RecordError as error:
        if is_known:
            raise
        _log.error("{error}", error=error)
    return True


def _log_lost(found: StampData, record: Record) -> None:
    _log.warn(
        "the record of window {window} is lost (no {path} of this boot): recovering by the stamp,"
        " which names {at_rest}; see by hand whether anything else is still frozen",
        window=found.window,
        path=record.path,
        at_rest=_names(found),
    )


def _names(found: StampData) -> str:
    return ", ".join(entry.name for entry in found.at_rest) or "none yet"


def _log_restored(found: StampData) -> None:
    _log.warn(
        "this system comes back from window {window} of {opened}: it was restored or cloned from a"
        " snapshot of that window, or was reset during its hold; frozen then: {at_rest}",
        window=found.window,
        opened=datetime.fromtimestamp(found.time, timezone.utc).isoformat(" ", "seconds"),
        at_rest=_names(found),
    )


def _take_over(
    record: Record, stamp: Stamp, state: State, found: StampData, owed: int = 0
) -> State:
    """Record the due thaws of a stamp, so that a start after an interrupted one runs them."""
    # A record that came along is newer than the stamp. But the agent does not wait until it is on
    # the disk, so its last entries may be missing.
    entries = {entry.name: entry for entry in (*found.at_rest, *state.entries)}.values()
    lasting = tuple(entry for entry in entries if outlives_boot(entry))
    state = State(window=found.window, owed=owed, entries=lasting)
    try:
        record.write(state)
        if found.boot != boot_id():
            stamp.write(found.window, found.time, lasting)
    except RecordError as error:
        _log.error("{error}; the thaws go on", error=error)
    return state


class _PendingThaws:
    """The thaws that are due, while they run.

    :param record: the record; it keeps those that are left.
    :param state: what the record says.
    """

    def __init__(self, record: Record, state: State) -> None:
        self._record = record
        self._state = state
        self._left = {entry.name: entry for entry in state.entries}
        self._not_understood: list[RecordError] = []
        self._runs: list[ParticipantRun] = []
        self.unthawed: tuple[Entry, ...] = ()

    def run(self) -> tuple[str, ...]:
        """Thaw what can be thawed; an entry that cannot be understood stays in the record.

        :return: a line for each participant that could not be thawed.
        :raises RecordError: if an entry cannot be understood, after the others are thawed; with
            all of these lines too.
        """
        try:
            _run(self._thaw_all)
        except StartError as error:
            raise StartError("\n".join([str(error), *self._problems()])) from error
        if self._not_understood:
            # The failed thaws are no longer in the record: no other start would report them.
            raise RecordError("\n".join([*map(str, self._not_understood), *self._problems()]))
        return self._problems()

    def _problems(self) -> tuple[str, ...]:
        return tuple(
            f"{run.name}: NOT THAWED: {run.thaw_problem}" for run in self._runs if run.thaw_problem
        )

    async def _thaw_all(self, reactor: IProcessReactor) -> None:
        for entry in self._state.entries:
            try:
                self._runs.append(self._new_run(reactor, entry))
            except RecordError as error:
                self._not_understood.append(error)
        for group in groups(sorted(self._runs, key=position), reverse=True):
            thaws = [Deferred.fromCoroutine(self._thaw(reactor, run)) for run in group]
            await DeferredList(thaws)

    def _new_run(self, reactor: IProcessReactor, entry: Entry) -> ParticipantRun:
        participant = from_record(reactor, entry)

        def write() -> None:
            self._left[entry.name] = attrs.evolve(
                entry, recovery_data=participant.recovery_data(), process=run.process
            )
            self._write()

        run = ParticipantRun(
            participant,
            reactor,
            write,
            adopt=lambda _, entry: self._adopt(entry),
            phase="frozen",
            process=entry.process,
        )
        return run

    def _adopt(self, entry: Entry) -> None:
        self.unthawed += (entry,)

    async def _thaw(self, reactor: IProcessReactor, run: ParticipantRun) -> None:
        if run.process:
            await end_leftover(reactor, run.process["pid"], run.process["started"])
        await run.thaw(self._state.window or "", Outcome.RECOVERED.value)
        del self._left[run.name]
        self._left |= {each.name: each for each in self.unthawed if each.name == run.name}
        try:
            self._write()
        except RecordError as error:
            _log.error("{error}; the thaw goes on", error=error)

    def _write(self) -> None:
        self._record.write(attrs.evolve(self._state, entries=tuple(self._left.values())))


class _Reactor(EPollReactor):
    """A reactor that does not log its end: the log of the agent has hardly begun."""

    def mainLoop(self) -> None:
        """Run until it is stopped, as Twisted's own ``mainLoop``."""
        while self._started:
            try:
                self.runUntilCurrent()
                self.doIteration(self.running and self.timeout())
            except Exception:  # noqa: BLE001 - the other thaws go on.
                _log.failure("a fault of xohook itself")


def _run(make: Callable[[IProcessReactor], Coroutine[Deferred[Any], Any, None]]) -> None:
    """Run the work on a reactor of its own; twistd starts its reactor later."""
    reactor = _Reactor()
    reactor.seconds = time.monotonic
    problems: list[Failure] = []
    is_done = False

    def begin() -> None:
        Deferred.fromCoroutine(make(cast(IProcessReactor, reactor))).addErrback(
            problems.append
        ).addCallback(end)

    def end(_: object) -> None:
        nonlocal is_done
        is_done = True
        reactor.stop()

    with _same_signals():
        reactor.callWhenRunning(begin)
        reactor.run()
    if problems:
        problems[0].raiseException()
    if not is_done:
        raise StartError("interrupted while thawing what an earlier run had left frozen")


@contextmanager
def _same_signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
