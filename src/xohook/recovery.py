"""Thaws what an earlier run of the agent left frozen, by the record.

It runs before twistd opens its log or pid file, which may lie on what is frozen, on a reactor of
its own that ends with it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger
from twisted.python.failure import Failure

from xohook.answers import Outcome
from xohook.errors import RecordError, StartError
from xohook.participants.command import Command
from xohook.process import IProcessReactor, end_leftover
from xohook.record import Entry, Record, State
from xohook.steps import Step
from xohook.strays import Strays

_log = Logger()


def recover(record: Record) -> Strays:
    """Run the thaws that the record owes, once.

    :param record: the record of the runtime directory.
    :return: the ``/post-sync`` that are expected.
    :raises RecordError: where the record cannot be read or written.
    :raises StartError: where this is interrupted; the next start goes on with it.
    """
    state = record.read()
    strays = Strays(state.strays)
    if state.window is not None:
        _log.warn("window {window} was open when the agent ended: recovering", window=state.window)
        _run(lambda reactor: _thaw(reactor, record, state))
        now = time.monotonic()
        for answered, count in ((True, state.owed), (False, state.waiting)):
            for _ in range(count):
                strays.expect(state.window, answered, now)
        _log.warn(
            "window {window} {outcome}",
            window=state.window,
            outcome=Outcome.RECOVERED.value,
        )
    record.write(State(strays=strays.present(time.monotonic())))
    return strays


async def _thaw(reactor: IProcessReactor, record: Record, state: State) -> None:
    participants = {entry.name: revive(reactor, entry) for entry in state.entries}
    left = {entry.name: entry for entry in state.entries}

    def write() -> None:
        record.write(attrs.evolve(state, entries=tuple(left.values())))

    async def thaw(entry: Entry) -> None:
        def note() -> None:
            left[entry.name] = attrs.evolve(entry, process=step.process)
            write()

        if entry.process:
            await end_leftover(reactor, entry.process["pid"], entry.process["started"])
        step = Step(participants[entry.name], reactor, note, phase="frozen")
        await step.thaw(state.window or "", Outcome.RECOVERED.value)
        del left[entry.name]
        try:
            write()
        except RecordError as error:
            _log.error("{error}; the thaw goes on", error=error)

    ordered = sorted(state.entries, key=lambda entry: entry.order, reverse=True)
    for _, group in groupby(ordered, key=lambda entry: entry.order):
        await DeferredList([Deferred.fromCoroutine(thaw(entry)) for entry in group])


def revive(reactor: IProcessReactor, entry: Entry) -> Command:
    """Make the participant that an entry of the record tells of.

    :param reactor: the clock and the source of processes.
    :param entry: the entry.
    :return: a participant that can thaw.
    :raises RecordError: where the entry cannot be understood.
    """
    try:
        return Command.from_record(reactor, entry.name, entry.owed)
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"the record's entry of {entry.name} cannot be understood: thaw it by hand and"
            " remove the record"
        ) from error


def _run(make: Callable[[IProcessReactor], Coroutine[Deferred[Any], Any, None]]) -> None:
    """Run the work on a reactor of its own; twistd's has its turn later, with its own signals."""
    reactor = EPollReactor()
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
