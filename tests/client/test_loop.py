"""The registration loop that the client's styles share, without connection and clock."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.client import FIRST_PAUSE, LONGEST_PAUSE, Freeze, Registered, Thaw, Withdrawn
from xohook.client.loop import Action, Connect, Disconnect, RegistrationLoop

REGISTERED = b'{"jsonrpc":"2.0","id":1,"result":{}}\n'
REFUSED = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"it is taken"}}\n'


def request(method: str, **params: Any) -> bytes:
    """Return a request of the agent.

    :param method: its method, which is its id too.
    :param params: its parameters but for the name.
    :return: the message.
    """
    message = {"jsonrpc": "2.0", "id": method, "method": method}
    return json.dumps({**message, "params": {"name": "orders", **params}}).encode() + b"\n"


FREEZE = request("freeze", window="a", timeout=30, hold=100)
THAW = request("thaw", window="a", outcome="synced")


class LoopTestCase(SynchronousTestCase):
    """A loop, its log, and the time."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        self.now = 1000.0
        self.loop = RegistrationLoop(
            "orders", {"order": 7}, "/the/socket", lambda _, text: self.lines.append(text)
        )

    def actions(self) -> list[Action]:
        """Return all actions that are due."""
        return list(iter(lambda: self.loop.next_action(self.now), None))

    def receive(self, data: bytes) -> list[Action]:
        """Pass on bytes, and return what is due then."""
        self.loop.receive(data, self.now)
        return self.actions()

    def connect(self) -> None:
        """Wait for the next attempt, and connect."""
        assert self.loop.deadline is not None
        self.now = self.loop.deadline
        self.assertEqual(self.actions(), [Connect()])
        self.loop.connected()
        self.assertEqual(self.actions(), [])

    def register(self) -> None:
        """Connect, and be registered."""
        self.connect()
        self.assertEqual(self.receive(REGISTERED), [Registered()])
        self.assertEqual(self.loop.problem, "")

    def lose(self, problem: str = "the agent has closed the connection") -> float:
        """Lose the connection, and return the seconds until the next attempt."""
        self.loop.lost(problem)
        self.assertEqual(self.actions(), [])
        return self.pause()

    def fail_to_connect(self) -> float:
        """Fail to connect, and return the seconds until the next attempt."""
        assert self.loop.deadline is not None
        self.now = self.loop.deadline
        self.assertEqual(self.actions(), [Connect()])
        self.loop.connect_failed(FileNotFoundError(2, "No such file"), self.now)
        return self.pause()

    def pause(self) -> float:
        """Return the seconds until the next attempt."""
        assert self.loop.deadline is not None
        return self.loop.deadline - self.now


class AttemptTests(LoopTestCase):
    """When it connects."""

    def test_not_started(self) -> None:
        """It does nothing before the start."""
        self.assertEqual((self.actions(), self.loop.deadline), ([], None))
        self.assertEqual(self.loop.problem, "it has not been started")

    def test_registers(self) -> None:
        """It connects at once, sends its name and its options, and waits for the answer."""
        self.loop.start(self.now)
        self.connect()
        (line,) = bytes(self.loop.outgoing).splitlines()
        self.assertEqual(json.loads(line)["params"], {"name": "orders", "order": 7})
        self.assertEqual(self.loop.problem, "the agent has not answered yet")

    def test_longest_hold(self) -> None:
        """It thaws after 4,300 s at the latest, whatever the agent says."""
        self.loop.start(self.now)
        self.connect()
        self.receive(REGISTERED)
        self.receive(request("freeze", window="a", timeout=30, hold=1_000_000))
        self.assertEqual(self.loop.deadline, self.now + 4300)

    def test_connects_once(self) -> None:
        """While a connection is being opened it opens no other."""
        self.loop.start(self.now)
        self.assertEqual(self.actions(), [Connect()])
        self.now += 1000
        self.assertEqual((self.actions(), self.loop.deadline), ([], None))

    def test_pauses(self) -> None:
        """The pauses double up to 5 s, and a random part of each is left out."""
        self.loop.start(self.now)
        longest = FIRST_PAUSE
        for _ in range(12):
            pause = self.fail_to_connect()
            self.assertLessEqual(pause, longest + 1e-6)
            self.assertGreaterEqual(pause, longest / 2 - 1e-6)
            longest = min(2 * longest, LONGEST_PAUSE)
        self.assertEqual(longest, LONGEST_PAUSE)

    def test_first_pause_again(self) -> None:
        """After a registration that lasted, the first pause is the shortest again."""
        self.loop.start(self.now)
        for _ in range(6):
            self.fail_to_connect()
        self.register()
        self.now += 60
        self.assertLessEqual(self.lose(), FIRST_PAUSE + 1e-6)

    def test_agent_that_ends_at_once(self) -> None:
        """After a registration that did not last, the pause is longer than the one before."""
        self.loop.start(self.now)
        for _ in range(4):
            last = self.fail_to_connect()
        self.register()
        self.assertGreaterEqual(self.lose(), last - 1e-6)

    def test_refused(self) -> None:
        """A refusal ends the connection, and the next attempt follows when that is closed."""
        self.loop.start(self.now)
        self.connect()
        self.assertEqual(self.receive(REFUSED), [Disconnect()])
        self.assertIsNone(self.loop.deadline)
        self.lose("")
        self.assertIn("it is taken", self.loop.problem)
        self.register()

    def test_nonsense(self) -> None:
        """So does a message that is not allowed."""
        self.loop.start(self.now)
        self.connect()
        self.assertEqual(self.receive(b"HTTP/1.1 400 Bad Request\r\n"), [Disconnect()])
        self.lose("")
        self.assertIn("makes no sense", self.loop.problem)

    def test_hints(self) -> None:
        """The reason that there is no connection names the socket, and what to check."""
        for error, hint in (
            (FileNotFoundError(2, "No such file"), "is the agent running"),
            (ConnectionRefusedError(111, "Connection refused"), "is the agent running"),
            (PermissionError(13, "Permission denied"), "control_group"),
        ):
            self.loop.start(self.now)
            self.assertEqual(self.actions(), [Connect()])
            self.loop.connect_failed(error, self.now)
            self.assertIn("/the/socket", self.loop.problem)
            self.assertIn(hint, self.loop.problem)


class LogTests(LoopTestCase):
    """What it logs."""

    def test_once(self) -> None:
        """A reason is logged once until the next registration, and each registration is."""
        self.loop.start(self.now)
        for _ in range(3):
            self.fail_to_connect()
        self.register()
        self.lose()
        self.fail_to_connect()
        self.register()
        self.assertEqual(
            [line.removeprefix("orders: ").partition(" ")[0] for line in self.lines],
            ["not", "registered", "lost", "not", "registered"],
        )
        self.assertIn("registered again", self.lines[-1])

    def test_stopped(self) -> None:
        """The end of a registration that was stopped is not logged."""
        self.loop.start(self.now)
        self.register()
        self.loop.stop()
        self.assertEqual(self.actions(), [Disconnect()])
        self.loop.lost("the agent has closed the connection")
        self.actions()
        self.assertEqual(len(self.lines), 1)


class EndTests(LoopTestCase):
    """How it ends."""

    def test_stopped_in_pause(self) -> None:
        """Stopped between two attempts, it is finished at once."""
        self.loop.start(self.now)
        self.fail_to_connect()
        self.loop.stop()
        self.now += 60
        self.assertEqual((self.actions(), self.loop.deadline), ([], None))
        self.assertTrue(self.loop.is_finished)
        self.assertEqual(self.loop.problem, "it has been closed")

    def test_stopped_while_connecting(self) -> None:
        """Stopped while a connection is being opened, it is finished when that has ended."""
        self.loop.start(self.now)
        self.assertEqual(self.actions(), [Connect()])
        self.loop.stop()
        self.assertFalse(self.loop.is_finished)
        self.loop.connected()
        self.assertEqual(self.actions(), [Disconnect()])
        self.loop.lost("")
        self.assertEqual(self.actions(), [])
        self.assertTrue(self.loop.is_finished)

    def test_stopped_while_frozen(self) -> None:
        """Stopped in a hold, it is finished when the connection is closed and the thaw is done."""
        self.loop.start(self.now)
        self.register()
        self.assertEqual(self.receive(FREEZE), [Freeze("a", 30, 100)])
        self.loop.done("", self.now)
        self.loop.stop()
        self.assertEqual(self.actions(), [Disconnect(), Thaw("a", "broken")])
        self.loop.lost("")
        self.assertEqual((self.actions(), self.loop.is_finished), ([], False))
        self.loop.done("", self.now)
        self.assertEqual((self.actions(), self.loop.is_finished), ([], True))

    def test_started_again(self) -> None:
        """Started again while it is ending, it thaws first and then registers anew."""
        self.loop.start(self.now)
        self.register()
        self.receive(FREEZE)
        self.loop.stop()
        self.loop.start(self.now)
        self.assertEqual(self.actions(), [Disconnect(), Withdrawn()])
        self.loop.lost("")
        self.loop.done("", self.now)
        self.assertEqual(self.actions(), [Thaw("a", "broken")])
        self.loop.done("", self.now)
        self.assertEqual((self.actions(), self.loop.is_idle), ([], True))
        self.register()

    def test_late_callback(self) -> None:
        """A freeze that ends when its hold is over has failed, whoever noticed it first."""
        self.loop.start(self.now)
        self.register()
        self.receive(FREEZE)
        self.loop.outgoing.clear()
        self.now += 101
        self.loop.done("", self.now)
        self.assertIn(b"the window was over", self.loop.outgoing)
        self.assertEqual(self.actions(), [Thaw("a", "expired")])


class Style:
    """A style of the client that does what a test says, and checks what the loop asks for.

    :param loop: the loop that it drives.
    """

    def __init__(self, loop: RegistrationLoop) -> None:
        self.loop = loop
        self.now = 1000.0
        self.connection = "closed"
        self.is_running = False
        self.called: list[type[Freeze | Thaw]] = []

    def start(self) -> None:
        """Start it, again perhaps."""
        self.loop.start(self.now)

    def stop(self) -> None:
        """Stop it."""
        self.loop.stop()

    def time(self) -> None:
        """Let a minute pass."""
        self.now += 60

    def fail(self) -> None:
        """Fail to connect, if it connects."""
        if self.connection == "opening":
            self.connection = "closed"
            self.loop.connect_failed(OSError(111, "Connection refused"), self.now)

    def open(self) -> None:
        """Connect, if it connects."""
        if self.connection == "opening":
            self.connection = "open"
            self.loop.connected()

    def close(self) -> None:
        """Close the connection, from whichever side."""
        if self.connection in ("open", "closing"):
            self.connection = "closed"
            self.loop.lost("it is closed")

    def done(self) -> None:
        """End the callback that runs, if one does."""
        if self.is_running:
            self.is_running = False
            self.loop.done("", self.now)

    def again(self) -> None:
        """Register, if it is not, and be asked to freeze."""
        self.time()
        self.carry_out()
        self.open()
        self.receive(REGISTERED)
        self.receive(FREEZE)

    def receive(self, data: bytes) -> None:
        """Pass on bytes, if the connection is open."""
        if self.connection == "open":
            self.loop.receive(data, self.now)

    def carry_out(self) -> None:
        """Begin what is due."""
        while (action := self.loop.next_action(self.now)) is not None:
            if isinstance(action, Connect):
                assert (self.connection, self.is_running) == ("closed", False)
                self.connection = "opening"
            elif isinstance(action, Disconnect):
                assert self.connection == "open"
                self.connection = "closing"
            elif isinstance(action, Freeze | Thaw):
                assert not self.is_running
                self.is_running = True
                self.called.append(type(action))


class AnyCourseTests(LoopTestCase):
    """Whatever happens."""

    @given(
        st.lists(
            st.sampled_from(["start", "stop", "time", "fail", "open", "close", "done", "again"])
            | st.sampled_from([REGISTERED, REFUSED, FREEZE, THAW, b"nonsense\n"])
        )
    )
    def test_any_course(self, course: list[str | bytes]) -> None:
        """One connection and one callback at a time, a thaw for each freeze, and an end."""
        self.setUp()
        style = Style(self.loop)
        # Everything ends in the end.
        for step in [
            "start",
            "again",
            *course,
            "stop",
            *["open", "close", "done"] * (len(course) + 2),
        ]:
            if isinstance(step, str):
                getattr(style, step)()
            else:
                style.receive(step)
            style.carry_out()
        self.assertTrue(self.loop.is_finished)
        self.assertEqual(style.called, [Freeze, Thaw] * (len(style.called) // 2))
