"""The control socket of a real agent: who may, what is sent, and who means no good."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.control_client import CallFailedError, ControlClient
from tests.integration.footprint import Footprint
from tests.integration.programs import Programs
from tests.integration.test_hostile import file_limit

#: Connections in all, and those of them that are for root and the agent's own user alone.
MOST, RESERVED = 2048, 32

#: Bytes of a message to the agent.
LONGEST = 65536

#: Users and groups of every Linux system: those of Debian's base-passwd.
DAEMON, NOBODY = (1, 1), (65534, 65534)


@contextlib.contextmanager
def acting_as(user: tuple[int, int], *groups: int) -> Iterator[None]:
    """Be another user for a moment, as far as files and sockets are concerned.

    :param user: the uid, and the gid.
    :param groups: further groups.
    """
    uid, gid = user
    before = os.getgroups()
    os.setgroups([gid, *groups])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class ControlTestCase(SynchronousTestCase):
    """A real agent, and connections to its control socket that end with the test."""

    def agent(self, options: str = "", sections: str = "") -> Agent:
        """Start an agent that ends with the test, and wait until its reactor runs."""
        agent = Agent.for_test(self, options, sections)
        self.assert_hook_answers(agent)
        return agent

    def assert_hook_answers(self, agent: Agent) -> None:
        """See that it answers: the hook accepts connections a moment before the control socket."""
        self.assertEqual(agent.get("/nowhere").status, 404)

    def connect(self, agent: Agent, path: Path | None = None) -> ControlClient:
        """Open a connection."""
        client = ControlClient(path or agent.control)
        self.addCleanup(client.close)
        return client

    def refused(self, client: ControlClient, method: str, **params: Any) -> CallFailedError:
        """Make a call that fails."""
        with self.assertRaises(CallFailedError) as caught:
            client.call(method, **params)
        error: CallFailedError = caught.exception
        return error

    def assert_served(self, agent: Agent) -> None:
        """See that others are served, over the control socket and over HTTPS."""
        with ControlClient(agent.control) as other:
            other.call("status")
        self.assertEqual(agent.get("/nowhere").status, 404)

    def assert_well(self, agent: Agent) -> None:
        """See that others are served, and that nothing came to light that should not be."""
        self.assert_served(agent)
        self.assertNotIn("Traceback", agent.log)
        self.assertNotIn("a fault of xohook itself", agent.log)


class MalformedTests(ControlTestCase):
    """What is no message is answered with the error that fits, and harms nobody."""

    def test_answers(self) -> None:
        """Each malformed line is answered once, and the connection goes on."""
        agent = self.agent()
        client = self.connect(agent)
        lines = (
            (b"", -32700),
            (b"what", -32700),
            (b'{"jsonrpc": "2.0", "id": 1', -32700),
            (b"\xff\xfe", -32700),
            (b'{"id": NaN}', -32700),
            (b'{"a": 1, "a": 2}', -32700),
            (b"7" * 60_000, -32700),
            (b"[" * (LONGEST - 1), -32700),
            (b"[" * 32_000 + b"]" * 32_000, -32700),
            (b"[]", -32600),
            (b"1", -32600),
            (b"{}", -32600),
            (b'{"jsonrpc": "2.0", "id": true, "method": "status"}', -32600),
            (b'{"jsonrpc": "2.0", "id": "x", "method": 1}', -32600),
            (b'{"jsonrpc": "2.0", "id": "x", "method": "status", "params": []}', -32602),
            (b'{"jsonrpc": "2.0", "id": "x", "method": "rehearse"}', -32601),
            (b'{"jsonrpc": "2.0", "id": "x", "method": "history"}', -32601),
        )
        for line, code in lines:
            client.send(line + b"\r\n")
            self.assertEqual(client.receive()["error"]["code"], code, line[:80])
        client.send(b"".join(line + b"\n" for line, _ in lines if len(line) < 1000))
        for line, code in lines:
            if len(line) < 1000:
                self.assertEqual(client.receive()["error"]["code"], code, line)
        client.call("status")
        self.assert_well(agent)

    def test_too_long(self) -> None:
        """A line that is too long is told so, and then the connection is closed."""
        agent = self.agent()
        client = self.connect(agent)
        client.send(b" " * (LONGEST - 1) + b"7\n")
        self.assertEqual(client.receive()["error"]["code"], -32600)
        client.send(b" " * (LONGEST + 1) + b"\n")
        answer = client.receive()
        self.assertEqual((answer["id"], answer["error"]["code"]), (None, -32600))
        self.assertTrue(client.ended())
        self.assert_well(agent)

    def test_endless(self) -> None:
        """A line that never ends is cut off, and takes no memory."""
        agent = self.agent()
        resident = Footprint.of(agent.pid).resident
        client = self.connect(agent)
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                client.send(b"x" * 10_000)
        self.assertLess(Footprint.of(agent.pid).resident, resident + 20_000)
        self.assert_well(agent)

    def test_half(self) -> None:
        """Half a message is waited for; whoever goes away in it has said nothing."""
        agent = self.agent()
        clients = [self.connect(agent) for _ in range(20)]
        for client in clients:
            client.send(b'{"jsonrpc": "2.0", "id": 1, "method": "register", "params": {"name": "a"')
        self.assert_served(agent)
        for client in clients[1:]:
            client.close()
        clients[0].send(b"}}\n")
        self.assertEqual(clients[0].answer(1), {"name": "a", "protocol": 1})
        self.assert_well(agent)

    def test_half_closed(self) -> None:
        """Who closes its own direction after its requests has all answers, then the end."""
        agent = self.agent()
        client = self.connect(agent)
        numbers = [client.start("status") for _ in range(20)]
        client.socket.shutdown(socket.SHUT_WR)
        for number in numbers:
            self.assertEqual(client.answer(number)["state"], "idle")
        self.assertTrue(client.ended())
        self.assert_well(agent)


class FloodTests(ControlTestCase):
    """Who sends or holds more than it should; others are served meanwhile."""

    def flood(self, agent: Agent, data: bytes) -> int:
        """Send the same again and again and read nothing, until the agent closes.

        :return: the most memory that the agent had, in kB.
        """
        client = self.connect(agent)
        client.socket.setblocking(False)
        most = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(100_000):
                with contextlib.suppress(BlockingIOError):
                    client.socket.send(data)
                    continue
                self.assert_served(agent)
                most = max(most, Footprint.of(agent.pid).resident)
        with self.assertRaises(ConnectionError):
            client.socket.send(data)
        return most

    def test_lines(self) -> None:
        """Nothing but line ends: each of them is a malformed message."""
        agent = self.agent()
        resident = Footprint.of(agent.pid).resident
        self.assertLess(self.flood(agent, b"\n" * LONGEST), resident + 40_000)
        agent.wait_for_log("does not read what it is sent over the control socket: dropped")
        self.assert_well(agent)

    def test_requests(self) -> None:
        """Requests without end whose answers nobody reads."""
        agent = self.agent()
        with ControlClient(agent.control) as client:
            for number in range(500):
                client.register(f"app-{number}")
            resident = Footprint.of(agent.pid).resident
            status = b'{"jsonrpc":"2.0","id":1,"method":"status"}\n'
            self.assertLess(self.flood(agent, status * 1000), resident + 60_000)
        agent.wait_for_log("does not read what it is sent over the control socket: dropped")
        self.assert_well(agent)

    def test_stopped_subscriber(self) -> None:
        """A subscriber that reads nothing is dropped; one that reads goes on."""
        agent = self.agent()
        stalled, reading, app = (self.connect(agent) for _ in range(3))
        stalled.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.call("subscribe")
        reading.call("subscribe")
        events = 0
        while "does not read what it is sent" not in agent.log:
            for _ in range(500):
                app.register("x" * 64)
                app.call("unregister", name="x" * 64)
            for _ in range(1000):
                reading.asked("event")
            events += 1000
            self.assertLess(events, 100_000)
        self.assertIn(f"process {os.getpid()} of user {os.geteuid()} does not read", agent.log)
        reading.call("status")
        self.assert_well(agent)

    def test_leaving_again_and_again(self) -> None:
        """Asking in a hold to leave, again and again, takes no memory."""
        agent = self.agent()
        app = self.connect(agent)
        app.register("a")
        with agent.connect() as hook:
            hook.start("GET", "/sync", agent.credentials)
            app.serve("freeze")
            self.assertEqual(hook.answer().status, 200)
            first = app.start("unregister", name="a")
            for _ in range(2000):
                self.assertEqual(self.refused(app, "unregister", name="a").code, -32003)
            hook.start("GET", "/post-sync", agent.credentials)
            app.serve("thaw")
            self.assertEqual(hook.answer().status, 200)
        self.assertEqual(app.answer(first), {})
        self.assert_well(agent)

    def test_connections(self) -> None:
        """There is an end to connections; root's and the agent's own user's find room beyond."""
        needs.root()
        with file_limit(MOST + 200), Reachable.path() as path:
            agent = self.agent(f"control = {path}\ncontrol_group = daemon")
            with acting_as(DAEMON):
                clients = [self.connect(agent, path) for _ in range(MOST - RESERVED)]
                self.assertEqual(clients[-1].call("status")["state"], "idle")
                one_more = self.connect(agent, path)
                answer = one_more.receive()
                self.assertEqual((answer["id"], answer["error"]["code"]), (None, -32004))
                self.assertTrue(one_more.ended())
            for _ in range(RESERVED - 1):
                self.connect(agent, path).call("status")
            last = self.connect(agent, path)
            last.call("status")
            self.assertEqual(self.connect(agent, path).receive()["error"]["code"], -32004)
            self.assertEqual(agent.get("/nowhere").status, 404)
            last.close()
            eventually(lambda: self.is_admitted(path), "who has gone makes room")

    def is_admitted(self, path: Path) -> bool:
        with ControlClient(path) as client, contextlib.suppress(ConnectionError):
            client.tell(id="x", method="status")
            return "result" in client.receive()
        return False


class Reachable:
    """A directory that every user reaches, for a control socket."""

    @staticmethod
    @contextlib.contextmanager
    def path() -> Iterator[Path]:
        """Make the directory for as long as it is needed.

        :return: a path in it.
        """
        directory = Path(tempfile.mkdtemp(prefix="xohook-"))
        directory.chmod(0o755)
        try:
            yield directory / "control.sock"
        finally:
            shutil.rmtree(directory)


class RightsTests(ControlTestCase):
    """Who may do what."""

    def setUp(self) -> None:
        needs.root()
        reachable = Reachable.path()
        self.path = reachable.__enter__()
        self.addCleanup(reachable.__exit__, None, None, None)

    def start(self, *options: str, sections: str = "") -> Agent:
        return self.agent("\n".join((f"control = {self.path}", *options)), sections)

    def test_mode(self) -> None:
        """Without a group it is for root and the agent's own user alone."""
        agent = self.start()
        for user in (DAEMON, NOBODY):
            with acting_as(user), self.assertRaises(PermissionError):
                self.connect(agent, self.path)
        self.connect(agent, self.path).call("status")

    def test_group(self) -> None:
        """With one it is for its members too, whatever group they are of besides."""
        agent = self.start("control_group = daemon")
        with acting_as(NOBODY), self.assertRaises(PermissionError):
            self.connect(agent, self.path)
        for user, groups in ((DAEMON, ()), (NOBODY, (DAEMON[1],))):
            with acting_as(user, *groups):
                client = self.connect(agent, self.path)
            client.register(f"of-{user[0]}")
        told = {each["name"]: each["uid"] for each in client.call("status")["apps"]}
        self.assertEqual(told, {"of-1": 1, "of-65534": 65534})

    def test_runtime_directory(self) -> None:
        """Members of the group reach the socket in the agent's own directory, and list nothing."""
        agent = self.agent("control_group = daemon")
        agent.runtime_directory.parent.chmod(0o755)
        with acting_as(DAEMON):
            self.connect(agent).call("status")
            with self.assertRaises(PermissionError):
                os.listdir(agent.runtime_directory)  # noqa: PTH208 - what a user would try.

    def test_name_of_a_user(self) -> None:
        """A name that is a user's own is refused to others, and not to root."""
        agent = self.start("control_group = daemon", sections="[app:orders]\nuser = nobody\n")
        with acting_as(DAEMON):
            stranger = self.connect(agent, self.path)
        error = self.refused(stranger, "register", name="orders")
        self.assertEqual(error.code, -32001)
        self.assertIn("for the user nobody, and this is user 1", error.message)
        with acting_as(NOBODY, DAEMON[1]):
            owner = self.connect(agent, self.path)
        owner.register("orders")
        self.assertEqual(self.refused(stranger, "register", name="orders").code, -32001)
        owner.close()
        root = self.connect(agent, self.path)
        eventually(lambda: not root.call("status")["apps"], "the owner is gone")
        root.register("orders")

    def test_methods(self) -> None:
        """Others may look and listen; what changes anything for all is root's."""
        programs = Programs(Path(self.mktemp()).resolve())
        section = programs.command("a", 'echo "a secret"')
        agent = self.start("control_group = daemon", sections=section)
        with acting_as(DAEMON):
            stranger = self.connect(agent, self.path)
        root = self.connect(agent, self.path)
        self.assertEqual(agent.get("/sync").status, 200)
        outputs = []
        for client in (root, stranger):
            self.assertEqual(client.call("subscribe")["state"], "holding")
            [told] = client.call("status")["participants"]
            outputs.append(told["output"])
        self.assertEqual(outputs, ["a secret\n", ""])
        for method in ("thaw_now", "reload"):
            self.assertEqual(self.refused(stranger, method).code, -32001)
        self.assertEqual(programs.journal, ["freeze a"])
        told = root.call("thaw_now")
        self.assertEqual((told["state"], told["thawed"]), ("stopped", True))
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(programs.journal[1:], ["thaw a stopped"])
        self.assertEqual(stranger.asked("event")["params"]["state"], "thawing")
        self.assertEqual(root.call("reload"), {})
        self.assertNotIn("a secret", str(stranger.unread))


class ReloadTests(ControlTestCase):
    """``reload`` over the socket."""

    def test_reload(self) -> None:
        """It is answered when the configuration has been read; mistakes are told, a line each."""
        agent = self.agent()
        client = self.connect(agent)
        agent.configure("hold_limit = soon\nwibble = 1")
        error = self.refused(client, "reload")
        assert error.data is not None
        self.assertEqual((error.code, len(error.data["problems"])), (-32005, 2))
        self.assertIn("wibble", error.data["problems"][1])
        agent.configure("", "[app:a]\n")
        self.assertEqual(client.call("reload"), {})
        self.assertEqual(client.call("status")["absent"], ["a"])
        self.assert_well(agent)


class PassingTests(ControlTestCase):
    """Clients that pass open files along, as a UNIX socket allows (unix(7), SCM_RIGHTS)."""

    def test_slow_to_close(self) -> None:
        """One that takes long to close holds up its sender alone, who is dropped."""
        agent = self.agent()
        with socket.create_server(("127.0.0.1", 0)) as server:
            slow = socket.socket()
            slow.connect(server.getsockname())
            # It has unsent bytes, and its last close waits for them (socket(7), SO_LINGER).
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
            slow.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while slow.send(b"x" * 65536):
                    pass
            with self.connect(agent) as passing:
                with contextlib.suppress(PermissionError):
                    socket.send_fds(passing.socket, [b"x"], [slow.fileno()])
                # The last of the two to close it waits, and not for ever: the server goes.
                threading.Thread(target=slow.close, daemon=True).start()
                self.assertEqual(self.connect(agent).call("status")["state"], "idle")
                self.assertTrue(passing.ended())


class LifeTests(ControlTestCase):
    """The socket's own life."""

    def test_end(self) -> None:
        """At the agent's end each connection is closed, and the path is gone."""
        agent = self.agent()
        client = self.connect(agent)
        client.register("a")
        agent.kill(signal.SIGTERM)
        agent.wait()
        self.assertTrue(client.ended())
        self.assertFalse(agent.control.exists())
        self.assertNotIn("Traceback", agent.log)

    def test_killed(self) -> None:
        """A killed agent's apps see the connection end; the next agent takes the path over."""
        agent = self.agent()
        client = self.connect(agent)
        client.register("a")
        with agent.connect() as hook:
            hook.start("GET", "/sync", agent.credentials)
            client.serve("freeze")
            self.assertEqual(hook.answer().status, 200)
        agent.kill()
        agent.wait()
        self.assertTrue(client.ended())
        agent.start()
        self.assert_hook_answers(agent)
        again = self.connect(agent)
        again.register("a")
        self.assertEqual(agent.outcomes, ["recovered"])
        self.assertEqual(agent.get("/post-sync").status, 500)

    def test_no(self) -> None:
        """With ``control = no`` there is none."""
        agent = self.agent("control = no")
        self.assertFalse(agent.control.exists())
        self.assertEqual(agent.get("/sync").status, 200)
