"""What the clients log: when the app is registered, when it is not, and when it is again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.integration.agent import eventually
from tests.integration.fake_control import FakeControl
from xohook import txclient
from xohook.client import AsyncRegistration, Registration

LOST = "orders: lost the agent: the agent has closed the connection; trying again"
REFUSED = "orders: not registered: the agent refuses to register orders: it is taken; trying again"


def expected(path: Path) -> list[tuple[str, str]]:
    """Tell what is logged where an agent takes an app, is lost, refuses it and takes it again.

    :param path: the agent's socket.
    :return: the level and the text of each line.
    """
    return [
        ("info", f"orders: registered with the agent at {path}"),
        ("warn", LOST),
        ("warn", REFUSED),
        ("info", f"orders: registered again with the agent at {path}"),
    ]


def serve(agent: FakeControl, lines: Callable[[], int]) -> None:
    """Be that agent, and wait for each line.

    :param agent: the agent's socket.
    :param lines: counts the lines so far.
    """
    end = agent.accept_registration()
    eventually(lambda: lines() == 1, "the first line")
    end.close()
    for _ in range(2):
        end = agent.accept()
        refusal = {"code": -32002, "message": "it is taken"}
        end.tell(id=end.receive()["id"], error=refusal)
        end.receive()
    agent.accept_registration()
    eventually(lambda: lines() == 4, "the last line")


class Kept(logging.Handler):
    """Keeps the level and the text of each line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        level = {logging.INFO: "info", logging.WARNING: "warn"}[record.levelno]
        self.lines.append((level, record.getMessage()))


class StandardTests(SynchronousTestCase):
    """The forms that log with the standard library."""

    def setUp(self) -> None:
        self.agent = FakeControl(self)
        self.kept = Kept()
        log = logging.getLogger("xohook.client")
        log.addHandler(self.kept)
        self.addCleanup(log.removeHandler, self.kept)
        self.addCleanup(log.setLevel, log.level)
        log.setLevel(logging.INFO)

    def serve(self) -> None:
        serve(self.agent, lambda: len(self.kept.lines))

    def test_threads(self) -> None:
        """The plain form logs each registration and each loss, and a refusal once."""
        with Registration("orders", freeze=print, thaw=print, control=self.agent.path):
            self.serve()
        self.assertEqual(self.kept.lines, expected(self.agent.path))

    def test_asyncio(self) -> None:
        """The form for asyncio logs the same."""

        async def nothing(_: Any) -> None:
            """Neither freeze nor thaw is asked for."""

        async def main() -> None:
            path = self.agent.path
            async with AsyncRegistration("orders", freeze=nothing, thaw=nothing, control=path):
                await asyncio.to_thread(self.serve)

        asyncio.run(main())
        self.assertEqual(self.kept.lines, expected(self.agent.path))


class TwistedTests(TestCase):
    """The form that logs with Twisted."""

    async def test_twisted(self) -> None:
        """The form for Twisted logs the same, with Twisted's logger."""
        lines: list[tuple[str, str]] = []

        @implementer(ILogObserver)
        def keep(event: LogEvent) -> None:
            if event["log_namespace"] == "xohook.txclient":
                level: LogLevel = event["log_level"]
                lines.append((level.name, event["text"]))

        globalLogPublisher.addObserver(keep)
        self.addCleanup(globalLogPublisher.removeObserver, keep)
        agent = FakeControl(self)
        registration = txclient.Registration(
            reactor, "orders", freeze=print, thaw=print, control=agent.path
        )
        registration.startService()
        await deferToThread(serve, agent, lambda: len(lines))
        await registration.stopService()
        self.assertEqual(lines, expected(agent.path))
