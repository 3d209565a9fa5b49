"""A control socket with a test at its other end instead of an agent: it does what the test says."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.integration.hook_client import PATIENCE

#: Seconds that no test lasts.
LONG = 1000.0


class AgentEnd:
    """The agent's end of one connection. Everything here blocks.

    :param connection: the connection, closed with this.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(PATIENCE)
        self._incoming = connection.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        :param data: the bytes.
        """
        self._socket.sendall(data)

    def tell(self, **members: Any) -> None:
        """Send a message.

        :param members: its members but for the version.
        """
        self.send(json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Wait for the next message.

        :return: the message without its version; an empty one where the connection has ended.
        """
        line = self._incoming.readline()
        message: dict[str, Any] = json.loads(line) if line else {"jsonrpc": "2.0"}
        assert message.pop("jsonrpc") == "2.0"
        return message

    def freeze(self, window: str, hold: float = LONG) -> None:
        """Ask for a freeze; the request's id is ``freeze WINDOW``.

        :param window: the window's id.
        :param hold: seconds.
        """
        params = {"name": "orders", "window": window, "timeout": LONG, "hold": hold}
        self.tell(id=f"freeze {window}", method="freeze", params=params)

    def thaw(self, window: str, outcome: str = "synced") -> None:
        """Ask for a thaw; the request's id is ``thaw WINDOW``.

        :param window: the window's id.
        :param outcome: the window's.
        """
        params = {"name": "orders", "window": window, "outcome": outcome}
        self.tell(id=f"thaw {window}", method="thaw", params=params)

    def stop_reading(self) -> None:
        """Refuse whatever the other end sends from now on."""
        self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the connection."""
        self._incoming.close()
        self._socket.close()


class FakeControl:
    """The socket.

    :param test: the test that it is closed after.
    """

    def __init__(self, test: SynchronousTestCase | TestCase) -> None:
        # The path of a UNIX socket has room for 107 bytes, and a test's directory is deep.
        directory = tempfile.TemporaryDirectory(prefix="xohook-")
        test.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "control.sock"
        self._test = test
        self._listening = socket.socket(socket.AF_UNIX)
        test.addCleanup(self._listening.close)
        self._listening.settimeout(PATIENCE)
        self._listening.bind(str(self.path))
        self._listening.listen()

    def accept(self) -> AgentEnd:
        """Wait for a connection.

        :return: its agent's end.
        """
        end = AgentEnd(self._listening.accept()[0])
        self._test.addCleanup(end.close)
        return end

    def accept_registration(self) -> AgentEnd:
        """Wait for a connection and take what it registers.

        :return: its agent's end.
        """
        end = self.accept()
        request = end.receive()
        assert request["method"] == "register", request
        end.tell(id=request["id"], result={"name": request["params"]["name"], "protocol": 1})
        return end
