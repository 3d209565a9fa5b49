"""While a filesystem is frozen the agent writes to no disk and is held up by nothing that does."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from datetime import datetime
from pathlib import Path

from tests.integration.agent import Agent, eventually
from tests.integration.buried_agent import BuriedAgent
from tests.integration.disks import DiskTestCase
from tests.integration.footprint import children
from tests.integration.holds import assert_ended, filesystem, guards
from tests.integration.hook_client import Connection, insecure_context

HUNDREDS = 300
"""Requests of either sort that come during a hold."""


class BuriedTests(DiskTestCase):
    """The agent itself lies on what it freezes."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk = self.make_disk("ext4", 512)

    def make(self) -> BuriedAgent:
        """Make the agent; it has not been started."""
        outside = Path(self.mktemp()).resolve()
        agent = BuriedAgent(self.disk, outside, filesystem(self.disk, "own"))
        self.addCleanup(agent.stop)
        return agent

    def hold(self, agent: Agent) -> None:
        """Have it freeze what it lies on."""
        self.assertEqual(agent.get("/sync").status, 200, agent.log)
        self.assert_frozen(self.disk)

    def answers(self, agent: Agent) -> list[int]:
        """Send a request of every kind, each the agent's first of it, and then hundreds."""
        statuses = []
        strange = {"Authorization": "Bearer d3Jvbmc="}
        for headers in (agent.credentials, strange, {"Accept": "application/json"}, {}):
            for method in ("GET", "HEAD", "POST", "OPTIONS", "BREW"):
                with agent.connect() as connection:
                    statuses.append(connection.request(method, "/nothing", headers).status)
        with agent.connect() as connection:
            statuses.append(connection.get("/sync?token=wrong&vm=other").status)
        with agent.connect() as connection:
            length = {**agent.credentials, "Content-Length": "5"}
            statuses.append(connection.request("POST", "/sync", length).status)
        with agent.connect() as connection:
            connection.send(b"nonsense\r\n\r\n")
            statuses.append(connection.answer().status)
        with socket.create_connection(("127.0.0.1", agent.port)) as plain:
            plain.sendall(b"GET /sync HTTP/1.1\r\n\r\n")
        older = insecure_context()
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        with Connection(agent.port, context=older) as connection:
            statuses.append(connection.get("/sync").status)
        for headers in (agent.credentials, {}):
            for _ in range(HUNDREDS):
                with agent.connect() as connection:
                    statuses.append(connection.get("/nothing", headers).status)
        as_json = {**agent.credentials, "Accept": "application/json"}
        with agent.connect() as connection:
            # Joins the hold; its own /post-sync ends nothing yet.
            statuses.append(connection.get("/sync", as_json).status)
            statuses.append(connection.get("/post-sync", as_json).status)
        return statuses

    #: The answers, in the order in which they are asked for.
    expected = (
        [404] * 5
        + [403] * 15
        + [403, 413, 400, 403]
        + [404] * HUNDREDS
        + [403] * HUNDREDS
        + [200, 200]
    )

    def assert_told_in_order(self, agent: Agent, thawed: float) -> None:
        """See that the log has all that happened in the hold, in order, with its own times."""
        eventually(lambda: "synced" in agent.log, "the log tells of the window")
        agent.wait_for_log(r" [A-Z]+ /nothing 404", 5 + HUNDREDS)
        times = [
            datetime.strptime(found, "%Y-%m-%dT%H:%M:%S%z").timestamp()
            for found in re.findall(r"^(\S+T\S+) \[", agent.log, re.MULTILINE)
        ]
        self.assertEqual(times, sorted(times))
        [frozen] = re.findall(r"^(\S+) .*filesystem:own frozen", agent.log, re.MULTILINE)
        when = datetime.strptime(frozen, "%Y-%m-%dT%H:%M:%S%z").timestamp()
        self.assertLess(when, thawed - 1)

    def go_through(self, agent: Agent) -> None:
        """Have a whole window with all these requests in its hold."""
        self.assertEqual(self.answers(agent), self.expected)
        self.assert_frozen(self.disk)
        # The log's times are whole seconds.
        time.sleep(2)
        thawed = time.time()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assert_let_go()
        self.assert_told_in_order(agent, thawed)

    def test_log_file(self) -> None:
        """Its program, log, state and working directory are frozen, and it imports nothing."""
        agent = self.make()
        agent.start()
        self.hold(agent)
        imported = agent.imports
        self.assertTrue(imported)
        self.go_through(agent)
        self.assertEqual(agent.imports, imported)

    def test_guard_stopped(self) -> None:
        """Its guard is stopped: it thaws in its place before it writes a word of it."""
        agent = self.make()
        agent.start()
        self.hold(agent)
        os.kill(guards(agent, "freezer")[0], signal.SIGSTOP)
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assert_let_go()
        agent.wait_for_log("its guard did not answer; thawed in its place")

    def test_stuck_reader(self) -> None:
        """Its standard output is a full pipe whose reader is stuck on what is frozen."""
        agent = self.make()
        os.mkfifo(agent.log_path)
        reader = subprocess.Popen(
            ["sh", "-c", 'exec cat <"$0" >"$1"', agent.log_path, agent.own_log]
        )
        self.addCleanup(reader.wait)
        self.addCleanup(reader.kill)
        agent.twistd_options = ("-n", "--pidfile=")
        agent.start()
        self.hold(agent)
        filler = os.open(agent.log_path, os.O_WRONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, filler)
        eventually(lambda: _is_full(filler), "the pipe is full")
        self.go_through(agent)

    def test_restart(self) -> None:
        """Killed with its guard, it starts from what is frozen, and thaws that."""
        agent = self.make()
        agent.start()
        self.hold(agent)
        numbers = (agent.pid, *children(agent.pid))
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in numbers:
                os.kill(pid, number)
        agent.wait()
        self.assert_frozen(self.disk)
        # What the test would open for the agent to write to has to lie elsewhere.
        agent.start()
        self.assert_let_go()
        eventually(lambda: "recovered" in agent.log, "the log tells of it")


def _is_full(pipe: int) -> bool:
    """Fill a pipe; nobody takes anything out of it if it stays full for a moment."""
    try:
        os.write(pipe, b"\n" * 4096)
    except BlockingIOError:
        time.sleep(0.5)
        try:
            os.write(pipe, b"\n")
        except BlockingIOError:
            return True
    return False


class StuckTests(DiskTestCase):
    """A program of a participant is stuck on a frozen filesystem; no signal ends it."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk, self.other = self.make_disk(), self.make_disk()

    def start(self) -> Agent:
        """Start an agent with a program that writes to the other filesystem, somebody's frozen."""
        script, self.note = Path(self.mktemp()).resolve(), Path(self.mktemp()).resolve()
        stuck = self.other.mount / "stuck"
        script.write_text(f"#!/bin/sh\necho $$ >{self.note}\necho stuck >{stuck}\n")
        script.chmod(0o755)
        command = f"[command:stuck]\nfreeze = {script}\nthaw = true\norder = 95\n"
        self.other.freeze()
        return Agent.for_test(
            self,
            "hold_limit = 10m\n",
            f"{command}freeze_timeout = 1s\n{filesystem(self.disk, 'own')}",
        )

    def begin(self, agent: Agent) -> tuple[Connection, int]:
        """Have the program stuck; give the connection that waits, and the program."""
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", "/sync", agent.credentials)
        eventually(lambda: self.note.exists() and self.note.read_text(), "the program runs")
        program = int(self.note.read_text())
        eventually(lambda: _state(program) == "D", "the program is stuck")
        self.assert_frozen(self.disk)
        return connection, program

    def test_thaw(self) -> None:
        """The freeze fails in time, and the thaw does not wait for the program."""
        agent = self.start()
        connection, program = self.begin(agent)
        answer = connection.answer()
        self.assertEqual(answer.status, 500)
        self.assertIn(b"command:stuck: not done within 1s", answer.body)
        self.assert_let_go(self.disk)
        self.assertEqual(_state(program), "D")
        self.assertEqual(agent.get("/nothing").status, 404)
        self.other.thaw()
        assert_ended(program)

    def test_shutdown(self) -> None:
        """The agent ends though the program does not."""
        agent = self.start()
        _, program = self.begin(agent)
        agent.kill(signal.SIGTERM)
        agent.wait()
        self.assert_let_go(self.disk)
        self.assertEqual(_state(program), "D")
        self.other.thaw()
        assert_ended(program)


def _state(pid: int) -> str:
    """Tell a process's state (proc(5)); D is a wait that no signal ends."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
