"""Tests for plain HTTP on the hook's port, of a real agent."""

from __future__ import annotations

import socket
from datetime import datetime, timezone
from pathlib import Path

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import make
from tests.integration.agent import Agent
from tests.integration.hook_client import PATIENCE
from xohook.hook.plain_http import ANSWER, HTTPSFactory, PlainRequests
from xohook.hook.refusals import MOST_SOURCES, PERIOD
from xohook.hook.site import CLOSE_PATIENCE
from xohook.hook.tls import ServerTLS

LOGGED = "a plain HTTP request from 127.0.0.1: this port speaks HTTPS"


def send_plain(port: int, data: bytes) -> bytes:
    """Send bytes without TLS, and read until the agent closes its side."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        plain.sendall(data)
        with plain.makefile("rb") as reading:
            return reading.read()


class PlainTests(SynchronousTestCase):
    """A tag that begins with ``http://`` is told of."""

    def test_answer(self) -> None:
        """Every method is answered 400 and one line that says https://."""
        agent = Agent.for_test(self)
        for method in (b"GET", b"HEAD", b"POST"):
            answer = send_plain(agent.port, method + b" /sync?vm=a&token=b HTTP/1.1\r\n\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 400 "), head)
            self.assertIn(b"https://", body)
            self.assertEqual(body.count(b"\n"), 1)

    def test_body(self) -> None:
        """A large body that comes along does not keep the answer from the client."""
        agent = Agent.for_test(self)
        request = b"POST /sync HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        self.assertEqual(send_plain(agent.port, request), ANSWER)

    def test_log(self) -> None:
        """The log has one line for several such requests of an address, and no token."""
        agent = Agent.for_test(self)
        for _ in range(3):
            send_plain(agent.port, b"GET /sync?vm=a&token=b HTTP/1.1\r\n\r\n")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.log.count(LOGGED), 1)
        self.assertNotIn("token=b", agent.log)


class Hearer(Protocol):
    """Keeps what it hears."""

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


class Transport(StringTransport):
    """A transport whose writing side can be closed, and that can be aborted."""

    is_aborted = False

    def abortConnection(self) -> None:
        self.is_aborted = True

    def loseWriteConnection(self) -> None:
        self.disconnecting = True


class BoundTests(SynchronousTestCase):
    """What a plain request may cost."""

    def test_time(self) -> None:
        """A client that does not close its side is dropped after CLOSE_PATIENCE."""
        now = datetime.now(timezone.utc)
        tls = ServerTLS(make("web01", now=now).pair, Path("cert.pem"))
        clock = Clock()
        factory = HTTPSFactory(tls, Factory.forProtocol(Hearer), clock, PlainRequests(clock))
        protocol = factory.buildProtocol(None)
        transport = Transport()
        protocol.makeConnection(transport)
        protocol.dataReceived(b"G")
        protocol.dataReceived(b"ET / HTTP/1.1\r\n\r\n")
        self.assertEqual(transport.value(), ANSWER)
        clock.advance(CLOSE_PATIENCE - 1)
        self.assertFalse(transport.is_aborted)
        clock.advance(1)
        self.assertTrue(transport.is_aborted)

    def test_log(self) -> None:
        """An address is logged again after a minute, and no more than so many in one."""
        clock = Clock()
        requests = PlainRequests(clock)
        with capturedLogs() as events:
            for each in range(2 * MOST_SOURCES):
                requests.note(f"2001:db8::{each:x}")
            self.assertEqual(len(events), MOST_SOURCES)
            clock.advance(PERIOD - 1)
            requests.note("2001:db8::0")
            self.assertEqual(len(events), MOST_SOURCES)
            clock.advance(1)
            requests.note("2001:db8::0")
            self.assertEqual(len(events), MOST_SOURCES + 1)
        self.assertIn("from 2001:db8::0: this port", formatEvent(events[-1]))
