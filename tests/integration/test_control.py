"""The control socket of a real agent: who may, what is sent, and who means no good."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.control_case import (
    DAEMON,
    LONGEST,
    NOBODY,
    ControlTestCase,
    Reachable,
    acting_as,
)
from tests.integration.footprint import Footprint
from tests.integration.programs import Programs


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
