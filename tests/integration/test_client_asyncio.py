"""The client's style for asyncio, against a scripted agent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from tests.integration.client_calls import AsyncCalled, ClientTestCase, open_files
from tests.integration.fake_control import AgentEnd, FakeControl
from tests.integration.hook_client import PATIENCE
from xohook.client import AsyncRegistration, Freeze


class AsyncRegistrationTests(ClientTestCase):
    """The form for asyncio. The agent's end blocks, in threads beside the event loop."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = FakeControl(self)
        self.called = AsyncCalled()

    def run_app(
        self, app: Callable[[AsyncRegistration, AgentEnd], Coroutine[Any, Any, None]]
    ) -> None:
        """Run an app that is registered, and see that it leaves no task and no file."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            async with self.registration() as registration:
                end = await asyncio.to_thread(self.agent.accept_registration)
                self.assertTrue(await registration.wait(PATIENCE))
                await asyncio.wait_for(app(registration, end), PATIENCE)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            self.assertEqual(left, set())
            end.close()

        complaints: list[dict[str, Any]] = []
        before = open_files()
        asyncio.run(main(), debug=True)
        self.assertEqual(complaints, [])
        self.assertEqual(open_files(), before)

    def registration(self) -> AsyncRegistration:
        return AsyncRegistration(
            "orders",
            freeze=self.called.async_freeze,
            thaw=self.called.async_thaw,
            control=self.agent.path,
        )

    async def freeze(self, end: AgentEnd) -> None:
        """Ask for a freeze and wait until it runs."""
        end.freeze("a")
        while not self.called.calls:
            await asyncio.sleep(0)

    def test_round(self) -> None:
        """Freezes and thaws are awaited in turn, and answered."""

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            self.assertEqual((registration.registered, registration.problem), (True, ""))
            for window in ("a", "b"):
                end.freeze(window)
                answer = await asyncio.to_thread(end.receive)
                self.assertEqual(answer, {"id": f"freeze {window}", "result": {}})
                end.thaw(window)
                answer = await asyncio.to_thread(end.receive)
                self.assertEqual(answer, {"id": f"thaw {window}", "result": {}})

        self.run_app(app)
        self.called.wait_for("synced", "synced")

    def test_callback_raises(self) -> None:
        """Whatever a callback raises is the answer, and does not end the app."""

        async def fail() -> None:
            raise SystemExit("no\nroom")

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            error = {"code": -32000, "message": "SystemExit: no room"}
            with self.assertLogs("xohook.client", "ERROR"):
                end.freeze("a")
                answer = await asyncio.to_thread(end.receive)
                self.assertEqual(answer, {"id": "freeze a", "error": error})
            end.thaw("a", "failed")
            answer = await asyncio.to_thread(end.receive)
            self.assertEqual(answer, {"id": "thaw a", "result": {}})

        self.called.in_freeze = fail
        self.run_app(app)
        self.called.wait_for("failed")

    def test_thaw_while_freezing(self) -> None:
        """A thaw that comes during the freeze cancels it where that is asked for."""

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            registration.cancel_freeze = True
            await self.freeze(end)
            end.thaw("a", "cancelled")
            answer = await asyncio.to_thread(end.receive)
            self.assertEqual(answer["error"]["message"], "CancelledError")
            answer = await asyncio.to_thread(end.receive)
            self.assertEqual(answer, {"id": "thaw a", "result": {}})

        self.called.in_freeze = asyncio.Event().wait
        self.run_app(app)
        self.called.wait_for("cancelled")

    def test_thaw_after_thread(self) -> None:
        """A freeze that runs in a thread is not overtaken by its thaw."""
        let_on = threading.Event()
        done: list[str] = []

        def come_to_rest() -> None:
            let_on.wait(PATIENCE)
            done.append("freeze")

        async def freeze() -> None:
            await asyncio.to_thread(come_to_rest)

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            await self.freeze(end)
            end.thaw("a", "cancelled")
            # It is read by then.
            await asyncio.sleep(0.1)
            self.assertEqual(self.called.outcomes, [])
            let_on.set()
            answer = await asyncio.to_thread(end.receive)
            self.assertIn("was over", answer["error"]["message"])
            await asyncio.to_thread(end.receive)
            self.assertEqual(done, ["freeze"])

        self.called.in_freeze = freeze
        self.run_app(app)
        self.called.wait_for("cancelled")

    def test_close_while_overdue(self) -> None:
        """A freeze that outlasts its window does not outlast the registration."""

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            await self.freeze(end)
            end.thaw("a", "cancelled")
            # Its answer shows that the thaw was read.
            end.tell(id=1, method="unknown")
            await asyncio.to_thread(end.receive)
            self.assertEqual(len(self.called.calls), 1)

        self.called.in_freeze = asyncio.Event().wait
        self.run_app(app)
        self.called.wait_for("cancelled")

    def test_plain_function(self) -> None:
        """A callback that is no coroutine function has failed, in words."""

        class Plain(AsyncCalled):
            def async_freeze(self, freeze: Freeze) -> Any:
                return False

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            with self.assertLogs("xohook.client", "ERROR"):
                end.freeze("a")
                answer = await asyncio.to_thread(end.receive)
            self.assertEqual(
                answer["error"]["message"],
                "TypeError: the callback is no coroutine function: it returned a bool",
            )

        self.called = Plain()
        self.run_app(app)
        self.assertEqual(self.called.outcomes, ["broken"])

    def test_wait_while_thawing(self) -> None:
        """Who waits while the end of the connection is thawed keeps nobody from running."""
        let_on = asyncio.Event()

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            end.freeze("a")
            await asyncio.to_thread(end.receive)
            end.close()
            while not self.called.outcomes:
                await asyncio.sleep(0)
            waiting = asyncio.create_task(registration.wait())
            await asyncio.sleep(0)
            let_on.set()
            again = await asyncio.to_thread(self.agent.accept_registration)
            self.assertTrue(await waiting)
            again.close()

        self.called.in_thaw = let_on.wait
        self.run_app(app)
        self.called.wait_for("broken")

    def test_cancel_unheeded(self) -> None:
        """The thaw waits for a freeze that does not heed its cancellation."""
        let_on = asyncio.Event()
        cancelled = asyncio.Event()

        async def heed_nothing() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                await let_on.wait()

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            registration.cancel_freeze = True
            await self.freeze(end)
            end.thaw("a", "cancelled")
            await cancelled.wait()
            self.assertEqual(self.called.outcomes, [])
            let_on.set()
            answer = await asyncio.to_thread(end.receive)
            self.assertIn("was over", answer["error"]["message"])
            await asyncio.to_thread(end.receive)

        self.called.in_freeze = heed_nothing
        self.run_app(app)
        self.called.wait_for("cancelled")

    def test_broken(self) -> None:
        """The end of the connection thaws, and it registers anew."""

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            end.freeze("a")
            await asyncio.to_thread(end.receive)
            end.close()
            while registration.registered:
                await asyncio.sleep(0)
            # Nobody answers it yet.
            self.assertFalse(await registration.wait(0.01))
            again = await asyncio.to_thread(self.agent.accept_registration)
            self.assertTrue(await registration.wait(PATIENCE))
            again.close()

        self.run_app(app)
        self.called.wait_for("broken")

    def test_expired(self) -> None:
        """An agent that is silent for too long, though connected, is not waited for."""

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            end.freeze("a", hold=0.2)
            await asyncio.to_thread(end.receive)
            await asyncio.to_thread(self.called.wait_for, "expired")
            end.thaw("a")
            answer = await asyncio.to_thread(end.receive)
            self.assertEqual(answer, {"id": "thaw a", "result": {}})

        self.run_app(app)
        self.called.wait_for("expired")

    def test_refused(self) -> None:
        """A refusal closes the connection, and it tries again."""

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            end.close()
            again = await asyncio.to_thread(self.agent.accept)
            request = await asyncio.to_thread(again.receive)
            again.tell(id=request["id"], error={"code": -32002, "message": "it is taken"})
            self.assertEqual(await asyncio.to_thread(again.receive), {})
            again.close()
            third = await asyncio.to_thread(self.agent.accept_registration)
            self.assertTrue(await registration.wait(PATIENCE))
            third.close()

        self.run_app(app)

    def test_agent_does_not_read(self) -> None:
        """Answers that cannot be sent hold nothing up, and are sent in the end."""
        many = 10_000

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            requests = b'{"jsonrpc":"2.0","id":1,"method":"unknown"}\n' * many
            await asyncio.to_thread(end.send, requests)
            end.freeze("a", hold=0.2)
            await asyncio.to_thread(self.called.wait_for, "expired")
            answers = [(await asyncio.to_thread(end.receive))["id"] for _ in range(many + 1)]
            self.assertEqual(answers, [*[1] * many, "freeze a"])

        self.run_app(app)

    def test_leave_frozen(self) -> None:
        """Who leaves the context while frozen is thawed before it is left."""

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            end.freeze("a")
            await asyncio.to_thread(end.receive)

        self.run_app(app)
        self.assertEqual(self.called.outcomes, ["broken"])

    def test_leave_freezing(self) -> None:
        """A freeze that runs when the context is left is cancelled, and thawed."""

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            await self.freeze(end)

        self.called.in_freeze = asyncio.Event().wait
        self.run_app(app)
        self.assertEqual(self.called.outcomes, ["broken"])

    def test_close_in_callback(self) -> None:
        """Closed within a callback, it does not wait for itself."""
        closed: list[AsyncRegistration] = []

        left = asyncio.Event()

        async def close() -> None:
            for each in closed:
                await each.close()

        async def close_and_leave() -> None:
            await close()
            left.set()

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            closed.append(registration)
            end.freeze("a")
            self.assertEqual(await asyncio.to_thread(end.receive), {})
            await left.wait()
            self.assertFalse(await registration.wait())
            self.assertRaises(RuntimeError, registration.start)

        self.called.in_freeze = close
        self.called.in_thaw = close_and_leave
        self.run_app(app)
        self.assertEqual(self.called.outcomes, ["broken"])

    def test_insisting(self) -> None:
        """A thaw that does not end is cancelled with the close that waits for it."""

        async def app(registration: AsyncRegistration, end: AgentEnd) -> None:
            end.freeze("a")
            await asyncio.to_thread(end.receive)
            closing = asyncio.create_task(registration.close())
            while not self.called.outcomes:
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            self.assertTrue(closing.cancelled())

        self.called.in_thaw = asyncio.Event().wait
        self.run_app(app)
        self.assertEqual(self.called.outcomes, ["broken"])

    def test_loop_ends(self) -> None:
        """What asyncio.run cancels, because nobody closed it, is thawed before the loop ends."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            registration = self.registration()
            registration.start()
            end = await asyncio.to_thread(self.agent.accept_registration)
            end.freeze("a")
            await asyncio.to_thread(end.receive)

        complaints: list[dict[str, Any]] = []
        asyncio.run(main())
        self.called.wait_for("broken")
        self.assertEqual(complaints, [])

    def test_cancelled_before_begun(self) -> None:
        """A freeze whose task is cancelled before its first step is called all the same."""

        async def app(_: AsyncRegistration, end: AgentEnd) -> None:
            before = asyncio.all_tasks()
            end.freeze("a")
            while not (begun := asyncio.all_tasks() - before):
                await asyncio.sleep(0)
            self.assertEqual(self.called.calls, [])
            begun.pop().cancel()
            answer = await asyncio.to_thread(end.receive)
            self.assertEqual(answer, {"id": "freeze a", "result": {}})

        self.run_app(app)
        self.called.wait_for("broken")

    def test_no_loop(self) -> None:
        """It is started within an event loop."""
        self.assertRaises(RuntimeError, self.registration().start)
