"""The control socket of a real agent: clients that send or hold more than they should."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.control_case import (
    DAEMON,
    LONGEST,
    MOST,
    RESERVED,
    ControlTestCase,
    Reachable,
    acting_as,
)
from tests.integration.control_client import ControlClient
from tests.integration.footprint import Footprint
from tests.integration.test_hostile import file_limit


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

    def test_many(self) -> None:
        """However many are passed, over many connections, the agent keeps none, and no thread."""
        agent = self.agent()
        with socket.create_server(("127.0.0.1", 0)) as server:
            before = self.counts(agent)
            for _ in range(20):
                self.pass_slow(agent, server.getsockname())

            def is_clean() -> bool:
                # A connection of this test's own may still have counted before.
                return all(now <= old for now, old in zip(self.counts(agent), before, strict=True))

            eventually(is_clean, "all are closed")
            self.assert_well(agent)

    def counts(self, agent: Agent) -> tuple[int, int]:
        """Count the agent's open files and its threads (proc(5))."""
        process = Path(f"/proc/{agent.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def pass_slow(self, agent: Agent, address: tuple[str, int]) -> None:
        """Pass files whose last close waits an hour, in two messages, so that it is the agent's.

        A process that exits closes its own without waiting.
        """
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                passing = socket.socket(socket.AF_UNIX)
                passing.connect(str(agent.control))
                slow = [socket.create_connection(address) for _ in range(4)]
                for each in slow:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
                    each.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while each.send(b"x" * 65536):
                            pass
                for each in slow:
                    socket.send_fds(passing, [b"x"], [each.fileno()])
            os._exit(0)
        os.waitpid(child, 0)
