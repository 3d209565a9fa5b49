"""The plain style of the client, against a scripted agent."""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections.abc import Iterator
from typing import Any

from tests.integration.agent import eventually
from tests.integration.client_calls import Called, ClientTestCase, open_files
from tests.integration.fake_control import AgentEnd, FakeControl
from tests.integration.hook_client import PATIENCE
from xohook.client import Freeze, Registration


class RegistrationTests(ClientTestCase):
    """The plain form, on its thread."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = FakeControl(self)
        self.called = Called()
        self.threads = threading.enumerate()

    def register(self, **wishes: Any) -> Registration:
        registration = Registration(
            "orders",
            freeze=self.called.freeze,
            thaw=self.called.thaw,
            control=self.agent.path,
            **wishes,
        )
        self.addCleanup(self.assertEqual, threading.enumerate(), self.threads)
        self.addCleanup(registration.close)
        registration.start()
        return registration

    def registered(self) -> tuple[Registration, AgentEnd]:
        registration = self.register()
        end = self.agent.accept_registration()
        self.assertTrue(registration.wait(PATIENCE))
        return registration, end

    def frozen(self) -> tuple[Registration, AgentEnd]:
        registration, end = self.registered()
        end.freeze("a")
        self.assertEqual(end.receive(), {"id": "freeze a", "result": {}})
        return registration, end

    def test_register(self) -> None:
        """It registers the name with its wishes, and says so."""
        registration = self.register(order=7, thaw_timeout=2.5)
        end = self.agent.accept()
        self.assertFalse(registration.registered)
        self.assertIn("not answered", registration.problem)
        request = end.receive()
        self.assertEqual(request["params"], {"name": "orders", "order": 7, "thaw_timeout": 2.5})
        end.tell(id=request["id"], result={})
        self.assertTrue(registration.wait())
        self.assertEqual((registration.registered, registration.problem), (True, ""))

    def test_round(self) -> None:
        """Freezes and thaws are called in turn, and answered."""
        _, end = self.frozen()
        end.thaw("a")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        end.freeze("b", hold=123)
        end.receive()
        end.thaw("b", "failed")
        end.receive()
        self.called.wait_for("synced", "failed")
        self.assertEqual(self.called.calls[2], Freeze("b", timeout=1000, hold=123))

    def test_callback_raises(self) -> None:
        """Whatever a callback raises is the answer, and neither the thread nor the rule ends."""

        def fail() -> None:
            raise SystemExit("no\nroom")

        self.called.on_freeze = self.called.on_thaw = fail
        _, end = self.registered()
        error = {"code": -32000, "message": "SystemExit: no room"}
        for window in ("a", "b"):
            with self.assertLogs("xohook.client", "ERROR") as logged:
                end.freeze(window)
                self.assertEqual(end.receive(), {"id": f"freeze {window}", "error": error})
                end.thaw(window, "failed")
                self.assertEqual(end.receive(), {"id": f"thaw {window}", "error": error})
            self.assertIn("Traceback", logged.output[0])
        self.called.wait_for("failed", "failed")

    def test_broken(self) -> None:
        """The end of the connection thaws; it registers anew and can be frozen again."""
        registration, end = self.frozen()
        end.close()
        self.called.wait_for("broken")
        end = self.agent.accept_registration()
        self.assertTrue(registration.wait(PATIENCE))
        end.freeze("b")
        end.receive()
        end.thaw("b")
        end.receive()
        self.called.wait_for("broken", "synced")

    def test_broken_while_freezing(self) -> None:
        """A freeze during which the connection ends is let run to its end, and then thawed."""
        let_on = threading.Event()
        self.called.on_freeze = let_on.wait
        _, end = self.registered()
        end.freeze("a")
        eventually(lambda: self.called.calls, "it freezes")
        end.close()
        self.assertEqual(self.called.outcomes, [])
        let_on.set()
        self.called.wait_for("broken")

    def test_thaw_while_freezing(self) -> None:
        """A thaw that comes during the freeze follows it, and the freeze has failed."""
        let_on = threading.Event()
        self.called.on_freeze = let_on.wait
        _, end = self.registered()
        end.freeze("a")
        eventually(lambda: self.called.calls, "it freezes")
        end.thaw("a", "cancelled")
        let_on.set()
        answer = end.receive()
        self.assertEqual(answer["id"], "freeze a")
        self.assertIn("was over before the freeze was done", answer["error"]["message"])
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        self.called.wait_for("cancelled")

    def test_coroutine_function(self) -> None:
        """What nobody would run has failed, in words."""

        async def never_run() -> None:
            raise AssertionError

        def generator() -> Iterator[None]:
            yield

        for wrong in (never_run, generator):
            self.called.on_freeze = wrong
            with self.assertLogs("xohook.client", "ERROR"):
                registration, end = self.registered()
                end.freeze("a")
                answer = end.receive()
            self.assertIn("which nobody runs", answer["error"]["message"])
            registration.close()

    def test_log_that_fails(self) -> None:
        """A handler of the log that raises changes nothing."""

        class Full(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise OSError("no space left")

        log = logging.getLogger("xohook.client")
        handler = Full()
        log.addHandler(handler)
        self.addCleanup(log.removeHandler, handler)

        def fail() -> None:
            raise ValueError("no")

        self.called.on_freeze = fail
        _, end = self.registered()
        end.freeze("a")
        self.assertIn("ValueError", end.receive()["error"]["message"])
        end.thaw("a", "failed")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        self.called.wait_for("failed")

    def test_thaw_before_end(self) -> None:
        """What the agent said before its end counts, though the answer finds nobody."""
        let_on = threading.Event()
        self.called.on_freeze = let_on.wait
        _, end = self.registered()
        end.freeze("a")
        eventually(lambda: self.called.calls, "it freezes")
        end.thaw("a", "stopped")
        end.close()
        let_on.set()
        self.called.wait_for("stopped")

    def test_expired(self) -> None:
        """An agent that is silent for too long, though connected, is not waited for."""
        _, end = self.registered()
        end.freeze("a", hold=0.2)
        self.called.wait_for("expired")
        self.assertEqual(end.receive(), {"id": "freeze a", "result": {}})
        # The agent goes on.
        end.thaw("a")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        self.called.wait_for("expired")

    def test_agent_does_not_read(self) -> None:
        """Answers that cannot be sent hold nothing up."""
        _, end = self.registered()
        many = 10_000
        end.send(b'{"jsonrpc":"2.0","id":1,"method":"unknown"}\n' * many)
        end.freeze("a", hold=0.2)
        self.called.wait_for("expired")
        answers = [end.receive()["id"] for _ in range(many + 1)]
        self.assertEqual(answers, [*[1] * many, "freeze a"])

    def test_refused(self) -> None:
        """A refusal is told and closes the connection, and it tries again."""
        registration = self.register()
        with self.assertLogs("xohook.client", "WARNING") as logged:
            for _ in range(3):
                end = self.agent.accept()
                request = end.receive()
                end.tell(id=request["id"], error={"code": -32002, "message": "it is taken"})
                self.assertEqual(end.receive(), {})
            self.agent.accept_registration()
            self.assertTrue(registration.wait(PATIENCE))
        self.assertEqual(len(logged.output), 1)
        self.assertIn("orders: it is taken", logged.output[0])

    def test_nonsense(self) -> None:
        """An agent that makes no sense is left, and tried again."""
        registration, end = self.frozen()
        end.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(end.receive(), {})
        self.called.wait_for("broken")
        self.assertIn("makes no sense", registration.problem)
        self.agent.accept_registration()

    def test_high_descriptors(self) -> None:
        """Descriptors above 1,023, which select(2) does not know, will do."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1024):
            self.addCleanup(os.close, os.dup(0))
        self.test_round()

    def test_close(self) -> None:
        """Closed, it thaws, leaves no thread and no file, and says so; twice is no harm."""
        before = open_files()
        registration, end = self.frozen()
        registration.close()
        registration.close()
        self.called.wait_for("broken")
        self.assertEqual(end.receive(), {})
        end.close()
        self.assertEqual(open_files(), before)
        self.assertEqual(threading.enumerate(), self.threads)
        self.assertEqual(
            (registration.registered, registration.problem), (False, "it has been closed")
        )
        self.assertFalse(registration.wait())
        self.assertRaises(RuntimeError, registration.start)

    def test_close_in_callback(self) -> None:
        """Closed within a callback, it does not wait for itself."""
        registration, end = self.registered()
        self.called.on_freeze = registration.close
        # What close() raised would be logged.
        with self.assertNoLogs("xohook.client", "ERROR"):
            end.freeze("a")
            self.assertEqual(end.receive(), {})
            self.called.wait_for("broken")

    def test_close_during_callback(self) -> None:
        """Closed while a callback does not end, it lets the caller go; the thaw comes yet."""
        let_on = threading.Event()
        self.called.on_freeze = let_on.wait
        registration, end = self.registered()
        end.freeze("a")
        eventually(lambda: self.called.calls, "it freezes")
        registration.close()
        self.assertEqual(end.receive(), {})
        self.assertEqual(self.called.outcomes, [])
        let_on.set()
        self.called.wait_for("broken")

    def test_started_twice(self) -> None:
        """It is started once, and is a context manager."""
        registration, _ = self.registered()
        self.assertRaises(RuntimeError, registration.start)
        with self.assertRaises(RuntimeError), registration:
            self.fail("not reached")

    def test_no_agent(self) -> None:
        """Where there is no agent it says what to look at, and closes at once."""
        self.agent.path.unlink()
        registration = self.register()
        eventually(lambda: "cannot connect" in registration.problem, "it has tried")
        self.assertIn("is the agent running", registration.problem)
        self.assertFalse(registration.wait(0))

    def test_environment(self) -> None:
        """It finds the agent by the environment, unless the path is given or the variable empty."""
        self.patch(os, "environ", {"XOHOOK_CONTROL": str(self.agent.path)})
        registration = Registration("orders", freeze=bool, thaw=bool)
        with registration:
            self.agent.accept_registration()
            self.assertTrue(registration.wait(PATIENCE))
        os.environ["XOHOOK_CONTROL"] = ""
        with Registration("orders", freeze=bool, thaw=bool) as registration:
            eventually(lambda: "cannot connect" in registration.problem, "it has tried")
            self.assertIn("/run/xohook/control.sock", registration.problem)
