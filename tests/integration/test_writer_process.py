"""The writers themselves: what they have open, how they end, and what comes after them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent, accepts, eventually
from tests.integration.footprint import writers
from tests.integration.hook_client import PATIENCE
from tests.integration.programs import Programs
from xohook.pids import start_time

#: More than a pipe (64 KiB, pipe(7)) and a socket take, in lines of the log.
FLOOD = 3000


def open_files(pid: int) -> dict[int, str]:
    """Tell what a process has open.

    :param pid: its number.
    :return: the link of each descriptor (proc(5)).
    """
    return {int(each.name): str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}


class WriterTests(SynchronousTestCase):
    """Two processes beside the agent."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def start(self, sections: str = "") -> Agent:
        agent = Agent.for_test(self, sections=sections)
        self.assertEqual(agent.get("/nothing").status, 404)
        return agent

    def test_inherits_nothing(self) -> None:
        """They have none of the agent's files: neither lock nor listening socket."""
        agent = self.start()
        [log], [stamp] = writers(agent.pid, "output"), writers(agent.pid, "stamp")
        self.assertEqual(set(open_files(log)), {0, 1, 2, 3})
        self.assertEqual(set(open_files(stamp)), {0, 1, 2})
        # The other end of a pair has a number of its own (unix(7)).
        theirs = {*open_files(log).values(), *open_files(stamp).values()}
        shared = theirs & set(open_files(agent.pid).values())
        self.assertEqual({each for each in shared if each.startswith("socket:")}, set())
        self.assertNotIn(str(agent.runtime_directory / "lock"), theirs)

    def test_killed(self) -> None:
        """Killed, both are started again, the log says so, and windows go on."""
        agent = self.start(self.programs.command("a"))
        for pid in writers(agent.pid):
            os.kill(pid, signal.SIGKILL)
        agent.wait_for_log("the writer of the log had ended")
        agent.wait_for_log("the writer of the stamp had ended")
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200)
        agent.wait_for_outcomes("synced")

    def test_killed_at_work(self) -> None:
        """The order that a killed writer had is carried out by the next one."""
        agent = self.start(self.programs.command("a"))
        [writer] = writers(agent.pid, "stamp")
        os.kill(writer, signal.SIGSTOP)
        with agent.connect() as waiting:
            waiting.start("GET", "/sync", agent.credentials)
            agent.wait_for_log("the stamp .* waits for it")
            os.kill(writer, signal.SIGKILL)
            self.assertEqual(waiting.answer().status, 200)

    def test_signals(self) -> None:
        """No signal that ends a whole group ends them: the agent still has something to say."""
        agent = self.start()
        for pid in writers(agent.pid):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
        before = writers(agent.pid)
        agent.stop()
        self.assertIn("Server Shut Down", agent.log)
        self.assertNotIn("had ended", agent.log)
        eventually(lambda: not any(map(start_time, before)), "they end after the agent")

    def test_killed_agent(self) -> None:
        """When the agent is killed they write what they have, and end."""
        agent = self.start()
        both = writers(agent.pid)
        for pid in both:
            os.kill(pid, signal.SIGSTOP)
        self.assertEqual(agent.get("/other").status, 404)
        count = agent.log_path.read_text().count("GET /other")
        agent.kill()
        agent.wait()
        for pid in both:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: not any(map(start_time, both)), "they have ended")
        self.assertEqual(agent.log.count("GET /other"), count + 1)

    def test_reader_stops(self) -> None:
        """A reader of the standard output that stops reading holds up neither work nor end."""
        agent = Agent(Path(self.mktemp()).resolve(), sections=self.programs.command("a"))
        os.mkfifo(agent.log_path)
        reader = os.open(agent.log_path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        self.addCleanup(agent.stop)
        agent.start()
        with agent.connect() as connection:
            for _ in range(FLOOD):
                self.assertEqual(connection.get("/nothing", agent.credentials).status, 404)
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200)
        began = time.monotonic()
        agent.kill(signal.SIGTERM)
        agent.wait()
        self.assertLess(time.monotonic() - began, 9)

    def test_daemon(self) -> None:
        """A daemon and its writer leave the output that it was started with."""
        agent = Agent(Path(self.mktemp()).resolve())
        log = agent.directory / "daemon.log"
        pid_file = agent.directory / "pid"
        twistd = str(Path(sys.executable).with_name("twistd"))
        options = [f"--pidfile={pid_file}", f"--logfile={log}"]
        # Its output is a pipe, which this reads until nobody has its other end.
        subprocess.run(
            [twistd, *options, "xohook", "-c", agent.configuration],
            env=agent.environment,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        pid = int(pid_file.read_text())
        self.addCleanup(eventually, lambda: start_time(pid) is None, "the daemon has ended")
        self.addCleanup(os.kill, pid, signal.SIGTERM)
        eventually(lambda: accepts(agent.port), "the daemon accepts connections")
        eventually(lambda: "answers on" in log.read_text(), "its log is written")
        second = subprocess.run(
            [twistd, "-n", "--pidfile=", "xohook", "-c", agent.configuration],
            env=agent.environment,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE,
        )
        self.assertIn(f"another agent (process {pid}) is running", second.stderr)
