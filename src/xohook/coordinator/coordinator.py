"""The coordinator: takes what others ask of windows to the state machine, and owns the machine.

A request goes one way: coordinator, machine (:mod:`xohook.window.machine`), effects
(:mod:`xohook.coordinator.executor`), participants. How an effect ended goes to the machine, and the
machine delivers the answer to the requester. ``docs/architecture.rst`` follows one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from xohook.coordinator.executor import Executor
from xohook.coordinator.participant_runs import ParticipantRun
from xohook.coordinator.status import WindowStatus
from xohook.coordinator.unthawed import UnthawedSet
from xohook.participants import Participant
from xohook.participants.factory import from_record
from xohook.processes.process import IProcessReactor
from xohook.state.disk import Disk
from xohook.state.record import Entry, Record
from xohook.window.answers import Answer, Requester
from xohook.window.context import WindowContext
from xohook.window.effects import Limits
from xohook.window.late_post_syncs import LatePostSyncs
from xohook.window.machine import new_machine


class Coordinator:
    """Opens, holds and closes the windows of one agent.

    :param reactor: the monotonic clock and the source of processes.
    :param record: the record that the next start reads.
    :param late_post_syncs: the ``/post-sync`` expected from earlier windows.
    :param limits: the times that bound a window.
    :param participants: those that take part in every window.
    :param apps: returns the apps that take part in the window that opens.
    :param disk: the agent's own disks, which may be frozen.
    """

    def __init__(
        self,
        reactor: IProcessReactor,
        record: Record,
        late_post_syncs: LatePostSyncs,
        limits: Limits,
        participants: Sequence[Participant],
        apps: Callable[[], Sequence[Participant]],
        disk: Disk,
    ) -> None:
        self._reactor = reactor
        self._executor = Executor(reactor, record, late_post_syncs, participants, apps, disk)
        self._context = WindowContext(
            reactor, self._executor, limits, new_window_id, late_post_syncs, time.time
        )
        self._machine = new_machine(self._context)
        self.watchers = self._executor.watchers

    # Requests.

    def sync(self, requester: Requester) -> None:
        """Take an authenticated ``/sync``.

        :param requester: who waits for the answer.
        """
        self._machine.sync(requester)

    def post_sync(self, requester: Requester) -> None:
        """Take an authenticated ``/post-sync``.

        :param requester: who waits for the answer.
        """
        self._machine.post_sync(requester)

    def thaw_now(self, requester: Requester) -> None:
        """End the present window, if there is one.

        :param requester: who waits for its end.
        """
        self._machine.thaw_now(requester)

    def rehearse(self, requester: Requester, hold: float) -> None:
        """Run a whole window without a snapshot.

        :param requester: who waits for its end.
        :param hold: seconds that its hold lasts.
        """
        self._machine.rehearse(requester, hold)

    def gone(self, requester: Requester) -> None:
        """Take note that a requester has closed its connection before its answer.

        :param requester: who no longer waits.
        """
        self._machine.gone(requester)

    async def stop(self) -> None:
        """Thaw what is frozen and open no more windows; what cannot be thawed stays recorded.

        It returns when no program runs any more, or
        :data:`xohook.coordinator.executor.STOP_WAITS` seconds after the thaw.
        """
        self._machine.stop()
        await self._executor.finish()

    # Configuration.

    def between_windows(self, change: Callable[[], object]) -> None:
        """Make a change while no window is open: now, or at the end of the present one.

        :param change: makes it.
        """
        self._executor.between_windows(change)

    def configure(self, limits: Limits, participants: Sequence[Participant]) -> None:
        """Use other settings; to be called between windows.

        :param limits: the times that bound a window.
        :param participants: those that take part in every window.
        """
        self._context.limits = limits
        self._executor.participants = tuple(participants)

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Take over what a start could not thaw; to be called before any request.

        :param entries: their entries in the record.
        :raises RecordError: if one cannot be understood.
        """
        for entry in entries:
            unthawed = from_record(self._reactor, entry).unthawed
            if unthawed is not None:
                self.unthawed.add(unthawed, entry)

    # Status.

    @property
    def unthawed(self) -> UnthawedSet:
        """What may still be frozen after its thaw."""
        return self._executor.unthawed

    @property
    def filesystem_frozen(self) -> bool:
        """Whether some filesystem may be frozen, in a window or after one whose thaw failed."""
        return self._executor.filesystem_frozen

    def runs(self, window: str | None) -> tuple[ParticipantRun, ...]:
        """Return how far each participant has come.

        :param window: the id of a window.
        :return: the runs of that window; empty if it is not the one that opened last.
        """
        sequence = self._executor.sequence
        return sequence.runs if sequence is not None and sequence.window == window else ()

    def status(self) -> WindowStatus:
        """Return the status of the present window, or of the last if none is open.

        :return: the status.
        """
        window, sequence = self._context.window, self._executor.sequence
        if sequence is None:
            return WindowStatus(Answer(status=200), tuple(self._executor.new_runs()))
        if window is None:
            last = self._executor.last or Answer(status=200)
            return WindowStatus(last, sequence.runs, opened=sequence.opened)
        left = None
        if window.end is not None and window.end.active():
            left = window.end.getTime() - self._reactor.seconds()
        answer = self._context.answer(200, *window.lines)
        return WindowStatus(answer, sequence.runs, True, sequence.opened, left)


def new_window_id() -> str:
    """Make the id of a new window.

    :return: the time of day (UTC), for whoever reads a log, and a few random digits.
    """
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
