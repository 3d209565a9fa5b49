"""An agent's inside behind control connections in memory, with the clock in a test's hands."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.pressing import writer_of
from xohook.config.settings import AppSettings
from xohook.control.apps import Apps
from xohook.control.connections import Control, ControlChannel
from xohook.control.methods import Methods
from xohook.control.socket import Peer
from xohook.coordinator.coordinator import Coordinator
from xohook.participants import Participant
from xohook.processes.process import IProcessReactor
from xohook.state.disk import Disk
from xohook.state.record import Record
from xohook.state.stamp import Stamp
from xohook.state.waiting_log import WaitingLog
from xohook.window.answers import Answer, Requester
from xohook.window.effects import Limits
from xohook.window.late_post_syncs import LatePostSyncs

BUDGET = 50.0
"""Seconds of freeze budget."""

LIMIT = 120.0
"""Seconds of hold limit."""

STRANGER = os.geteuid() + 1
"""A user who is neither root nor the one that runs the tests."""

ROOM = 64 * 1024
"""Bytes that a connection takes from the agent before it is full."""


def app_settings(name: str, **others: Any) -> AppSettings:
    """Make an ``[app:NAME]`` section that says nothing but what is given.

    :param name: the name, without its kind.
    :param others: what it says.
    :return: the section.
    """
    silent: dict[str, Any] = dict.fromkeys(
        ("order", "freeze_timeout", "thaw_timeout", "abort", "account")
    )
    return AppSettings(name=f"app:{name}", **{**silent, "required": False, **others})


class TurningClock(Clock):
    """A clock that can turn as a reactor does: what is called for now waits for the next turn."""

    def turn(self) -> None:
        """Make the calls that are due, and none that they ask for."""
        for call in [each for each in self.calls if each.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class KnownSocket:
    """A socket whose other end the kernel knows.

    :param peer: who that is.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """Tell who is at the other end, as SO_PEERCRED has it (unix(7))."""
        return struct.pack("iII", self._peer.pid, self._peer.uid, 0)


class Line:
    """A connection in memory: the agent's transport, and the client at the other end.

    What the agent writes arrives at once, unless the client does not read. What ends ends in the
    next turn of the clock.

    :param clock: the clock.
    :param control: makes the agent's end.
    :param peer: who the client is.
    """

    def __init__(self, clock: Clock, control: Control, peer: Peer) -> None:
        self.socket = KnownSocket(peer)
        self.received: list[dict[str, Any]] = []
        self.is_reading = True
        self.is_closed = False
        self.is_aborted = False
        self.is_paused = False
        self._clock = clock
        self._producer: IPushProducer | None = None
        self._is_producer_paused = False
        self._disconnecting = False
        self._outgoing = b""
        self._incoming: list[bytes] = []
        self._next_id = 0
        self.channel: ControlChannel = control.buildProtocol(None)
        self.channel.makeConnection(cast(Any, self))

    # The transport of the agent's end.

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Take who writes; it is told when there is no room."""
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Tell nobody any more, and close if that is what is waited for."""
        self._producer = None
        self._close_if_done()

    def write(self, data: bytes) -> None:
        """Take what the agent says."""
        if self.is_closed:
            return
        self._outgoing += data
        if self.is_reading:
            self._take()
        elif len(self._outgoing) > ROOM and self._producer is not None:
            self._is_producer_paused = True
            self._producer.pauseProducing()

    def pauseProducing(self) -> None:
        """Keep what the client sends."""
        self.is_paused = True

    def resumeProducing(self) -> None:
        """Hand over what the client sends from now on, and what was kept, in the next turn."""
        self.is_paused = False
        self._clock.callLater(0, self._hand_over)

    def loseConnection(self) -> None:
        """Close when all is written and nobody is about to write more."""
        self.is_paused = self._disconnecting = True
        self._close_if_done()

    def abortConnection(self) -> None:
        """Close at once."""
        self.is_aborted = True
        self._clock.callLater(0, self._lose, ConnectionAborted())

    # The client.

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._incoming.append(data)
        self._hand_over()

    def tell(self, **members: Any) -> None:
        """Send a message of these members."""
        self.send(json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")

    def call(self, method: str, **params: Any) -> int:
        """Send a request.

        :return: its id.
        """
        self._next_id += 1
        self.tell(id=self._next_id, method=method, params=params)
        return self._next_id

    def answer(self, number: int) -> dict[str, Any] | None:
        """Find the answer to a request; None where there is none yet."""
        answers = [each for each in self.received if "method" not in each and each["id"] == number]
        assert len(answers) <= 1, answers
        return answers[0] if answers else None

    def requests(self, method: str) -> list[dict[str, Any]]:
        """Tell what the agent has asked for with this method, or notified of."""
        return [each for each in self.received if each.get("method") == method]

    def reply(self, number: int, **answer: Any) -> None:
        """Answer a request of the agent's; well, unless told otherwise."""
        self.tell(id=number, **(answer or {"result": {}}))

    def read(self) -> None:
        """Read again, and what has waited first."""
        self.is_reading = True
        self._take()

    def close(self) -> None:
        """Close both ways at once."""
        self._lose(ConnectionDone())

    def close_half(self) -> None:
        """Say that nothing more will come, and read on."""
        self.channel.readConnectionLost()

    def _take(self) -> None:
        *lines, self._outgoing = self._outgoing.split(b"\n")
        self.received += [json.loads(line) for line in lines]
        if self._is_producer_paused and self._producer is not None:
            self._is_producer_paused = False
            self._producer.resumeProducing()
        else:
            self._close_if_done()

    def _hand_over(self) -> None:
        while self._incoming and not self.is_paused and not self.is_closed:
            # No more than a transport reads at once.
            data = b"".join(self._incoming)
            self._incoming = [data[ROOM:]] if data[ROOM:] else []
            self.channel.dataReceived(data[:ROOM])

    def _close_if_done(self) -> None:
        if self._disconnecting and not self._outgoing and not self._is_producer_paused:
            self._clock.callLater(0, self._lose, ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.channel.connectionLost(Failure(reason))


class Scene:
    """An agent but for its sockets.

    :param directory: where it keeps its files; made.
    :param apps: what the configuration says of apps.
    :param participants: whoever takes part besides.
    :param most: how many control connections there may be.
    """

    def __init__(
        self,
        directory: Path,
        *apps: AppSettings,
        participants: Sequence[Participant] = (),
        most: int = 2048,
    ) -> None:
        directory.mkdir()
        self.clock = TurningClock()
        self.record = Record(directory)
        self.apps = Apps(self.clock, apps)
        self.late_post_syncs = LatePostSyncs()
        stamp = Stamp(directory)
        self.coordinator = Coordinator(
            cast(IProcessReactor, self.clock),
            self.record,
            self.late_post_syncs,
            Limits(BUDGET, LIMIT),
            participants,
            self.apps.participants,
            Disk(self.clock, stamp, WaitingLog(), writer_of(stamp.path)),
        )
        self.problems: list[str] = []
        self.reloads = 0
        self.methods = Methods(self.coordinator, self.apps, self._reload)
        self.control = Control(self.clock, self.methods, self.apps, most)
        self.answers: list[Answer] = []

    def _reload(self) -> Deferred[tuple[str, ...]]:
        self.reloads += 1
        return succeed(tuple(self.problems))

    def connect(self, uid: int = 0, pid: int = 99) -> Line:
        """Open a connection.

        :param uid: whose it is.
        :param pid: the process's number.
        :return: the connection.
        """
        return Line(self.clock, self.control, Peer(uid=uid, pid=pid))

    def register(self, line: Line, name: str, **wishes: Any) -> None:
        """Register an app, which must be possible."""
        answer = line.answer(line.call("register", name=name, **wishes))
        assert answer is not None, answer
        assert answer.get("result") == {"name": name, "protocol": 1}, answer
        self.turn()

    def app(self, name: str, uid: int = 0, **wishes: Any) -> Line:
        """Open a connection and register an app on it."""
        line = self.connect(uid)
        self.register(line, name, **wishes)
        return line

    def sync(self) -> Requester:
        """Ask for ``/sync``."""
        requester = Requester("192.0.2.1", self.answers.append)
        self.coordinator.sync(requester)
        return requester

    def post_sync(self) -> None:
        """Ask for ``/post-sync``."""
        self.coordinator.post_sync(Requester("192.0.2.1", self.answers.append))

    @property
    def statuses(self) -> list[int]:
        """What the requesters were answered."""
        return [answer.status for answer in self.answers]

    @property
    def outcome(self) -> str:
        """How the last window ended."""
        return self.coordinator.status().answer.state

    def turn(self, turns: int = 1) -> None:
        """Let the reactor turn, with no time passing."""
        for _ in range(turns):
            self.clock.turn()

    def wait(self, seconds: float) -> None:
        """Let time pass, each call of the clock at its own time."""
        end = self.clock.seconds() + seconds
        while True:
            due = [each.getTime() for each in self.clock.getDelayedCalls()]
            following = min([*due, end])
            self.clock.advance(max(0.0, following - self.clock.seconds()))
            if following >= end:
                return
