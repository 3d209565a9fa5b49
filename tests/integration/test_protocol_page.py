"""The page about the control socket, held against the agent: its examples are played."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import attrs
from docutils import nodes
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.hook_client import PATIENCE, Connection
from tests.test_docs import DOCS, complaints, read
from xohook.control import apps, connections, wire
from xohook.hook import connection_limits

PAGE = DOCS / "protocol.rst"

#: Members that the page says differ each time: of these the type alone is compared.
VARYING = frozenset(
    ("hold", "left", "message", "opened", "pid", "seconds", "started", "uid", "version", "window")
)

#: An example's lines: what the app sends, what the agent sends, what happens meanwhile.
LINE = re.compile(r"^(-->|<--|#) ", re.MULTILINE)


@attrs.frozen
class Move:
    """One line of an example.

    :param sign: who does it.
    :param text: what; a message broken into lines is whole again.
    """

    sign: str
    text: str


def examples() -> Iterator[list[Move]]:
    """Find the conversations on the page.

    :return: the moves of each.
    """
    for block in read(PAGE).findall(nodes.literal_block):
        _, *parts = LINE.split(block.astext())
        texts = (" ".join(part.split()) for part in parts[1::2])
        moves = [Move(*move) for move in zip(parts[::2], texts, strict=True)]
        if moves:
            yield moves


def likeness(value: Any, name: str = "") -> Any:
    """Put the type in the place of each value that differs each time.

    :param value: of JSON.
    :param name: the name of the member that it is.
    :return: what two runs have in common.
    """
    if isinstance(value, dict):
        return {member: likeness(each, member) for member, each in value.items()}
    if isinstance(value, list):
        return [likeness(each, name) for each in value]
    if isinstance(value, str) and name == "problems":
        return re.sub(r"\d+", "0", value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in VARYING and value is not None:
        return "a number" if is_number else type(value).__name__
    # As JSON writes it: in Python true equals 1.
    return json.dumps(value)


class Play:
    """One conversation with an agent of its own.

    :param test: the test.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        self._test = test
        self._agent = Agent.for_test(test)
        stack = ExitStack()
        test.addCleanup(stack.close)
        self._requests: dict[str, Connection] = {}
        self._stack = stack
        # What the page calls the agent's requests, and what they are called now.
        self._ids: dict[Any, Any] = {}
        self._socket = stack.enter_context(socket.socket(socket.AF_UNIX))
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(self._agent.runtime_directory / "control.sock"))
        self._incoming = stack.enter_context(self._socket.makefile("rb"))

    def run(self, moves: list[Move]) -> None:
        """Do what the app does, and see that the agent does what it should.

        :param moves: the moves, in order.
        """
        act = {"-->": self._send, "<--": self._expect, "#": self._happen}
        for move in moves:
            act[move.sign](move.text)
        self._test.assertEqual(list(self._requests), [], "the page shows no answer to these")

    def sends_nothing_more(self) -> bool:
        """Tell whether the agent sent only what the page shows.

        :return: whether it ended the conversation without another line.
        """
        self._socket.shutdown(socket.SHUT_WR)
        return self._incoming.read() == b""

    def _send(self, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            # An example of what is none.
            self._socket.sendall(text.encode() + b"\n")
            return
        if isinstance(message, dict) and "method" not in message:
            message["id"] = self._ids[message["id"]]
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _expect(self, text: str) -> None:
        expected, came = json.loads(text), json.loads(self._incoming.readline())
        if "method" in expected and "id" in expected:
            self._ids[expected.pop("id")] = came.pop("id", None)
        self._test.assertEqual(likeness(came), likeness(expected))

    def _happen(self, text: str) -> None:
        request, _, status = text.partition(": ")
        if status:
            answer = self._requests.pop(request).answer()
            self._test.assertEqual(answer.status, int(status), text)
            return
        method, path = request.split()
        connection = self._requests[request] = self._stack.enter_context(self._agent.connect())
        connection.start(method, path, self._agent.credentials)


class ExampleTests(SynchronousTestCase):
    """The examples."""

    def test_all(self) -> None:
        """The agent says, line by line, what the page says that it does."""
        played = 0
        for moves in examples():
            play = Play(self)
            play.run(moves)
            self.assertTrue(play.sends_nothing_more(), moves)
            played += 1

        self.assertGreaterEqual(played, 10)

    def test_methods(self) -> None:
        """Each method that the agent knows is in an example, and so is each that it calls."""
        shown = {
            json.loads(move.text)["method"]
            for moves in examples()
            for move in moves
            if move.sign != "#" and '"method"' in move.text and move.text.startswith("{")
        }
        agent = Agent.for_test(self)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(agent.runtime_directory / "control.sock"))
            client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "?"}\n')
            refusal = json.loads(client.makefile("rb").readline())["error"]["message"]
        known = set(refusal.rpartition("known are ")[2].split(", "))

        self.assertEqual(shown - {"frieze"}, known | {"freeze", "thaw", "event"})


class PageTests(SynchronousTestCase):
    """What the page says beside the examples."""

    def test_valid(self) -> None:
        """The page is valid reStructuredText."""
        self.assertEqual(complaints(read(PAGE)), [])

    def test_errors(self) -> None:
        """The table of errors has each code that the agent sends, and no other."""
        [section] = (
            each for each in read(PAGE).findall(nodes.section) if each["names"] == ["errors"]
        )
        shown = {int(row[0].astext()) for row in list(section.findall(nodes.row))[1:]}
        codes = {value for value in vars(wire).values() if type(value) is int and value < 0}

        self.assertEqual(shown, codes)

    def test_numbers(self) -> None:
        """The page tells the bounds that hold."""
        text = " ".join(PAGE.read_text(encoding="utf-8").split())

        for bound in (
            f"64 KiB ({wire.LONGEST_IN:,} bytes)",
            f"16 MiB ({wire.LONGEST_OUT:,} bytes)",
            f"more than {connections.BACKLOG // 2**20} MiB wait",
            f"{connection_limits.MOST_CONTROL:,} connections at a time",
            f"The last {connections.RESERVED} are for root",
            f"At most {apps.MOST:,} names",
        ):
            self.assertIn(bound, text)
