"""A coordinator whose participants and clock are in the test's hands."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.acting import Actor
from tests.pressing import writer_of
from xohook.coordinator.coordinator import Coordinator
from xohook.processes.process import IProcessReactor
from xohook.state.disk import Disk
from xohook.state.record import Record
from xohook.state.stamp import Stamp
from xohook.state.waiting_log import WaitingLog
from xohook.window.answers import Answer, Requester
from xohook.window.effects import Limits
from xohook.window.late_post_syncs import LatePostSyncs


class CoordinatorTestCase(SynchronousTestCase):
    """A coordinator whose participants the test moves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stage: list[str] = []
        self.answers: list[Answer] = []
        self.apps: list[Actor] = []
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.record = Record(self.directory)
        self.state_directory = Path(self.mktemp())
        self.state_directory.mkdir()

    def keep(self, *actors: Actor) -> Coordinator:
        reactor = cast(IProcessReactor, self.clock)
        stamp = Stamp(self.state_directory)
        disk = Disk(self.clock, stamp, WaitingLog(), writer_of(stamp.path))
        return Coordinator(
            reactor,
            self.record,
            LatePostSyncs(),
            Limits(50.0, 120.0),
            actors,
            self.taking_part,
            disk,
        )

    def taking_part(self) -> list[Actor]:
        return list(self.apps)

    def actor(self, name: str, order: int = 40, *, holds: bool = True) -> Actor:
        return Actor(name, self.stage, order, holds=holds)

    def filesystem(self, name: str, order: int = 90) -> Actor:
        """Make one that is prepared first, and then freezes a filesystem."""
        actor = Actor(name, self.stage, order, freezes_filesystem=True)
        actor.need_preparing()
        return actor

    def requester(self) -> Requester:
        return Requester("192.0.2.1", self.answers.append)

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]
