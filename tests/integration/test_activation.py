"""The agent, and its listeners, with sockets that systemd has opened."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.interfaces import IListeningPort, IReactorSocket
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.activating import PATIENCE, Systemd
from tests.certificates import make
from tests.integration.agent import Agent, accepts, eventually, free_port
from tests.integration.hook_client import Connection
from xohook.hook.listening import describe, open_listeners
from xohook.hook.tls import ServerTLS


def listen_tcp() -> socket.socket:
    """Listen as ``ListenStream=`` with ``BindIPv6Only=both`` does (systemd.socket(5))."""
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


def listen_unix(path: Path) -> socket.socket:
    """Listen as ``ListenStream=PATH`` with ``SocketMode=0660`` does (systemd.socket(5))."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    path.chmod(0o660)
    listening.listen()
    return listening


class InheritedListenersTests(TestCase):
    """The hook's sockets are taken over instead of those that ``listen`` names."""

    def setUp(self) -> None:
        now = datetime.now(timezone.utc)
        self.tls = ServerTLS(make("web01", now=now).pair, Path("cert.pem"))
        self.systemds = listen_tcp()
        self.addCleanup(self.systemds.close)
        self.number: int = self.systemds.getsockname()[1]

    def open(self, *listen: str) -> list[IListeningPort]:
        """Open them as the agent does, with a duplicate of systemd's socket."""
        inherited = self.systemds.dup()
        inherited.setblocking(False)
        opened = open_listeners(
            IReactorSocket(global_reactor),
            listen,
            Factory.forProtocol(Protocol),
            self.tls,
            [inherited],
        )
        for port in opened:
            self.addCleanup(port.stopListening)
        self.assertEqual(inherited.fileno(), -1)
        return opened

    def shake_hands(self) -> None:
        """Connect with TLS, blocking."""
        Connection(self.number).close()

    async def test_served(self) -> None:
        """TLS is spoken on them, the log can name them, and ``listen`` is not opened."""
        configured = free_port()
        opened = self.open(str(configured))
        self.assertEqual(describe(opened), f"port {self.number} (IPv6 and IPv4)")
        self.assertFalse(accepts(configured))
        await deferToThread(self.shake_hands)

    async def test_left_to_systemd(self) -> None:
        """When the agent stops listening, systemd's socket goes on, for the next agent."""
        [port] = self.open()
        stopped = port.stopListening()
        assert stopped is not None
        await stopped
        self.assertTrue(self.systemds.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        waiting = deferToThread(self.shake_hands)
        self.open()
        await waiting


class ActivatedAgentTests(SynchronousTestCase):
    """A whole agent that systemd starts with its sockets."""

    def setUp(self) -> None:
        # Not mktemp(): a UNIX socket's path has room for 107 bytes (unix(7)).
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.path = Path(held.name) / "control.sock"
        self.options = f"control = {self.path}"
        self.agent = Agent(Path(self.mktemp()).resolve(), self.options)
        self.addCleanup(self.agent.stop)

    def listen_tcp(self) -> socket.socket:
        """Open the hook for the agent, whose ``listen`` names the very same port."""
        listening = listen_tcp()
        self.agent.port = listening.getsockname()[1]
        self.agent.configure(self.options)
        return listening

    def launch(self, *sockets: socket.socket) -> Systemd:
        """Start the agent with these sockets."""
        for each in sockets:
            self.addCleanup(each.close)
        systemd = Systemd(self, [each.fileno() for each in sockets])
        self.agent.launcher = systemd.launcher
        self.agent.spawn()
        systemd.pass_in()
        return systemd

    def status(self) -> Any:
        """Ask over the control socket how the agent is."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(self.path))
            client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "status"}\n')
            with client.makefile("rb") as answer:
                return json.loads(answer.readline())["result"]

    def test_both(self) -> None:
        """The hook and the control socket are served; who comes early waits and is answered."""
        systemd = self.launch(self.listen_tcp(), listen_unix(self.path))
        self.assertEqual(self.status()["pid"], self.agent.pid)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.assertIn(f"answers on port {self.agent.port} (IPv6 and IPv4)", self.agent.log)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o660)
        self.agent.stop()
        self.assertTrue(self.path.is_socket())
        self.agent.spawn()
        systemd.pass_in()
        self.assertEqual(self.status()["pid"], self.agent.pid)
        self.assertEqual(self.agent.get("/sync").status, 200)

    def test_hook_alone(self) -> None:
        """Where systemd opens the hook alone, the control socket is the agent's own."""
        self.launch(self.listen_tcp())
        eventually(self.path.is_socket, "the control socket is there")
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.status()["pid"], self.agent.pid)
        self.agent.stop()
        self.assertFalse(self.path.exists())

    def test_control_alone(self) -> None:
        """Where systemd opens the control socket alone, the agent opens the hook."""
        self.launch(listen_unix(self.path))
        self.assertEqual(self.status()["pid"], self.agent.pid)
        self.assertEqual(self.agent.get("/sync").status, 200)

    def test_daemon(self) -> None:
        """The sockets survive twistd's way into the background."""
        pid_file = self.agent.directory / "daemon.pid"
        log = self.agent.directory / "daemon.log"
        self.agent.twistd_options = (f"--pidfile={pid_file}", f"--logfile={log}")
        self.launch(self.listen_tcp(), listen_unix(self.path))
        self.assertEqual(self.agent.wait(), 0)
        daemon = self.status()["pid"]
        self.addCleanup(self.end, daemon)
        self.assertEqual(daemon, int(pid_file.read_text()))
        self.assertEqual(self.agent.get("/sync").status, 200)

    def end(self, daemon: int) -> None:
        """End the daemon, which is nobody's child."""
        descriptor = os.pidfd_open(daemon)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            select.select([descriptor], [], [], PATIENCE)
        finally:
            os.close(descriptor)

    def test_unfit(self) -> None:
        """What the agent cannot serve is told, and it does not start."""
        unfit = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.launch(self.listen_tcp(), unfit)
        self.assertEqual(self.agent.wait(), 1)
        self.assertIn("xohook: systemd passes in 'file1' (descriptor 4)", self.agent.log)
        self.assertNotIn("Traceback", self.agent.log)
