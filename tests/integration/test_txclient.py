"""The form of the client for Twisted, against a scripted agent and the real one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.agent import Agent
from tests.integration.fake_control import AgentEnd, FakeControl
from xohook.client import Freeze, Thaw
from xohook.txclient import Registration


class RegistrationTests(TestCase):
    """The service. The agent's end blocks, in threads beside the reactor."""

    def setUp(self) -> None:
        self.calls: list[Freeze | Thaw] = []
        self.on_freeze: Callable[[], object] = bool
        self.on_thaw: Callable[[], object] = bool

    def freeze(self, freeze: Freeze) -> object:
        self.calls.append(freeze)
        return self.on_freeze()

    def thaw(self, thaw: Thaw) -> object:
        self.calls.append(thaw)
        return self.on_thaw()

    @property
    def outcomes(self) -> list[str]:
        return [each.outcome for each in self.calls if isinstance(each, Thaw)]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is so; the test's own timeout is the end of it."""
        while not true():
            await deferLater(reactor, 0.01)

    def start(self, control: object) -> Registration:
        registration = Registration(
            reactor,
            "orders",
            freeze=self.freeze,
            thaw=self.thaw,
            order=7,
            control=str(control),
        )
        registration.startService()
        self.addCleanup(lambda: registration.running and registration.stopService())
        return registration

    async def registered(self) -> tuple[Registration, AgentEnd]:
        self.agent = FakeControl(self)
        registration = self.start(self.agent.path)
        self.assertIn("not answered", registration.problem)
        end = await deferToThread(self.agent.accept_registration)
        self.assertTrue(await registration.wait())
        self.assertEqual((registration.registered, registration.problem), (True, ""))
        return registration, end

    async def asked_to_freeze(self, hold: float = 1000) -> tuple[Registration, AgentEnd]:
        """Be asked, and wait until the freeze was called."""
        registration, end = await self.registered()
        end.freeze("a", hold)
        await self.until(lambda: self.calls)
        return registration, end

    async def test_round(self) -> None:
        """Freezes and thaws are called in turn, and answered when their Deferreds have fired."""
        registration, end = await self.registered()
        freezing: Deferred[None] = Deferred()
        self.on_freeze = lambda: freezing
        end.freeze("a")
        await self.until(lambda: self.calls)
        freezing.callback(None)
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "freeze a", "result": {}})
        end.thaw("a")
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "thaw a", "result": {}})
        self.assertEqual(self.calls, [Freeze("a", 1000, 1000), Thaw("a", "synced")])
        self.assertTrue(await registration.wait())

    async def test_coroutines(self) -> None:
        """A callback may be a coroutine function."""

        async def nothing() -> None:
            await succeed(None)

        self.on_freeze = nothing
        _, end = await self.registered()
        end.freeze("a")
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "freeze a", "result": {}})

    async def test_callback_raises(self) -> None:
        """A callback that raises is a failed freeze, which is thawed."""

        def fail() -> None:
            raise OSError("no\nroom")

        self.on_freeze = self.on_thaw = fail
        _, end = await self.registered()
        error = {"code": -32000, "message": "OSError: no room"}
        end.freeze("a")
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "freeze a", "error": error})
        end.thaw("a", "failed")
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "thaw a", "error": error})
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
        self.assertEqual(self.outcomes, ["failed"])

    async def test_thaw_while_freezing(self) -> None:
        """A thaw that comes during the freeze cancels it where that is asked for."""
        cancelled: list[object] = []
        self.on_freeze = lambda: Deferred(cancelled.append)
        registration, end = await self.asked_to_freeze()
        registration.cancel_freeze = True
        end.thaw("a", "cancelled")
        answer = await deferToThread(end.receive)
        self.assertEqual(answer["error"]["message"], "CancelledError")
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "thaw a", "result": {}})
        self.assertEqual((len(cancelled), self.outcomes), (1, ["cancelled"]))

    async def test_thaw_after_freeze(self) -> None:
        """Else it waits for the freeze, which may run in a thread."""
        freezing: Deferred[None] = Deferred()
        self.on_freeze = lambda: freezing
        _, end = await self.asked_to_freeze()
        end.thaw("a", "cancelled")
        await deferLater(reactor, 0.1)
        self.assertEqual(self.outcomes, [])
        freezing.callback(None)
        self.assertIn("was over", (await deferToThread(end.receive))["error"]["message"])
        self.assertEqual(await deferToThread(end.receive), {"id": "thaw a", "result": {}})

    async def test_generator(self) -> None:
        """A generator, for a decorator that was forgotten, is a failed freeze."""

        def generator() -> Iterator[None]:
            yield

        self.on_freeze = generator
        _, end = await self.registered()
        end.freeze("a")
        answer = await deferToThread(end.receive)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertIn("which nobody runs", answer["error"]["message"])

    async def test_broken(self) -> None:
        """The end of the connection thaws; it registers anew when the thaw has ended."""
        thawing: Deferred[None] = Deferred()
        self.on_thaw = lambda: thawing
        registration, end = await self.asked_to_freeze()
        end.close()
        await self.until(lambda: self.outcomes)
        thawing.callback(None)
        self.assertEqual(self.outcomes, ["broken"])
        await deferToThread(self.agent.accept_registration)
        self.assertTrue(await registration.wait())

    async def test_expired(self) -> None:
        """An agent that is silent for too long, though connected, is not waited for."""
        _, end = await self.asked_to_freeze(hold=0.2)
        await self.until(lambda: self.outcomes)
        self.assertEqual(self.outcomes, ["expired"])
        end.thaw("a")
        await deferToThread(end.receive)
        answer = await deferToThread(end.receive)
        self.assertEqual(answer, {"id": "thaw a", "result": {}})
        self.assertEqual(len(self.calls), 2)

    async def test_refused(self) -> None:
        """A refusal, or nonsense, closes the connection, and it tries again."""
        self.agent = FakeControl(self)
        registration = self.start(self.agent.path)
        answers = (b'{"jsonrpc":"2.0","id":1,"error":{"message":"it is taken"}}\n', b"nonsense\n")
        for answer in answers:
            end = await deferToThread(self.agent.accept)
            await deferToThread(end.receive)
            end.send(answer)
            self.assertEqual(await deferToThread(end.receive), {})
        await deferToThread(self.agent.accept_registration)
        self.assertTrue(await registration.wait())

    async def test_no_agent(self) -> None:
        """Where there is no agent it says what to look at, and stops at once."""
        self.agent = FakeControl(self)
        self.agent.path.unlink()
        registration = self.start(self.agent.path)
        waiting = registration.wait()
        await self.until(lambda: "cannot connect" in registration.problem)
        self.assertIn("No such file", registration.problem)
        self.assertIn("is the agent running", registration.problem)
        await registration.stopService()
        self.assertFalse(await waiting)
        self.assertFalse(await registration.wait())
        self.assertEqual(registration.problem, "it has been closed")

    async def test_busy(self) -> None:
        """A socket that takes nobody at the moment is told in one line of words."""
        path = FakeControl(self).path
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = socket.socket(socket.AF_UNIX)
                self.addCleanup(waiting.close)
                waiting.setblocking(False)
                waiting.connect(str(path))
        registration = self.start(path)
        await self.until(lambda: "cannot connect" in registration.problem)
        self.assertEqual(
            registration.problem,
            f"cannot connect to the agent at {path} (Resource temporarily unavailable)",
        )

    async def test_stop_while_connecting(self) -> None:
        """It stops before it is connected, and can be started again."""
        self.agent = FakeControl(self)
        registration = self.start(self.agent.path)
        await registration.stopService()
        registration.startService()
        await self.until(lambda: True)
        ends = [await deferToThread(self.agent.accept)]
        request = await deferToThread(ends[0].receive)
        self.assertEqual(request["params"], {"name": "orders", "order": 7})

    async def test_stop_while_frozen(self) -> None:
        """Stopped, it thaws, and has stopped when the thaw has ended."""
        thawing: Deferred[None] = Deferred()
        self.on_thaw = lambda: thawing
        registration, end = await self.asked_to_freeze()
        await deferToThread(end.receive)
        stopped = registration.stopService()
        self.assertEqual(await deferToThread(end.receive), {})
        self.assertEqual(self.outcomes, ["broken"])
        self.assertNoResult(stopped)
        thawing.callback(None)
        await stopped

    async def test_stop_while_freezing(self) -> None:
        """A freeze that runs when it is stopped is cancelled, and thawed."""
        self.on_freeze = Deferred
        registration, _ = await self.asked_to_freeze()
        await registration.stopService()
        self.assertEqual(self.outcomes, ["broken"])

    async def test_stop_while_overdue(self) -> None:
        """A freeze that outlasts its window does not outlast the service."""
        self.on_freeze = Deferred
        registration, end = await self.asked_to_freeze()
        end.thaw("a", "cancelled")
        # Its answer shows that the thaw was read.
        end.tell(id=1, method="unknown")
        await deferToThread(end.receive)
        self.assertEqual(self.outcomes, [])
        await registration.stopService()
        self.assertEqual(self.outcomes, ["cancelled"])

    async def test_stop_in_callback(self) -> None:
        """It can be stopped within a callback."""
        registration, end = await self.registered()

        def stop() -> None:
            registration.stopService()

        self.on_freeze = stop
        end.freeze("a")
        self.assertEqual(await deferToThread(end.receive), {})
        await self.until(lambda: self.outcomes)
        self.assertEqual(self.outcomes, ["broken"])

    async def test_fork(self) -> None:
        """The end of the connection is seen, though a child was forked meanwhile."""
        registration, end = await self.registered()
        theirs, ours = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            os.read(theirs, 1)
            os._exit(0)
        # From Python 3.12 on it warns of a fork beside threads.
        self.flushWarnings()
        self.addCleanup(os.waitpid, child, 0)
        self.addCleanup(os.close, ours)
        os.close(theirs)
        await registration.stopService()
        self.assertEqual(await deferToThread(end.receive), {})

    async def test_killed(self) -> None:
        """With the real agent: killed, it leaves nothing frozen, and the app registers anew."""
        agent: Any = await deferToThread(Agent.for_test, self)
        registration = self.start(agent.control)
        for outcome in ("broken", "broken"):
            self.assertTrue(await registration.wait())
            answer = await deferToThread(agent.get, "/sync")
            self.assertEqual(answer.status, 200)
            agent.kill()
            await deferToThread(agent.wait)
            await self.until(lambda: not registration.registered)
            self.assertEqual(self.outcomes[-1], outcome)
            await deferToThread(agent.start)
        self.assertTrue(await registration.wait())
        self.assertEqual(len(self.calls), 4)
