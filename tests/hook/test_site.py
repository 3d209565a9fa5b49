"""Tests for :mod:`xohook.hook.site`: times on a clock, requests over a transport in memory."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from xohook.hook.connection_limits import Connections
from xohook.hook.site import CLOSE_PATIENCE, LAST_PATIENCE, STRANGER_PATIENCE, HookRequest, HookSite

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
#: A part of a second that floating point adds up without an error.
A_LITTLE = 2.0**-10


class Leaf(Resource):
    """Trusts every request, and answers when the test says so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[HookRequest] = []

    def render(self, request: HookRequest) -> int:
        request.channel.trust()
        request.notifyFinish().addErrback(lambda _: self.waiting.remove(request))
        self.waiting.append(request)
        return NOT_DONE_YET

    def answer(self) -> None:
        self.waiting.pop(0).finish()


class Broken(Resource):
    """Fails at every request."""

    isLeaf = True

    def render(self, request: HookRequest) -> int:
        raise RuntimeError("a fault")


class Transport(StringTransport):
    """A transport that can be aborted, and tells its protocol."""

    protocol: IProtocol

    def abortConnection(self) -> None:
        super().abortConnection()
        self.protocol.connectionLost(Failure(ConnectionAborted()))


class SiteTestCase(SynchronousTestCase):
    """A site in which the test is everybody else."""

    def setUp(self) -> None:
        self.clock = Clock()

    def serve(self, resource: Resource) -> HookSite:
        site = HookSite(resource, self.clock, Connections(100))
        site.trusted_patience = 100.0
        return site

    def connect(self, site: HookSite) -> Transport:
        address = IPv4Address("TCP", "192.0.2.1", 4711)
        protocol = site.buildProtocol(address)
        assert protocol is not None
        transport = Transport(peerAddress=address)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport


class PatienceTests(SiteTestCase):
    """How long a connection is waited for."""

    def setUp(self) -> None:
        super().setUp()
        self.leaf = Leaf()
        self.transport = self.connect(self.serve(self.leaf))

    def assert_closes_after(self, seconds: float) -> None:
        self.clock.advance(seconds - A_LITTLE)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(A_LITTLE)
        self.assertTrue(self.transport.disconnecting)

    def test_stranger(self) -> None:
        """A connection that says nothing is closed when its time is up."""
        self.assert_closes_after(STRANGER_PATIENCE)

    def test_slow(self) -> None:
        """Bytes that come now and then win no time."""
        for byte in REQUEST[: int(STRANGER_PATIENCE) - 1]:
            self.transport.protocol.dataReceived(bytes([byte]))
            self.clock.advance(1.0)
        self.assert_closes_after(1.0)

    def test_not_closed(self) -> None:
        """A connection that its other side does not close is broken off."""
        self.clock.advance(STRANGER_PATIENCE)
        self.clock.advance(CLOSE_PATIENCE - A_LITTLE)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(A_LITTLE)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_while_answered(self) -> None:
        """No time runs while a request is answered; a proved connection then has all of its own."""
        self.transport.protocol.dataReceived(REQUEST)
        self.clock.advance(1000.0)
        self.assertFalse(self.transport.disconnecting)
        self.leaf.answer()
        self.assert_closes_after(100.0)

    def test_closed_in_time(self) -> None:
        """A connection that is closed leaves nothing to be called."""
        self.transport.protocol.dataReceived(REQUEST)
        self.transport.abortConnection()
        self.assertEqual(self.leaf.waiting, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RequestTests(SiteTestCase):
    """Requests that only this end can go wrong with."""

    def test_fault(self) -> None:
        """A fault of its own is answered 500, and told to the log."""
        transport = self.connect(self.serve(Broken()))
        transport.protocol.dataReceived(REQUEST)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 500 "), transport.value())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_sent_ahead(self) -> None:
        """Requests sent ahead wait for their turn; too many of them break the connection off."""
        leaf = Leaf()
        transport = self.connect(self.serve(leaf))
        transport.protocol.dataReceived(REQUEST * 2)
        self.assertEqual(len(leaf.waiting), 1)
        leaf.answer()
        self.assertEqual(len(leaf.waiting), 1)
        transport.protocol.dataReceived(REQUEST * 1000)
        self.assertTrue(transport.disconnected)
        self.assertEqual(leaf.waiting, [])

    def test_after_close(self) -> None:
        """What comes after a malformed request is thrown away."""
        leaf = Leaf()
        transport = self.connect(self.serve(leaf))
        for data in (b"what\r\n" + REQUEST, REQUEST):
            transport.protocol.dataReceived(data)
            self.assertEqual(transport.value(), b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(leaf.waiting, [])


class CloseTests(SiteTestCase):
    """The end of a site."""

    def test_close(self) -> None:
        """All connections are closed, and those that do not go are waited for only so long."""
        site = self.serve(Leaf())
        gone, stays = self.connect(site), self.connect(site)
        closing = Deferred.fromCoroutine(site.close())
        self.assertTrue(gone.disconnecting)
        self.assertTrue(stays.disconnecting)
        gone.abortConnection()
        self.clock.pump([0.1] * int(LAST_PATIENCE / 0.1 - 1))
        self.assertNoResult(closing)
        self.clock.pump([0.1] * 2)
        self.assertIsNone(self.successResultOf(closing))

    def test_all_gone(self) -> None:
        """With no connection left the end is at once."""
        site = self.serve(Leaf())
        self.connect(site).abortConnection()
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(site.close())))
