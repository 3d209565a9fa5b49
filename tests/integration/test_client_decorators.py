"""Callbacks that are decorated, in each style of the client, against a scripted agent."""

from __future__ import annotations

import asyncio

from twisted.internet import reactor
from twisted.internet.defer import succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.client_calls import ClientTestCase
from tests.integration.fake_control import AgentEnd, FakeControl
from xohook import txclient
from xohook.client import AsyncRegistration, Freeze, Registration, Thaw

CALLED = [Freeze("a", 1000, 1000), Thaw("a", "synced")]


def one_window(agent: FakeControl) -> None:
    """Accept a registration, and go through one window with it.

    :param agent: the agent's socket.
    """
    end: AgentEnd = agent.accept_registration()
    end.freeze("a")
    assert end.receive() == {"id": "freeze a", "result": {}}
    end.thaw("a")
    assert end.receive() == {"id": "thaw a", "result": {}}


class StandardTests(ClientTestCase):
    """The styles that need the standard library alone."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = FakeControl(self)
        self.called: list[Freeze | Thaw] = []

    def test_threads(self) -> None:
        """The plain style calls the functions that were decorated."""
        registration = Registration("orders", control=self.agent.path)

        @registration.freeze
        def freeze(request: Freeze) -> None:
            self.called.append(request)

        @registration.thaw
        def thaw(request: Thaw) -> None:
            self.called.append(request)

        with registration:
            one_window(self.agent)
        self.assertEqual(self.called, CALLED)

    def test_asyncio(self) -> None:
        """The style for asyncio awaits the coroutine functions that were decorated."""
        registration = AsyncRegistration("orders", control=self.agent.path)

        @registration.freeze
        async def freeze(request: Freeze) -> None:
            await asyncio.sleep(0)
            self.called.append(request)

        @registration.thaw
        async def thaw(request: Thaw) -> None:
            await asyncio.sleep(0)
            self.called.append(request)

        async def main() -> None:
            async with registration:
                await asyncio.to_thread(one_window, self.agent)

        asyncio.run(main())
        self.assertEqual(self.called, CALLED)

    def test_asyncio_missing(self) -> None:
        """Without a callback the style for asyncio does not start."""

        async def main() -> None:
            registration = AsyncRegistration("orders", control=self.agent.path)
            with self.assertRaises(RuntimeError) as raised:
                registration.start()
            self.assertIn("no freeze callback", str(raised.exception))

        asyncio.run(main())


class TwistedTests(TestCase):
    """The style for Twisted."""

    async def test_twisted(self) -> None:
        """It calls the functions that were decorated, and waits for their Deferreds."""
        agent = FakeControl(self)
        called: list[Freeze | Thaw] = []
        registration = txclient.Registration(reactor, "orders", control=agent.path)

        @registration.freeze
        def freeze(request: Freeze) -> object:
            return succeed(request).addCallback(called.append)

        @registration.thaw
        async def thaw(request: Thaw) -> None:
            called.append(request)

        registration.startService()
        await deferToThread(one_window, agent)
        await registration.stopService()
        self.assertEqual(called, CALLED)

    def test_missing(self) -> None:
        """Without a callback the service does not start."""
        registration = txclient.Registration(reactor, "orders", freeze=print)
        with self.assertRaises(RuntimeError) as raised:
            registration.startService()
        self.assertIn("no thaw callback", str(raised.exception))
        self.assertFalse(registration.running)
