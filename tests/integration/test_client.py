"""The plain form and the asyncio form of the client, against a scripted agent and the real one."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent, eventually
from tests.integration.fake_control import AgentEnd, FakeControl
from tests.integration.hook_client import PATIENCE
from xohook.client import AsyncRegistration, Freeze, Registration, Thaw

#: What ends with its registration in some state: the path, and what the script is to do then.
APP = """
import logging, os, sys, threading, time
from xohook.client import Registration
logging.getLogger().addHandler(logging.NullHandler())
def tell(word):
    os.write(1, word.encode() + b"\\n")
def freeze(freeze):
    tell("freeze")
    {freeze}
def thaw(thaw):
    tell(f"thaw {{thaw.outcome}}")
registration = Registration("orders", freeze=freeze, thaw=thaw, control=sys.argv[1])
registration.start()
{main}
"""

#: Seconds that an app has for its end: more than it is given by the client, far less than forever.
PROMPT = 20.0


def open_files() -> list[str]:
    """List this process's sockets and pipes.

    :return: what each is.
    """
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(each))  # noqa: PTH115 - Path.readlink() makes paths of them.
        except FileNotFoundError:
            # It was the listing's own.
            continue
    return sorted(each for each in found if each.startswith(("socket:", "pipe:")))


class Called:
    """Callbacks of the plain form, which note their calls and do what a test says."""

    def __init__(self) -> None:
        self.calls: list[Freeze | Thaw] = []
        self.on_freeze: Callable[[], object] = bool
        self.on_thaw: Callable[[], object] = bool

    def freeze(self, freeze: Freeze) -> object:
        """Note it.

        :param freeze: what the client gave.
        :return: what the test gave.
        """
        self.calls.append(freeze)
        return self.on_freeze()

    def thaw(self, thaw: Thaw) -> None:
        """Note it.

        :param thaw: what the client gave.
        """
        self.calls.append(thaw)
        self.on_thaw()

    @property
    def outcomes(self) -> list[str]:
        """The outcome of each thaw, in order."""
        return [each.outcome for each in self.calls if isinstance(each, Thaw)]

    def wait_for(self, *outcomes: str) -> None:
        """Wait until that many thaws were called, and see that each freeze has one.

        :param outcomes: the outcome of each.
        :raises AssertionError: where it is otherwise.
        """
        eventually(lambda: len(self.outcomes) >= len(outcomes), f"thawed {outcomes}")
        windows = [each.window for each in self.calls]
        kinds = [type(each) for each in self.calls]
        assert self.outcomes == list(outcomes), self.calls
        assert kinds == [Freeze, Thaw] * len(outcomes), self.calls
        assert windows[::2] == windows[1::2], self.calls


class ClientTestCase(SynchronousTestCase):
    """Tests during which the client's log does not go to standard error."""

    def setUp(self) -> None:
        silence = logging.NullHandler()
        logging.getLogger("xohook.client").addHandler(silence)
        self.addCleanup(logging.getLogger("xohook.client").removeHandler, silence)


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


class ExitTests(SynchronousTestCase):
    """The end of a program that has registered, and its children."""

    def setUp(self) -> None:
        self.agent = FakeControl(self)

    def start(self, main: str = "", freeze: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                sys.executable,
                # From Python 3.12 on it warns of a fork beside threads.
                *("-W", "ignore::DeprecationWarning"),
                *("-c", APP.format(main=main, freeze=freeze)),
                self.agent.path,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def assertEnds(self, process: subprocess.Popen[bytes], printed: str = "") -> None:
        """See that a program ends soon, well and silently."""
        out, err = process.communicate(timeout=PROMPT)
        self.assertEqual((process.returncode, err.decode()), (0, ""))
        self.assertEqual(out.decode().split("\n")[:-1], printed.split(", ") if printed else [])

    def test_registering(self) -> None:
        """A program ends while it connects."""
        self.assertEnds(self.start())

    def test_backing_off(self) -> None:
        """A program ends while it waits to try again."""
        self.agent.path.unlink()
        self.assertEnds(self.start("while 'cannot' not in registration.problem: time.sleep(.01)"))

    def test_not_answered(self) -> None:
        """A program ends while the agent does not answer."""
        process = self.start("sys.stdin.read()")
        self.agent.accept().receive()
        self.assertEnds(process)

    def test_frozen(self) -> None:
        """A program that ends while it is frozen is thawed."""
        process = self.start("sys.stdin.read()")
        end = self.agent.accept_registration()
        end.freeze("a")
        end.receive()
        self.assertEnds(process, "freeze, thaw broken")

    def test_descriptors_closed(self) -> None:
        """A program that closes all descriptors is thawed, and registers anew."""
        process = self.start("sys.stdin.read()", freeze="os.closerange(3, 256)")
        end = self.agent.accept_registration()
        end.freeze("a")
        self.assertEqual(end.receive(), {})
        self.agent.accept_registration()
        self.assertEnds(process, "freeze, thaw broken")

    def test_callback_does_not_end(self) -> None:
        """A callback that does not end does not keep a program from its end."""
        process = self.start("sys.stdin.read()", freeze="threading.Event().wait()")
        end = self.agent.accept_registration()
        end.freeze("a")
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"freeze\n")
        self.assertEnds(process)

    def test_broken_pipe(self) -> None:
        """An answer that finds nobody is no program's end, and does not stop it from listening."""
        process = self.start(
            "import signal\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "tell('ready'); sys.stdin.read()"
        )
        end = self.agent.accept_registration()
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"ready\n")
        end.stop_reading()
        end.freeze("a")
        self.assertEqual(process.stdout.readline(), b"freeze\n")
        end.thaw("a")
        self.assertEqual(process.stdout.readline(), b"thaw synced\n")
        self.assertEnds(process)

    def test_fork(self) -> None:
        """The parent's death is seen, whatever its children do; they neither thaw nor close."""
        process = self.start(
            "sys.stdin.readline()\n"
            "if os.fork() == 0:\n"
            "    tell(registration.problem); registration.close(); tell('child')\n"
            "    sys.stdin.read(); os._exit(0)\n"
            "sys.stdin.readline(); os._exit(0)"
        )
        end = self.agent.accept_registration()
        end.freeze("a")
        end.receive()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(3)]
        self.assertEqual(lines, [b"freeze\n", b"it has been closed\n", b"child\n"])
        end.thaw("a")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        # Only now, so that the parent is the one that reads it.
        process.send_signal(signal.SIGKILL)
        self.assertEqual(end.receive(), {})
        self.assertEqual(process.stdout.readline(), b"thaw synced\n")

    def test_fork_in_callback(self) -> None:
        """A child that was forked in a callback does nothing more."""
        process = self.start("sys.stdin.read()", freeze="os.fork()")
        end = self.agent.accept_registration()
        end.freeze("a")
        self.assertEqual(end.receive(), {"id": "freeze a", "result": {}})
        end.thaw("a")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        self.assertEnds(process, "freeze, thaw synced")


class AsyncCalled(Called):
    """The same as coroutine functions."""

    def __init__(self) -> None:
        super().__init__()
        self.in_freeze: Callable[[], Awaitable[object]] = self.nothing
        self.in_thaw: Callable[[], Awaitable[object]] = self.nothing

    async def nothing(self) -> None:
        """Do nothing."""

    async def async_freeze(self, freeze: Freeze) -> None:
        """Note it.

        :param freeze: what the client gave.
        """
        self.freeze(freeze)
        await self.in_freeze()

    async def async_thaw(self, thaw: Thaw) -> None:
        """Note it.

        :param thaw: what the client gave.
        """
        self.thaw(thaw)
        await self.in_thaw()


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
