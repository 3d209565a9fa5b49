"""Tests for :mod:`xohook.control.connections`: unread bytes and the number of clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.acting import Actor
from tests.control.connections_case import ControlTestCase
from tests.talking import ROOM, STRANGER, Line, Scene
from xohook.control import connections
from xohook.control.connections import BACKLOG, RESERVED
from xohook.control.turns import TURN
from xohook.control.wire import INVALID_REQUEST, LONGEST_IN, TOO_MANY
from xohook.errors import ParticipantError


class BacklogTests(ControlTestCase):
    """A client that does not read."""

    def flooded(self) -> tuple[Line, Line]:
        """Subscribe two clients, of which one does not read, to events of a kilobyte."""
        self.actor = Actor("command:a", [])
        self.scene = Scene(Path(self.mktemp()), participants=[self.actor])
        lines = (self.scene.connect(pid=98), self.scene.connect())
        for line in lines:
            line.call("subscribe")
            self.scene.turn()
        lines[0].is_reading = False
        return lines

    def window(self) -> None:
        self.scene.sync()
        self.actor.fail(ParticipantError("x" * 10_000))
        self.actor.do()

    def test_dropped(self) -> None:
        """It is dropped when too much waits for it, with a word in the log; others are served."""
        stalled, reading = self.flooded()
        while not stalled.is_aborted:
            self.window()
            self.assertLess(len(reading.received), 10_000)
        self.scene.turn(2)
        self.assertTrue(stalled.is_closed)
        waited = sum(len(str(each)) for each in reading.requests("event"))
        self.assertGreater(waited, BACKLOG)
        self.assertLess(waited, 2 * BACKLOG)
        self.assertFalse(reading.is_closed)
        self.assertEqual(len(self.scene.coordinator.watchers), 1)

    def test_one_long_message(self) -> None:
        """What waits already counts, not what comes: one long answer is no reason to drop it."""
        line = self.scene.connect()
        line.is_reading = False
        for length in (ROOM, BACKLOG):
            line.channel.notify("event", {"of": "x" * length})
        self.assertFalse(line.is_aborted)
        line.read()
        self.assertEqual([len(each["params"]["of"]) for each in line.received], [ROOM, BACKLOG])
        line.is_reading = False
        for length in (ROOM, BACKLOG, 0):
            line.channel.notify("event", {"of": "x" * length})
        self.assertTrue(line.is_aborted)

    def test_all_together(self) -> None:
        """When too much waits for all together, one that does not read has nothing more."""
        self.patch(connections, "BACKLOG_OF_ALL", 10 * ROOM)
        lines = [self.scene.connect() for _ in range(4)]
        for line in lines:
            line.is_reading = False
            for _ in range(4):
                line.channel.notify("event", {"of": "x" * ROOM})
        self.assertEqual([line.is_aborted for line in lines], [False, False, True, True])
        self.scene.turn()
        for line in lines[:2]:
            line.channel.notify("event", {})
            line.read()
            self.assertEqual(len(line.received), 5)
        self.assertEqual(self.scene.control.backlog, 0)

    def test_reads_again(self) -> None:
        """One that reads again in time has everything, in order."""
        stalled, reading = self.flooded()
        for _ in range(20):
            self.window()
        self.assertNotEqual(stalled.received, reading.received)
        stalled.read()
        self.assertEqual(stalled.received, reading.received)

    def test_closed_with_nothing_to_add(self) -> None:
        """One that has yet to read a long answer is closed as soon as it has."""
        line = self.scene.connect()
        for number in range(600):
            self.scene.register(line, f"app-{number}")
        line.is_reading = False
        number = line.call("status")
        self.scene.turn()
        self.scene.control.close()
        line.read()
        self.scene.turn()
        self.assertIsNotNone(line.answer(number))
        self.assertEqual((line.is_closed, line.is_aborted), (True, False))

    def test_closed_while_full(self) -> None:
        """One that is closed while it does not read has everything if it reads in time."""
        stalled, reading = self.flooded()
        for _ in range(20):
            self.window()
        stalled.send(b"x" * (LONGEST_IN + 1))
        self.scene.turn(3)
        stalled.read()
        self.scene.turn()
        self.assertEqual(stalled.received[:-1], reading.received)
        self.assertEqual(stalled.received[-1]["error"]["code"], INVALID_REQUEST)
        self.assertEqual((stalled.is_closed, stalled.is_aborted), (True, False))


class TurnTests(ControlTestCase):
    """Requests of many connections, against timers and memory."""

    def slow_status(self) -> None:
        """Have each ``status`` take most of a turn."""
        status = self.scene.methods.call

        def call(*arguments: Any) -> Any:
            self.scene.clock.rightNow += 0.6 * TURN
            return status(*arguments)

        self.patch(self.scene.methods, "call", call)

    def test_time(self) -> None:
        """However many connections ask at once, a turn of the reactor serves so many as fit in."""
        lines = [self.scene.connect(STRANGER) for _ in range(7)]
        self.slow_status()
        for line in lines:
            line.call("status")
        served = [sum(len(line.received) for line in lines)]
        for _ in range(3):
            self.scene.turn()
            served.append(sum(len(line.received) for line in lines))
        self.assertEqual(served, [2, 4, 6, 7])

    def test_in_turn(self) -> None:
        """A connection that asks often has one request served while the others have theirs."""
        busy, *others = (self.scene.connect(STRANGER) for _ in range(4))
        self.slow_status()
        for _ in range(9):
            busy.call("status")
        for line in others:
            line.call("status")
        self.scene.turn(3)
        self.assertEqual([len(line.received) for line in others], [1, 1, 1])
        self.scene.turn(20)
        self.assertEqual(len(busy.received), 9)

    def test_memory(self) -> None:
        """When too much waits for all, a stranger's status is not made, but refused; root's is."""
        self.patch(connections, "BACKLOG_OF_ALL", 2 * ROOM)
        silent = self.scene.connect(STRANGER)
        silent.is_reading = False
        silent.channel.notify("event", {"of": "x" * 3 * ROOM})
        stranger, root = self.scene.connect(STRANGER), self.scene.connect()
        answers = [line.answer(line.call("status")) for line in (stranger, root)]
        told = [(answer or {}).get("error", {}).get("code") for answer in answers]
        self.assertEqual(told, [TOO_MANY, None])
        self.patch(self.scene.apps, "describe", lambda: self.fail("it was made"))
        silent.call("status")
        self.assertTrue(silent.is_aborted)


class RoomTests(ControlTestCase):
    """How many connections there may be."""

    def setUp(self) -> None:
        self.scene = Scene(Path(self.mktemp()), most=2 * RESERVED)

    def refused(self, line: Line) -> bool:
        self.scene.turn()
        if line.is_closed:
            [told] = line.received
            self.assertEqual((told["id"], told["error"]["code"]), (None, TOO_MANY))
        return line.is_closed

    def refusals(self, count: int, uid: int = 0) -> list[bool]:
        """Open so many connections, and tell which of them are refused."""
        return [self.refused(self.scene.connect(uid)) for _ in range(count)]

    def test_strangers(self) -> None:
        """Some are kept for root and the agent's own user; all others are told to come again."""
        self.assertEqual(self.refusals(RESERVED + 1, STRANGER), [False] * RESERVED + [True])
        own = self.scene.connect()
        self.assertEqual(self.refusals(RESERVED), [False] * (RESERVED - 1) + [True])
        own.close()
        self.assertEqual(self.refusals(1, STRANGER), [True])
        self.assertEqual(self.refusals(1), [False])

    def test_refused_take_no_room(self) -> None:
        """Strangers that are refused, and not gone yet, keep root from nothing."""
        for _ in range(3 * RESERVED):
            self.scene.connect(STRANGER)
        self.assertFalse(self.refused(self.scene.connect()))

    def test_make_room(self) -> None:
        """One that has ended makes room."""
        strangers = [self.scene.connect(STRANGER) for _ in range(RESERVED)]
        self.assertEqual(self.refusals(1, STRANGER), [True])
        strangers[1].close()
        self.assertEqual(self.refusals(2, STRANGER), [False, True])

    def test_little_room(self) -> None:
        """Where there is room for few, others than root have half of it."""
        self.scene = Scene(Path(self.mktemp()), most=4)
        self.assertEqual(self.refusals(3, STRANGER), [False, False, True])
        self.assertEqual(self.refusals(3), [False, False, True])
