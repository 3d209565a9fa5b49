"""The client's styles for threads and asyncio, with the real agent."""

from __future__ import annotations

import asyncio
import signal

from tests.integration.agent import Agent, eventually
from tests.integration.client_calls import AsyncCalled, ClientTestCase
from tests.integration.hook_client import PATIENCE
from xohook.client import AsyncRegistration, Registration


class AgentTests(ClientTestCase):
    """Both forms with the real agent."""

    def setUp(self) -> None:
        super().setUp()
        self.called = AsyncCalled()

    def test_killed(self) -> None:
        """Killed, the agent leaves nothing frozen, and the app registers with the next one."""
        agent = Agent.for_test(self)
        registration = Registration(
            "orders", freeze=self.called.freeze, thaw=self.called.thaw, control=agent.control
        )
        with registration:
            for _ in range(2):
                self.assertTrue(registration.wait(PATIENCE))
                self.assertEqual(agent.get("/sync").status, 200)
                agent.kill()
                agent.wait()
                eventually(lambda: not registration.registered, "it has noticed")
                agent.start()
            self.assertTrue(registration.wait(PATIENCE))
            self.assertEqual(agent.get("/sync").status, 200)
            agent.get("/post-sync")
        windows = self.called.outcomes
        self.assertEqual(windows[:2], ["broken", "broken"])
        self.called.wait_for(*windows)

    def test_killed_asyncio(self) -> None:
        """So it is with asyncio."""
        agent = Agent.for_test(self)

        async def main() -> None:
            async with AsyncRegistration(
                "orders",
                freeze=self.called.async_freeze,
                thaw=self.called.async_thaw,
                control=agent.control,
            ) as registration:
                self.assertTrue(await registration.wait(PATIENCE))
                answer = await asyncio.to_thread(agent.get, "/sync")
                self.assertEqual(answer.status, 200)
                agent.kill()
                await asyncio.to_thread(agent.wait)
                await asyncio.to_thread(self.called.wait_for, "broken")
                await asyncio.to_thread(agent.start)
                self.assertTrue(await registration.wait(PATIENCE))

        asyncio.run(main())

    def test_stopped(self) -> None:
        """An agent that is stopped is not waited for beyond the hold; it goes on with the app."""
        agent = Agent.for_test(self, "freeze_budget = 1s\nhold_limit = 1s")
        registration = Registration(
            "orders", freeze=self.called.freeze, thaw=self.called.thaw, control=agent.control
        )
        with registration:
            self.assertTrue(registration.wait(PATIENCE))
            self.assertEqual(agent.get("/sync").status, 200)
            agent.kill(signal.SIGSTOP)
            self.called.wait_for("expired")
            self.assertTrue(registration.registered)
            agent.kill(signal.SIGCONT)
            self.assertEqual(agent.get("/post-sync").status, 500)
            self.assertEqual(agent.get("/sync").status, 200)
            self.assertEqual(len(self.called.calls), 3)

    def test_failed(self) -> None:
        """The reason of a failed freeze is in the answer to XO."""
        agent = Agent.for_test(self)

        def fail() -> None:
            raise OSError("the disk is full")

        self.called.on_freeze = fail
        registration = Registration(
            "orders", freeze=self.called.freeze, thaw=self.called.thaw, control=agent.control
        )
        with registration, self.assertLogs("xohook.client", "ERROR"):
            self.assertTrue(registration.wait(PATIENCE))
            answer = agent.get("/sync")
            self.assertEqual(answer.status, 500)
            self.assertIn(b"OSError: the disk is full", answer.body)
        self.called.wait_for("failed")
