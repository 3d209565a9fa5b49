"""Clients that mean no good: slow, silent, half-open, gone, too many. Nobody else is held up."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import eventually
from tests.integration.counted_agent import CountedAgent
from tests.integration.footprint import Footprint
from tests.integration.hook_client import PATIENCE, Connection, insecure_context, request_bytes

#: Connections of one address, and of all (docs/hook.rst).
MOST_OF_AN_ADDRESS, MOST = 256, 1024


def open_socket(port: int, source: str = "127.0.0.1") -> socket.socket:
    """Connect and say nothing.

    :param port: the TCP port on 127.0.0.1.
    :param source: the address to come from.
    :return: the connected socket.
    """
    return socket.create_connection(
        ("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0)
    )


def closed(sockets: Sequence[socket.socket]) -> list[bool]:
    """Tell which ones the server has closed, without reading from them."""
    poll = select.poll()
    for each in sockets:
        poll.register(each, select.POLLRDHUP)
    ready = {descriptor for descriptor, _ in poll.poll(0)}
    return [each.fileno() in ready for each in sockets]


@contextlib.contextmanager
def file_limit(wanted: int) -> Iterator[None]:
    """Let this process have so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        raise needs.missing(f"this machine lets a process have {hard} files, and not {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class HostileTestCase(SynchronousTestCase):
    """An agent, and sockets that are closed when the test ends."""

    def silent(self, agent: CountedAgent, count: int, source: str) -> list[socket.socket]:
        """Open many connections that say nothing."""
        opened = [open_socket(agent.port, source) for _ in range(count)]
        for each in opened:
            self.addCleanup(each.close)
        return opened

    def connect(self, agent: CountedAgent) -> Connection:
        connection = agent.connect()
        self.addCleanup(connection.close)
        return connection

    def assert_served(self, agent: CountedAgent) -> None:
        """See that a whole window passes, on connections of its own."""
        before = len(agent.runs)
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200)
        self.assertEqual(agent.runs[before:], ["freeze", "thaw"])


class SlowTests(HostileTestCase):
    def test_patience(self) -> None:
        """Whoever has not sent a whole request in its time is let go of; others are served.

        A connection that has proved itself is kept, though it has been idle for longer.
        """
        agent = CountedAgent.for_test(self)
        trusted = self.connect(agent)
        self.assertEqual(trusted.get("/", agent.credentials).status, 404)
        dripping = self.dripping(agent)
        waiting = [
            *self.silent(agent, 1, "127.0.0.1"),
            self.half_shaken(agent),
            self.shaken(agent, b""),
            self.shaken(agent, b"GET /sync HTTP/1.1\r\nHost: localhost\r\n"),
            self.shaken(agent, b"what\r\n\r\n"),
            self.shaken(agent, request_bytes("GET", "/sync")),
            self.shaken(agent, request_bytes("GET", "/sync", {"Content-Length": "99999"})),
            *dripping,
        ]
        self.assert_served(agent)

        def all_closed() -> bool:
            for each in dripping:
                # In Python 3.13 a send over TLS that fails breaks the thread's other connections.
                if not any(closed([each])):
                    with contextlib.suppress(OSError):
                        each.send(b"x")
            return all(closed(waiting))

        eventually(all_closed, "each of them is let go of")
        self.assertEqual(trusted.get("/", agent.credentials).status, 404)

    def half_shaken(self, agent: CountedAgent) -> socket.socket:
        """Open a connection that stops in the middle of its TLS handshake."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = insecure_context().wrap_bio(incoming, outgoing)
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
        [plain] = self.silent(agent, 1, "127.0.0.1")
        plain.sendall(outgoing.read()[:-1])
        return plain

    def shaken(self, agent: CountedAgent, data: bytes) -> socket.socket:
        """Open a connection that sends some bytes, and then neither reads nor closes."""
        connection = self.connect(agent)
        connection.send(data)
        return connection.socket

    def dripping(self, agent: CountedAgent) -> list[socket.socket]:
        """Open connections, one without and one in TLS, to send byte by byte on."""
        return [self.shaken(agent, b"GET /"), *self.silent(agent, 1, "127.0.0.1")]

    def test_flood(self) -> None:
        """What comes after a malformed request is thrown away, however much of it there is."""
        agent = CountedAgent.for_test(self)
        resident = Footprint.of(agent.pid).resident
        connection = self.connect(agent)
        connection.send(b"what\r\n\r\n")
        for _ in range(1000):
            connection.send(b"x\r\n" * 20000)
        self.assert_served(agent)
        self.assertLess(Footprint.of(agent.pid).resident, resident + 20_000)

    def test_plain_text(self) -> None:
        """What is no TLS is hung up on, and the log keeps quiet about it."""
        agent = CountedAgent.for_test(self)
        plain = self.silent(agent, 3, "127.0.0.1")
        plain[0].sendall(request_bytes("GET", "/sync"))
        plain[1].sendall(b"\0" * 4096)
        plain[2].sendall(b"\x16\x03\x01\x00\x05hello" * 99)
        eventually(lambda: all(closed(plain)), "they are hung up on")
        self.assert_served(agent)
        self.assertNotIn("Traceback", agent.log)


class GoneTests(HostileTestCase):
    """What a requester closes, it cancels; but not what has been answered."""

    def test_during_freeze(self) -> None:
        """A requester that goes away while it waits cancels the freeze, whichever way it goes."""
        agent = CountedAgent.for_test(self)
        agent.stay.touch()
        ways = (self.close, self.reset, self.close_half, self.close_tls, self.send_ahead)
        for count, leave in enumerate(ways, start=1):
            connection = self.connect(agent)
            connection.start("GET", "/sync", agent.credentials)
            eventually(lambda: agent.runs.count("freeze") > agent.runs.count("thaw"), "it freezes")
            leave(connection)
            eventually(lambda: agent.runs.count("freeze") == agent.runs.count("thaw"), "it thaws")
            agent.stay.unlink()
            agent.wait_for_outcomes(*["cancelled"] * count)
            agent.stay.touch()
        agent.stay.unlink()
        self.assertEqual(agent.get("/sync").status, 200)

    def close(self, connection: Connection) -> None:
        connection.close()

    def reset(self, connection: Connection) -> None:
        connection.reset()

    def close_half(self, connection: Connection) -> None:
        """Say with TCP alone that nothing more will be sent, and wait for the answer."""
        connection.socket.shutdown(socket.SHUT_WR)

    def close_tls(self, connection: Connection) -> None:
        """Say with TLS alone that nothing more will be sent."""
        connection.socket.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            connection.socket.unwrap()

    def send_ahead(self, connection: Connection) -> None:
        """Send so much ahead of the answer that it is not read, and go away."""
        with contextlib.suppress(OSError):
            connection.send(request_bytes("GET", "/sync", {"X": "y" * 1000}) * 100)
        connection.close()

    def test_shared(self) -> None:
        """A freeze that somebody else waits for goes on."""
        agent = CountedAgent.for_test(self)
        agent.stay.touch()
        first, second = self.connect(agent), self.connect(agent)
        for connection in (first, second):
            connection.start("GET", "/sync", agent.credentials)
        agent.wait_for_log("shares the freeze")
        first.reset()
        eventually(lambda: agent.runs == ["freeze"], "it freezes")
        agent.stay.unlink()
        self.assertEqual(second.answer().status, 200)

    def test_after_answer(self) -> None:
        """Closed after the answer, nothing changes: the hold goes on."""
        agent = CountedAgent.for_test(self)
        for leave in (self.close, self.reset):
            connection = self.connect(agent)
            self.assertEqual(connection.get("/sync", agent.credentials).status, 200)
            leave(connection)
            self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced", "synced")

    def test_others_meanwhile(self) -> None:
        """While one requester waits, strangers are refused and others are answered at once."""
        agent = CountedAgent.for_test(self)
        agent.stay.touch()
        waiting = self.connect(agent)
        waiting.start("GET", "/sync", agent.credentials)
        eventually(lambda: agent.runs, "it freezes")
        self.assertEqual(agent.get("/nowhere").status, 404)
        self.assertEqual(self.connect(agent).get("/sync").status, 403)
        self.assertEqual(closed([waiting.socket]), [False])
        agent.stay.unlink()
        self.assertEqual(waiting.answer().status, 200)


class CrowdTests(HostileTestCase):
    """Too many connections: the oldest that have not proved themselves give way."""

    def start(self, *launcher: str) -> CountedAgent:
        """Start an agent whose port the kernel queues many newcomers for, unlike an endpoint's."""
        agent = CountedAgent(Path(self.mktemp()).resolve())
        self.addCleanup(agent.stop)
        agent.listen_everywhere()
        agent.launcher = launcher
        agent.start()
        return agent

    def test_of_an_address(self) -> None:
        """An address has 256 connections; its oldest unproved one gives way, a proved one never."""
        agent = self.start()
        trusted = self.connect(agent)
        self.assertEqual(trusted.get("/", agent.credentials).status, 404)
        elsewhere = self.silent(agent, 1, "127.0.0.2")
        crowd = self.silent(agent, MOST_OF_AN_ADDRESS - 1, "127.0.0.1")
        self.assertEqual(trusted.get("/", agent.credentials).status, 404)
        self.assertNotIn(True, closed(crowd))
        self.silent(agent, 3, "127.0.0.1")
        eventually(lambda: closed(crowd)[2], "the third has given way")
        self.assertEqual(closed(crowd), [True] * 3 + [False] * (len(crowd) - 3))
        self.assertEqual(trusted.get("/", agent.credentials).status, 404)
        self.assertEqual(closed(elsewhere), [False])
        with Connection(agent.port, "::1") as another:
            self.assertEqual(another.get("/").status, 403)
        self.assert_served(agent)

    def test_in_all(self) -> None:
        """There are 1,024 connections; a newcomer is served, a proved one stays."""
        with file_limit(2 * MOST):
            agent = self.start()
            trusted = self.connect(agent)
            self.assertEqual(trusted.get("/", agent.credentials).status, 404)
            crowd = [
                each for last in range(2, 8) for each in self.silent(agent, 200, f"127.0.0.{last}")
            ]
            self.assertEqual(trusted.get("/", agent.credentials).status, 404)
            surplus = 1 + len(crowd) - MOST
            eventually(lambda: sum(closed(crowd)) >= surplus, "the surplus has given way")
            self.assertEqual(closed(crowd), [True] * surplus + [False] * (len(crowd) - surplus))
            self.assert_served(agent)
            self.assertEqual(trusted.get("/", agent.credentials).status, 404)
            for each in crowd:
                each.close()

    def test_few_files(self) -> None:
        """With few files to be had the agent keeps enough of them to answer and run programs."""
        agent = self.start(needs.program("prlimit"), "--nofile=200:200")
        trusted = self.connect(agent)
        self.assertEqual(trusted.get("/", agent.credentials).status, 404)
        crowd = self.silent(agent, 400, "127.0.0.1")
        self.assert_served(agent)
        self.assertEqual(trusted.get("/sync", agent.credentials).status, 200)
        self.assertEqual(set(closed(crowd)), {True, False})
        self.assertNotIn("Too many open files", agent.log)
