"""Tests for :mod:`xohook.control.socket`: accepting connections."""

from __future__ import annotations

import os
import resource
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IReactorFDSet,
    IReactorSocket,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase

from xohook.control.socket import PAUSE, ControlPort, open_control


class Guest(Protocol):
    """Says who is at the other end, and hangs up."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"welcome")
        self.transport.loseConnection()


class House(Factory):
    """Lets guests in, and fails with the first of them where a test says so."""

    noisy = False

    def __init__(self) -> None:
        self.fails = False
        self.came = 0
        self.first: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> Guest:
        self.came += 1
        if self.came == 1:
            self.first.callback(None)
            if self.fails:
                raise ValueError("the first one is unlucky")
        return Guest()


class ControlPortTests(TestCase):
    """Accepting, without Twisted's own port."""

    def setUp(self) -> None:
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.path = Path(held.name) / "control.sock"
        self.listening = open_control(self.path, None)
        self.addCleanup(self.listening.close)
        self.house = House()

    def start(self) -> ControlPort:
        port = ControlPort(IReactorFDSet(global_reactor), self.listening, self.house)
        self.addCleanup(port.stop)
        port.start()
        return port

    def visit(self) -> Deferred[bytes]:
        """Connect, and hear what is said until the other end hangs up."""
        heard: Deferred[bytes] = Deferred()

        class Visitor(Protocol):
            said = b""

            def dataReceived(self, data: bytes) -> None:
                self.said += data

            def connectionLost(self, reason: object = None) -> None:
                heard.callback(self.said)

        client = socket.socket(socket.AF_UNIX)
        with client:
            client.connect(str(self.path))
            client.setblocking(False)
            IReactorSocket(global_reactor).adoptStreamConnection(
                client.fileno(),
                socket.AF_UNIX,
                Factory.forProtocol(Visitor),  # type: ignore[arg-type] # Twisted wants a ServerFactory, and needs no more than this
            )
        return heard

    async def test_accepts(self) -> None:
        """Whoever connects is served, whether before or after the beginning."""
        early = self.visit()
        self.start()
        self.assertEqual([await early, await self.visit()], [b"welcome", b"welcome"])

    async def test_socket_as_it_was(self) -> None:
        """Neither the beginning nor the end changes the socket, its mode or its path."""
        port = self.start()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        await self.visit()
        port.stop()
        self.assertTrue(self.path.is_socket())
        self.assertTrue(self.listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        waiting = self.visit()
        self.assertEqual(self.house.came, 1)
        self.start()
        self.assertEqual(await waiting, b"welcome")

    async def test_fault(self) -> None:
        """A connection that comes to nothing does not end the accepting."""
        self.house.fails = True
        self.start()
        self.assertEqual(await self.visit(), b"")
        self.assertEqual(await self.visit(), b"welcome")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_gone(self) -> None:
        """One that has gone before it was accepted harms nobody."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
        self.start()
        await self.house.first
        self.assertEqual(await self.visit(), b"welcome")

    def test_no_files_left(self) -> None:
        """Without files to accept with, it pauses instead of trying again and again."""
        reactor = MemoryReactorClock()
        port = ControlPort(reactor, self.listening, self.house)
        port.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            self.without_files(port.doRead)
            self.assertEqual(reactor.getReaders(), [])
            reactor.advance(PAUSE)
            self.assertEqual(reactor.getReaders(), [port])
            port.doRead()
            self.assertEqual(self.house.came, 1)
            self.without_files(port.doRead)
        port.stop()
        self.assertEqual((reactor.getReaders(), reactor.getDelayedCalls()), ([], []))

    def without_files(self, act: Callable[[], None]) -> None:
        """Do something when no file can be opened."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(self.listening.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            act()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
