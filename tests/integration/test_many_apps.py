"""Very many apps in one window of a real agent."""

from __future__ import annotations

import json
import select
from typing import Any

from tests.integration.agent import Agent
from tests.integration.control_case import ControlTestCase
from tests.integration.control_client import ControlClient
from tests.integration.hook_client import PATIENCE
from tests.integration.test_hostile import file_limit


class ManyTests(ControlTestCase):
    """A thousand connections, ten thousand names."""

    def crowd(self, agent: Agent, connections: int, names: int) -> list[ControlClient]:
        """Register so many names on each of so many connections."""
        clients = [self.connect(agent) for _ in range(connections)]
        numbers = [
            [client.start("register", name=f"app-{place}-{each}") for each in range(names)]
            for place, client in enumerate(clients)
        ]
        for client, its in zip(clients, numbers, strict=True):
            for number in its:
                client.answer(number)
        return clients

    def serve_all(self, clients: list[ControlClient], method: str, names: int) -> list[str]:
        """Answer each of the agent's requests as it comes, on whichever connection; name them."""
        poll = select.poll()
        by_file = {client.socket.fileno(): client for client in clients}
        for each in by_file:
            poll.register(each, select.POLLIN)
        rests = dict.fromkeys(by_file, b"")
        served: list[str] = []
        while len(served) < len(clients) * names:
            ready = poll.poll(PATIENCE * 1000)
            self.assertTrue(ready, f"{len(served)} were asked to {method}")
            for file, _ in ready:
                *lines, rests[file] = (rests[file] + by_file[file].socket.recv(65536)).split(b"\n")
                requests: list[dict[str, Any]] = [json.loads(line) for line in lines]
                for request in requests:
                    self.assertEqual(request["method"], method)
                    served.append(request["params"]["name"])
                    by_file[file].reply(request)
        self.assertEqual(set(rests.values()), {b""})
        return served

    def window(self, connections: int, names: int) -> None:
        """Run a whole window with all of them."""
        agent = self.agent()
        clients = self.crowd(agent, connections, names)
        with agent.connect() as hook:
            for target, method in (("/sync", "freeze"), ("/post-sync", "thaw")):
                hook.start("GET", target, agent.credentials)
                served = self.serve_all(clients, method, names)
                self.assertEqual(len(set(served)), connections * names)
                self.assertEqual(hook.answer().status, 200)
        self.assertEqual(agent.outcomes, ["synced"])
        status = clients[0].call("status")
        self.assertEqual(len(status["apps"]), connections * names)
        self.assert_well(agent)

    def test_connections(self) -> None:
        """A thousand apps on as many connections freeze and thaw in one window."""
        with file_limit(2048):
            self.window(1000, 1)

    def test_names(self) -> None:
        """Ten thousand names on a hundred connections freeze and thaw in one window."""
        self.window(100, 100)
