"""Tests for :mod:`xohook.hook.resources`: what an answer says, in bytes and in plain values."""

from __future__ import annotations

import json
from ipaddress import ip_network

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tests.hook.test_site import SiteTestCase
from xohook.hook.auth import Credentials, Gate
from xohook.hook.refusals import Refusals
from xohook.hook.resources import Guarded, respond
from xohook.hook.site import HookRequest
from xohook.window.answers import Answer


class Answering(Resource):
    """Gives every request the same answer."""

    isLeaf = True

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: HookRequest) -> int:
        respond(request, self._answer, ())
        return NOT_DONE_YET


class RespondTests(SiteTestCase):
    """An answer, written."""

    def answer(self, answer: Answer, *headers: str, version: str = "1.1") -> tuple[str, str]:
        """Let an answer be given to a request; its head and its body come back."""
        transport = self.connect(self.serve(Answering(answer)))
        request = "\r\n".join((f"GET / HTTP/{version}", *headers, "", ""))
        transport.protocol.dataReceived(request.encode())
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        return head, body

    def test_lines(self) -> None:
        """A line follows for each thing that went wrong: printable, and not endless."""
        lines = ("command:a: \x1b[2J\n", "command:b: " + "y" * 5000)
        _, body = self.answer(Answer(status=500, lines=lines))
        first, second, third = body.split("\n")
        self.assertEqual((first, second), ("Internal Error", r"command:a: \x1b[2J\n"))
        self.assertEqual(len(third), 1000)

    def test_keep_alive(self) -> None:
        """A hold's length is offered in whole seconds, rounded up, where the connection is kept."""
        hold = Answer(status=200, hold=1.2)
        self.assertIn("\r\nKeep-Alive: timeout=2\r\n", self.answer(hold)[0])
        self.assertNotIn("Keep-Alive", self.answer(Answer(status=200))[0])
        self.assertNotIn("Keep-Alive", self.answer(hold, "Connection: close")[0])
        self.assertNotIn("Keep-Alive", self.answer(hold, version="1.0")[0])

    def test_retry_after(self) -> None:
        """An agent that is shutting down says when to come again."""
        head, body = self.answer(Answer(status=503))
        self.assertIn("\r\nRetry-After: 5\r\n", head)
        self.assertEqual(body, "Service Unavailable")

    def test_json(self) -> None:
        """JSON is what it gives to whoever accepts that."""
        answer = Answer(status=500, window="w", state="failed", lines=("command:a: no",))
        head, body = self.answer(answer, "Accept: text/html, application/json;q=0.9")
        self.assertIn("\r\nContent-Type: application/json", head)
        self.assertEqual(
            json.loads(body),
            {"window": "w", "state": "failed", "problems": ["command:a: no"], "participants": []},
        )

    def test_accept(self) -> None:
        """JSON is asked for by its whole name, in any case, in any of the headers."""
        for accepted in (
            ("APPLICATION/JSON",),
            ("text/html, application/json;q=0.5",),
            ("application/json ; q=0.001",),
            ("text/html", "application/json"),
        ):
            head, _ = self.answer(Answer(status=200), *(f"Accept: {each}" for each in accepted))
            self.assertIn("\r\nContent-Type: application/json", head, accepted)

    def test_not_accepted(self) -> None:
        """A weight of 0 is a refusal, and another type, or any type, asks for no JSON."""
        for accepted in (
            "application/json;q=0",
            "application/json; Q=0",
            "application/json;q=0.000",
            "application/jsonp",
            "text/application/json",
            "*/*",
            "",
        ):
            head, body = self.answer(Answer(status=200), f"Accept: {accepted}")
            self.assertNotIn("application/json", head, accepted)
            self.assertEqual(body, "Ok", accepted)


class RefusedTests(SiteTestCase):
    """An authenticated request that is not one of the hook's."""

    def answer(self, *headers: str, is_stopping: bool = False) -> tuple[str, str]:
        """Let a request for another path be answered; its head and its body come back."""
        network = ip_network("192.0.2.0/24")
        gate = Gate(Credentials((), (), "vm"), frozenset({"peer"}), (network,))
        root = Guarded(gate, Refusals(self.clock))
        root.is_stopping = is_stopping
        transport = self.connect(self.serve(root))
        request = "\r\n".join(("GET /other HTTP/1.1", *headers, "", ""))
        transport.protocol.dataReceived(request.encode())
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        return head, body

    def test_json(self) -> None:
        """It is answered in JSON too where that is asked for."""
        head, body = self.answer("Accept: application/json")
        self.assertTrue(head.startswith("HTTP/1.1 404 "))
        self.assertEqual(json.loads(body)["window"], None)

    def test_stopping(self) -> None:
        """An agent that is shutting down says so for every path."""
        head, _ = self.answer(is_stopping=True)
        self.assertTrue(head.startswith("HTTP/1.1 503 "))
        self.assertIn("\r\nRetry-After: ", head)
