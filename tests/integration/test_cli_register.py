"""Tests for ``xohook register``, with real agents and programs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.integration.agent import COMMAND, Agent, eventually
from tests.integration.asking import AskedTestCase
from tests.integration.hook_client import PATIENCE
from xohook.host.pids import start_time


class RegisterTestCase(AskedTestCase):
    """A ``xohook register`` that ends with the test."""

    launcher: tuple[str, ...] = ()
    """What it is run by."""

    def setUp(self) -> None:
        super().setUp()
        self.messages = self.programs.directory / "said"

    def register(
        self, *arguments: str | Path, name: str = "orders", **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start it; what it says goes to :attr:`said`."""
        with self.messages.open("ab") as said:
            process = subprocess.Popen(
                [
                    *(*self.launcher, sys.executable, "-c", COMMAND),
                    *("register", "--name", name, *arguments),
                ],
                env=self.environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End it, if its test did not."""
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        self.assertNotIn("Traceback", self.said)

    @property
    def said(self) -> str:
        return self.messages.read_text()

    def registered(self, agent: Agent) -> list[dict[str, Any]]:
        done = self.ask("status", "--json", "-c", str(agent.configuration), status=None)
        apps: list[dict[str, Any]] = json.loads(done)["apps"]
        return apps

    def wait_for_registration(self, agent: Agent, count: int = 1) -> None:
        agent.wait_for_log(r"app orders .* registered", count)

    def pair(self, freeze: str = "", thaw: str = "") -> tuple[str, ...]:
        """Write the two programs, which note each phase and how it ended, then do this."""
        note = 'note "$XOHOOK_PHASE" $XOHOOK_OUTCOME'
        return (
            "--freeze",
            str(self.programs.write("freeze", note, freeze)),
            "--thaw",
            str(self.programs.write("thaw", note, thaw)),
        )

    def agent_and_app(
        self, *pair: str, sections: str = "[app:orders]"
    ) -> tuple[Agent, subprocess.Popen[bytes]]:
        """Start both, and wait until the app is registered."""
        agent = self.agent_with(sections)
        app = self.register(*pair, "-c", agent.configuration)
        self.wait_for_registration(agent)
        return agent, app

    def line_of_app(self, agent: Agent) -> str:
        """Tell what /sync says of the app, whose freeze fails."""
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        [line] = [each for each in answer.body.decode().splitlines() if "app:orders" in each]
        return line


class WindowTests(RegisterTestCase):
    """The two programs take part in windows."""

    def test_window(self) -> None:
        """One freezes and the other thaws, each told what for, with nothing on its input."""
        show = 'note "$XOHOOK_WINDOW" "$XOHOOK_TIMEOUT" "$PLACE" "$(cat)" "$(pwd)" "$NOTIFY_SOCKET"'
        freeze, thaw = (str(self.programs.write(each, show)) for each in ("freeze", "thaw"))
        agent = self.agent_with("[app:orders]")
        self.register(
            *("--freeze", f"{freeze} 'two words'", "--thaw", thaw),
            *("--freeze-timeout", "7s", "--thaw-timeout", "2m", "-c", agent.configuration),
            PLACE="here",
            NOTIFY_SOCKET="/nowhere",
        )
        self.wait_for_registration(agent)
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200)
        window, *_ = self.programs.journal[0].split()
        rest = f"here  {Path.cwd()} "
        self.assertEqual(self.programs.journal, [f"{window} 7 {rest}", f"{window} 120 {rest}"])
        agent.wait_for_outcomes("synced")

    def test_wishes(self) -> None:
        """What it asks for reaches the agent."""
        agent = self.agent_with()
        self.register(
            *("--thaw", "true", "--order", "7", "--freeze-timeout", "500ms"),
            *("--thaw-timeout", "2m", "--on-failure", "continue", "-c", agent.configuration),
        )
        self.wait_for_registration(agent)
        [app] = self.registered(agent)
        self.assertEqual(
            {key: app[key] for key in ("order", "freeze_timeout", "thaw_timeout", "on_failure")},
            {"order": 7, "freeze_timeout": 0.5, "thaw_timeout": 120.0, "on_failure": "continue"},
        )

    def test_one_program(self) -> None:
        """Either program may be left out."""
        agent = self.agent_with("[app:orders]\n[app:bills]")
        pair = self.pair()
        self.register(*pair[:2], "-c", agent.configuration)
        self.register(*pair[2:], "-c", agent.configuration, name="bills")
        self.wait_for_registration(agent)
        agent.wait_for_log("app bills .* registered")
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200)
        self.assertEqual(self.programs.journal, ["freeze", "thaw synced"])

    def test_failed_freeze(self) -> None:
        """A freeze that ends badly fails the window with its last line, and is thawed."""
        agent, _ = self.agent_and_app(*self.pair("echo first; echo no room >&2; exit 3"))
        self.assertIn("exit status 3: no room", self.line_of_app(agent))
        self.programs.wait_for("freeze", "thaw failed")
        self.assertIn("exit status 3: no room", self.said)

    def test_killed_freeze(self) -> None:
        """A freeze that a signal ends is told as such."""
        agent, _ = self.agent_and_app(*self.pair("kill -KILL $$"))
        self.assertIn("ended by SIGKILL", self.line_of_app(agent))

    def test_vanished_program(self) -> None:
        """A program that is gone by then is a failed freeze."""
        pair = self.pair()
        agent, _ = self.agent_and_app(*pair)
        Path(pair[1]).unlink()
        self.assertIn(f"cannot run {pair[1]}: No such file", self.line_of_app(agent))

    def test_failed_thaw(self) -> None:
        """A thaw that ends badly is told by the agent."""
        agent, _ = self.agent_and_app(*self.pair(thaw="echo stays; exit 4"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 500)
        agent.wait_for_log("app:orders NOT THAWED: .*exit status 4: stays")

    def test_much_output(self) -> None:
        """A program that writes without end does not wait for anybody, and is not kept whole."""
        agent, app = self.agent_and_app(
            *self.pair("head -c 50000000 /dev/zero; echo; echo x; false")
        )
        self.assertIn("exit status 1: x", self.line_of_app(agent))
        peak = Path(f"/proc/{app.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        self.assertLess(int(peak), 100_000)

    def test_daemon_left_behind(self) -> None:
        """A program has ended when it has, whoever else holds its output."""
        agent, _ = self.agent_and_app(*self.pair('sleep 1000 & echo $! >"$0.child"'))
        self.assertEqual(agent.get("/sync").status, 200)
        os.kill(self.programs.number("freeze.child"), signal.SIGKILL)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_cancelled_freeze(self) -> None:
        """Where the thaw comes first, the group of the freeze ends, by SIGKILL if need be."""
        freeze = 'trap "" TERM; sleep 1000 & echo $! >"$0.child"; wait; wait; note late'
        agent, _ = self.agent_and_app(*self.pair(freeze))
        connection = self.start(agent, "/sync")
        child = self.programs.number("freeze.child")
        self.ask("thaw", "-c", str(agent.configuration))
        self.assertEqual(connection.answer().status, 500)
        self.assertIsNone(start_time(child))
        self.assertEqual(self.programs.journal, ["freeze", "thaw stopped"])

    def test_slow_freeze(self) -> None:
        """Past its time a freeze is ended, even where the window goes on without it."""
        freeze = 'sleep 1000 & echo $! >"$0.child"; wait'
        agent = self.agent_with("[app:orders]\non_failure = continue")
        self.register(*self.pair(freeze), "--freeze-timeout", "1s", "-c", agent.configuration)
        self.wait_for_registration(agent)
        self.assertEqual(agent.get("/sync").status, 200)
        child = self.programs.number("freeze.child")
        eventually(lambda: start_time(child) is None, "the freeze has ended")
        self.assertEqual(self.programs.journal, ["freeze"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze", "thaw synced"])


class EndTests(RegisterTestCase):
    """Whatever ends, what is frozen is thawed."""

    def held(self, *pair: str) -> tuple[Agent, subprocess.Popen[bytes]]:
        agent, app = self.agent_and_app(*(pair or self.pair()))
        self.assertEqual(agent.get("/sync").status, 200)
        return agent, app

    def test_agent_killed(self) -> None:
        """When the agent dies in a hold the thaw is run; its next start finds the app again."""
        agent, _ = self.held()
        agent.kill()
        self.programs.wait_for("thaw broken")
        agent.wait()
        agent.start()
        self.wait_for_registration(agent, 2)
        self.assertEqual(self.programs.journal, ["freeze", "thaw broken"])
        # The agent knows of it a moment before the app.
        eventually(lambda: "orders: registered again with" in self.said, "the app says so")
        self.assertIn("orders: lost the agent: ", self.said)
        self.assertEqual(self.said.count("orders: registered with"), 1)

    def test_agent_silent(self) -> None:
        """When the agent is silent until the hold is over, the thaw is run."""
        agent = self.agent_with("[app:orders]", options="hold_limit = 1s\nfreeze_budget = 1s")
        self.register(*self.pair(), "-c", agent.configuration)
        self.wait_for_registration(agent)
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill(signal.SIGSTOP)
        self.programs.wait_for("thaw expired")
        agent.kill(signal.SIGCONT)
        agent.wait_for_log("window .* (broken|expired)")
        self.assertEqual(self.programs.journal, ["freeze", "thaw expired"])

    def test_terminated(self) -> None:
        """SIGTERM, SIGINT and SIGHUP in a hold thaw, and end it well; the window is broken."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                agent, app = self.held()
                app.send_signal(number)
                self.assertEqual(app.wait(PATIENCE), 0, self.said)
                self.assertEqual(self.programs.journal, ["freeze", "thaw broken"])
                agent.wait_for_outcomes("broken")
                agent.stop()
                self.programs.clear()

    def test_terminated_while_freezing(self) -> None:
        """SIGTERM in a freeze ends that program before the thaw is run."""
        agent, app = self.agent_and_app(
            *self.pair('trap "note told; exit" TERM; sleep 1000 & wait')
        )
        connection = self.start(agent, "/sync")
        self.programs.wait_for("freeze")
        app.terminate()
        self.assertEqual(app.wait(PATIENCE), 0, self.said)
        self.assertEqual(connection.answer().status, 500)
        self.assertEqual(self.programs.journal, ["freeze", "told", "thaw broken"])

    def test_terminated_in_vain(self) -> None:
        """With nothing frozen it just ends, and likewise while there is no agent."""
        agent, app = self.agent_and_app(*self.pair())
        app.terminate()
        self.assertEqual(app.wait(PATIENCE), 0)
        agent.stop()
        app = self.register(*self.pair(), "-c", agent.configuration)
        eventually(lambda: "orders: not registered: cannot connect" in self.said, "it says so")
        app.terminate()
        self.assertEqual(app.wait(PATIENCE), 0)
        self.assertEqual(self.programs.journal, [])

    def test_hangup_ignored(self) -> None:
        """Under nohup it stays."""
        agent = self.agent_with()
        app = self.register_ignoring(signal.SIGHUP, agent)
        app.send_signal(signal.SIGHUP)
        self.assertEqual(len(self.registered(agent)), 1)
        self.assertIsNone(app.poll())

    def register_ignoring(self, number: signal.Signals, agent: Agent) -> subprocess.Popen[bytes]:
        before = signal.signal(number, signal.SIG_IGN)
        try:
            app = self.register(*self.pair(), "-c", agent.configuration)
        finally:
            signal.signal(number, before)
        self.wait_for_registration(agent)
        return app


class StartTests(RegisterTestCase):
    """What keeps it from starting, and what it tells when it has."""

    def refused(self, *arguments: str, status: int = 2) -> str:
        return self.ask("register", *arguments, status=status)

    def test_wrong_usage(self) -> None:
        """Wrong usage exits 2, with what is allowed."""
        name = ("--name", "orders")
        for arguments, words in (
            (name, "give --freeze or --thaw, or both"),
            (("--freeze", "true"), "Missing option '--name'"),
            (("--name", "a b", "--freeze", "true"), "1 to 64 of A-Z a-z 0-9 . _ -"),
            ((*name, "--freeze", "'open"), "left open at the end"),
            ((*name, "--freeze", " "), "it is empty"),
            ((*name, "--freeze", "'' x"), "the program's name is empty"),
            ((*name, "--freeze", "true", "--order", "1000"), "0<=x<=999"),
            ((*name, "--freeze", "true", "--thaw-timeout", "30"), "a number and its unit"),
            ((*name, "--freeze", "true", "--on-failure", "cry"), "abort"),
        ):
            self.assertIn(words, self.refused(*arguments))

    def test_missing_program(self) -> None:
        """A program that cannot be run is told at the start."""
        here = Path(self.mktemp()).resolve()
        here.write_text("#!/bin/sh\n")
        for program, words in (
            ("no-such-program", f"in {os.environ['PATH']}"),
            (f"{here}.not", "there is no program of that name that user"),
            (str(here), "make it executable"),
        ):
            said = self.refused("--name", "orders", "--thaw", program, status=1)
            self.assertIn(program, said)
            self.assertIn(words, said)

    def test_no_control(self) -> None:
        """Where the agent is to have no socket, it says so and ends."""
        agent = Agent(Path(self.mktemp()).resolve(), "control = no")
        file = str(agent.configuration)
        said = self.refused("--name", "orders", "--thaw", "true", "-c", file, status=1)
        self.assertIn("set control = yes", said)

    def test_refused(self) -> None:
        """An agent that refuses is told why, once, and asked again."""
        agent, first = self.agent_and_app(*self.pair())
        self.register(*self.pair(), "-c", agent.configuration)
        eventually(lambda: "orders is taken by process" in self.said, "it is told why")
        self.end(first)
        self.wait_for_registration(agent, 2)
        self.assertEqual(self.said.count("is taken by process"), 1)

    def test_ready(self) -> None:
        """Once it is registered, systemd hears that it is ready."""
        with (
            tempfile.TemporaryDirectory(prefix="xohook-") as directory,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        ):
            systemd.bind(f"{directory}/notify")
            systemd.settimeout(PATIENCE)
            agent = self.agent_with()
            agent.stop()
            self.register(
                *self.pair(), "-c", agent.configuration, NOTIFY_SOCKET=f"{directory}/notify"
            )
            eventually(lambda: "not registered: " in self.said, "it is told why")
            agent.start()
            self.assertEqual(systemd.recv(100), b"READY=1")
            self.assertEqual(len(self.registered(agent)), 1)
