"""Listening with real sockets, some in network namespaces of their own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from twisted.internet import endpoints
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorSocket,
    IReactorTCP,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests import needs
from tests.certificates import make
from tests.integration.agent import free_port
from xohook.errors import StartError
from xohook.hook.listening import describe, open_listeners
from xohook.hook.tls import ServerTLS

PROBE = Path(__file__).with_name("listening_probe.py")


class Greeter(Protocol):
    """Greets whoever connects, and hangs up."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class Listener(Protocol):
    """Hears what is said until the other end hangs up."""

    def __init__(self) -> None:
        self.heard = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(self.heard)


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """Opens when the test says so."""

    def __init__(self, opening: Deferred[IListeningPort]) -> None:
        self.opening = opening

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.opening


def number_of(port: IListeningPort) -> int:
    """Tell which TCP port the kernel gave."""
    address = port.getHost()
    assert isinstance(address, IPv4Address | IPv6Address)
    return address.port


class OpenListenersTests(TestCase):
    """All addresses are opened, or none."""

    def setUp(self) -> None:
        now = datetime.now(timezone.utc)
        directory = Path(self.mktemp())
        directory.mkdir()
        self.tls = ServerTLS(make("web01", now=now).pair, Path("cert.pem"))
        self.socket_path = directory / "socket"

    def open(self, *listen: str) -> list[IListeningPort]:
        reactor = IReactorSocket(global_reactor)
        opened = open_listeners(reactor, listen, Factory.forProtocol(Greeter), self.tls)
        for port in opened:
            self.addCleanup(port.stopListening)
        return opened

    def refuse(self, *listen: str) -> str:
        return str(self.assertRaises(StartError, self.open, *listen))

    async def greeting(self, host: str, port: int) -> bytes:
        endpoint = HostnameEndpoint(IReactorTCP(global_reactor), host, port)
        listener = Listener()
        client = TLSMemoryBIOFactory(CertificateOptions(), True, Factory())
        await connectProtocol(endpoint, TLSMemoryBIOProtocol(client, listener))
        return await listener.done

    async def test_port(self) -> None:
        """A port is reached over TLS at the addresses of both families."""
        [port] = self.open("0")
        number = number_of(port)
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(await self.greeting(host, number), b"hello")
        self.assertEqual(describe([port]), f"port {number} (IPv6 and IPv4)")

    async def test_endpoints(self) -> None:
        """Endpoint descriptions are opened, TLS around each."""
        ports = self.open(
            "tcp:0:interface=127.0.0.1",
            r"tcp:0:interface=\:\:1",
            f"unix:{self.socket_path}:mode=600",
        )
        first, second = map(number_of, ports[:2])
        self.assertEqual(await self.greeting("127.0.0.1", first), b"hello")
        self.assertEqual(await self.greeting("::1", second), b"hello")
        self.assertEqual(describe(ports), f"127.0.0.1:{first}, [::1]:{second}, {self.socket_path}")

    def test_same_port_again(self) -> None:
        """A port with connections of an ended agent still in it is to be had at once."""
        number = free_port()
        with self.left_in_time_wait(number):
            [port] = self.open(str(number))
        self.assertEqual(number_of(port), number)

    @contextlib.contextmanager
    def left_in_time_wait(self, number: int) -> Iterator[None]:
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", number))
            server.listen()
            with socket.create_connection(("127.0.0.1", number)) as client:
                accepted, _ = server.accept()
                # The server's end closes first, and so is the one that lingers.
                accepted.close()
                client.recv(1)
        yield

    async def test_in_use(self) -> None:
        """A port that is held is refused with words, and those before it are closed again."""
        held, free = socket.create_server(("127.0.0.1", 0)), free_port()
        self.addCleanup(held.close)
        number = held.getsockname()[1]
        text = self.refuse(str(free), str(number))
        self.assertIn(f"cannot listen on port {number}: Address already in use", text)
        self.assertIn("xohook check", text)
        await deferLater(IReactorTime(global_reactor), 0)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", free))
        text = self.refuse(f"tcp:{number}:interface=127.0.0.1")
        self.assertIn(f"tcp:{number}:interface=127.0.0.1: Address already in use", text)

    def test_foreign_address(self) -> None:
        """An address that is another machine's is refused with words."""
        text = self.refuse("tcp:0:interface=203.0.113.77")
        self.assertIn("203.0.113.77: Cannot assign requested address", text)
        self.assertIn("does not have that address", text)

    def test_misdescribed(self) -> None:
        """What is no endpoint is refused with what would be one."""
        for entry in ("tcp:http:x=y", "tcp", "nonsense:1", "tcp:1:2:3:4"):
            text = self.refuse(entry)
            self.assertIn(f"listen = {entry}: not an endpoint", text)

    def test_too_late(self) -> None:
        """An endpoint that does not open at once is refused."""
        opening: Deferred[IListeningPort] = Deferred()
        self.patch(endpoints, "serverFromString", lambda reactor, entry: SlowEndpoint(opening))
        self.assertIn("listen = slow: it does not open at once", self.refuse("slow"))

    def test_tls_twice(self) -> None:
        """TLS inside TLS is refused."""
        self.assertIn("write tcp: instead", self.refuse("ssl:1727:privateKey=x"))


class NamespaceTests(TestCase):
    """Hosts that are set up otherwise are served all the same."""

    def probe(self, *settings: str) -> dict[str, object]:
        """Open a port in a network namespace with these kernel settings, and look who gets in."""
        needs.root()
        unshare = needs.program("unshare")
        needs.program("ip")
        needs.program("sysctl")
        script = f'ip link set lo up && sysctl -qw {" ".join(settings)} && exec "$@"'
        command = [unshare, "--net", "sh", "-c", script, "sh", sys.executable, str(PROBE)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ended = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=60
        )
        self.assertEqual(ended.returncode, 0, ended.stderr.decode())
        answer: dict[str, object] = json.loads(ended.stdout)
        return answer

    def test_bindv6only(self) -> None:
        """Where IPv6 sockets are for IPv6 alone unless they say otherwise, both families get in."""
        answer = self.probe("net.ipv6.bindv6only=1")
        self.assertEqual(answer, {"127.0.0.1": True, "::1": True})

    def test_no_ipv6_addresses(self) -> None:
        """Where IPv6 is disabled, IPv4 gets in."""
        answer = self.probe("net.ipv6.conf.all.disable_ipv6=1")
        self.assertEqual(answer, {"127.0.0.1": True, "::1": False})
