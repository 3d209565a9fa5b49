"""Answers that reach every requester, whatever another one sends."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.hook_client import Connection
from tests.integration.programs import Programs

#: What is no text in UTF-8, in a header whose value the agent reads, and in others.
NO_TEXT = "application/json, \xff"

HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Connection",
    "Content-Type",
    "Cookie",
    "Host",
    "If-Modified-Since",
    "Range",
    "Upgrade",
    "User-Agent",
    "X-Forwarded-For",
)


class DeliveryTests(SynchronousTestCase):
    """Requests that share a freeze."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def start(self, agent: Agent, target: str = "/sync", **headers: str) -> Connection:
        """Send a request and do not wait for its answer."""
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", target, {**agent.credentials, **headers})
        return connection

    def test_accept(self) -> None:
        """A header that is no text spoils neither its own request nor those that share the freeze.

        It comes first, so that its answer is delivered before the other one.
        """
        agent = Agent.for_test(self, sections=self.programs.command("a", "stay a"))
        odd = self.start(agent, Accept=NO_TEXT)
        agent.wait_for_log("opened by")
        plain = self.start(agent)
        agent.wait_for_log("shares the freeze")
        self.programs.let_on("a")
        self.assertEqual(plain.answer().status, 200)
        answer = odd.answer()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertNotIn("a fault of xohook itself", agent.log)

    def test_any_header(self) -> None:
        """Bytes that are no text are nothing special, in whatever header or path they stand."""
        agent = Agent.for_test(self)
        for header in HEADERS:
            connection = self.start(agent, "/post-sync", **{header: NO_TEXT})
            self.assertEqual(connection.answer().status, 200, header)
        for target in ("/\xff", "/sync\xff", "/post-sync?\xff=\xff"):
            # The line of a request is ASCII (RFC 9112, section 3).
            self.assertEqual(self.start(agent, target).answer().status, 400, target)
        for target, status in (("/%ff", 404), ("/post-sync?%ff=%ff", 200)):
            self.assertEqual(self.start(agent, target).answer().status, status, target)
        for query in ("token=%ff&vm=%ff", "token=%ff", "vm=%ff%00&token=a"):
            connection = agent.connect()
            self.addCleanup(connection.close)
            self.assertEqual(connection.get(f"/sync?{query}").status, 403, query)
        odd = {"Authorization": "Bearer \xff"}
        self.assertEqual(self.start(agent, **odd).answer().status, 403)
        self.assertNotIn("Traceback", agent.log)
