"""A freeze that nobody foresaw neither silences the agent nor keeps it from its work.

The agent cannot see what a program does: here it runs ``fsfreeze`` on the filesystem of the agent's
log or state directory.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from tests.integration.agent import COMMAND, Agent, eventually
from tests.integration.disks import Disk, DiskTestCase
from tests.integration.footprint import writers
from tests.integration.programs import Programs

#: Seconds within which the agent has ended, whatever its disks do: 5, and something for Python.
ENDS = 9.0

#: Requests that come while the disk is frozen.
MANY = 50


class LoggingAgent(Agent):
    """The agent with a log file, which need not lie where the rest does.

    :param directory: an absolute path, in which all but the log is made.
    :param own_log: the log file.
    """

    def __init__(
        self, directory: Path, own_log: Path, options: str = "", sections: str = ""
    ) -> None:
        super().__init__(directory, options, sections)
        self.own_log = own_log
        self.twistd_options = ("-n", "--pidfile=", f"--logfile={own_log}")

    @property
    def log(self) -> str:
        """All that the agent has logged so far."""
        return self.own_log.read_text() if self.own_log.exists() else ""


class FrozenTestCase(DiskTestCase):
    """An agent, and a disk that its own participant freezes, hidden in a script."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk = self.make_disk()
        self.programs = Programs(Path(self.mktemp()).resolve())

    def hidden(self, thaw: bool = True) -> str:
        """Write the section of a command that freezes the disk, and thaws it if it is told to."""
        undo = f"fsfreeze --unfreeze {self.disk.mount}" if thaw else ""
        return self.programs.command("x", f"fsfreeze --freeze {self.disk.mount}", undo)

    def start(self, options: str = "", sections: str = "", *, own_log: Path | None = None) -> Agent:
        """Start an agent that logs into a file on the disk, unless another one is given."""
        log = own_log or self.disk.mount / "agent.log"
        agent = LoggingAgent(Path(self.mktemp()).resolve(), log, options, sections)
        self.addCleanup(agent.stop)
        # Before the agent's end, which would wait for ever where something is wrong.
        self.addCleanup(self.disk.release)
        agent.start()
        return agent

    def ask_much(self, agent: Agent) -> None:
        """Send requests that are all logged."""
        for _ in range(MANY):
            self.assertEqual(agent.get("/nothing").status, 404)

    def assert_complete(self, agent: Agent, count: int) -> None:
        """See that the log has all of these requests, in order, each with its own time."""
        agent.wait_for_log("GET /nothing 404", count)
        self.assertEqual(agent.log.count("GET /nothing 404"), count)
        times = [
            datetime.strptime(found, "%Y-%m-%dT%H:%M:%S%z")
            for found in re.findall(r"^(\S+T\S+) \[", agent.log, re.MULTILINE)
        ]
        self.assertEqual(times, sorted(times))

    def end(self, agent: Agent, number: signal.Signals = signal.SIGTERM) -> float:
        """End the agent; give the seconds that it took."""
        began = time.monotonic()
        agent.kill(number)
        self.assertEqual(agent.wait(), -number)
        return time.monotonic() - began


class LogTests(FrozenTestCase):
    """The log's disk is frozen."""

    def test_window(self) -> None:
        """A window goes on, requests are answered, and the log is complete after the thaw."""
        agent = self.start(sections=self.hidden())
        self.assertEqual(agent.get("/sync").status, 200)
        self.assert_frozen(self.disk)
        before = agent.log
        self.ask_much(agent)
        self.assertEqual(agent.log, before)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assert_complete(agent, MANY)
        agent.wait_for_outcomes("synced")

    def test_times(self) -> None:
        """A line that had to wait has the time at which it was logged."""
        agent = self.start()
        self.disk.freeze()
        self.assertEqual(agent.get("/nothing").status, 404)
        logged = time.time()
        # The log's times are whole seconds.
        eventually(lambda: time.time() > logged + 2, "two seconds have passed")
        self.disk.thaw()
        agent.wait_for_log("GET /nothing")
        [found] = re.findall(r"^(\S+) \[.*GET /nothing", agent.log, re.MULTILINE)
        when = datetime.strptime(found, "%Y-%m-%dT%H:%M:%S%z").timestamp()
        self.assertLess(when, logged + 1)

    def test_standard_output(self) -> None:
        """The same is so where the log is the standard output, a file on that disk."""
        agent = Agent(Path(self.mktemp()).resolve(), sections=self.hidden())
        agent.log_path = self.disk.mount / "output"
        self.addCleanup(agent.stop)
        # Before the agent's end, which would wait for ever where something is wrong.
        self.addCleanup(self.disk.release)
        agent.start()
        self.assertEqual(agent.get("/sync").status, 200)
        self.ask_much(agent)
        self.assert_frozen(self.disk)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assert_complete(agent, MANY)

    def test_thaw_now(self) -> None:
        """``xohook thaw`` ends the window and the freeze."""
        agent = self.start(sections=self.hidden())
        self.assertEqual(agent.get("/sync").status, 200)
        self.ask_much(agent)
        subprocess.run(
            [sys.executable, "-c", COMMAND, "thaw", "-c", agent.configuration],
            env=agent.environment,
            capture_output=True,
            check=True,
            timeout=ENDS,
        )
        self.assert_let_go()
        self.assert_complete(agent, MANY)
        agent.wait_for_outcomes("stopped")

    def test_end(self) -> None:
        """SIGTERM ends the agent, with its thaw, while its log is stuck; the lines come later."""
        agent = self.start(sections=self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.disk.freeze()
        self.ask_much(agent)
        self.assertLess(self.end(agent), ENDS)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a stopped"])
        self.disk.thaw()
        self.assert_complete(agent, MANY)
        agent.wait_for_log("Server Shut Down")

    def test_killed(self) -> None:
        """Killed, it is started again at once, with its log still stuck; no line is lost."""
        agent = self.start(sections=self.hidden(thaw=False))
        self.assertEqual(agent.get("/sync").status, 200)
        self.ask_much(agent)
        self.assertLess(self.end(agent, signal.SIGKILL), ENDS)
        agent.start()
        self.assertEqual(self.programs.journal[-1], "thaw x recovered")
        self.assert_frozen(self.disk)
        self.ask_much(agent)
        self.disk.thaw()
        agent.wait_for_log("GET /nothing 404", 2 * MANY)
        agent.wait_for_log("window .* recovered")


class StateTests(FrozenTestCase):
    """The state directory's disk is frozen."""

    def start_on_disk(self, options: str, sections: str) -> Agent:
        """Start an agent with its state directory on the disk, and its log elsewhere."""
        agent = Agent(Path(self.mktemp()).resolve())
        agent.state_directory = self.disk.mount / "state"
        agent.configure(options, sections)
        self.addCleanup(agent.stop)
        # Before the agent's end, which would wait for ever where something is wrong.
        self.addCleanup(self.disk.release)
        agent.start()
        # Kept in memory: it is read from the state directory.
        self.assertEqual(agent.get("/nothing").status, 404)
        return agent

    @property
    def stamp(self) -> Path:
        """The stamp."""
        return self.disk.mount / "state" / "stamp.json"

    def test_window(self) -> None:
        """The window fails within its budget, says so, and leaves no stamp; the next is good."""
        agent = self.start_on_disk("freeze_budget = 4s\n", self.hidden() + "freeze_timeout = 1s\n")
        with agent.connect() as waiting:
            waiting.start("GET", "/sync", agent.credentials)
            agent.wait_for_log("the stamp .* waits for it")
            self.ask_much(agent)
            answer = waiting.answer()
        self.assertEqual(answer.status, 500)
        agent.wait_for_outcomes("failed")
        # XO sends it after a failed window too.
        agent.get("/post-sync")
        self.assert_let_go()
        eventually(lambda: not self.stamp.exists(), "the stamp is removed")
        agent.configure(sections=self.programs.command("b"))
        agent.kill(signal.SIGHUP)
        agent.wait_for_log("reloaded")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertTrue(self.stamp.exists())
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_thaw(self) -> None:
        """A thaw is answered though the stamp cannot be removed, which is done later."""
        agent = self.start_on_disk("", self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.disk.freeze()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])
        self.assertTrue(self.stamp.exists())
        self.disk.thaw()
        eventually(lambda: not self.stamp.exists(), "the stamp is removed")

    def test_killed_after_thaw(self) -> None:
        """A stamp that stays because the disk is slow causes no second thaw."""
        agent = self.start_on_disk("", self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.disk.freeze()
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced")
        agent.kill()
        agent.wait()
        self.assertTrue(self.stamp.exists())
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])
        self.disk.thaw()
        eventually(lambda: not self.stamp.exists(), "the stamp is removed")

    def test_end(self) -> None:
        """SIGTERM thaws and ends the agent; the stamp is removed when the disk lets it."""
        agent = self.start_on_disk("", self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.disk.freeze()
        self.assertLess(self.end(agent), ENDS)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a stopped"])
        self.disk.thaw()
        eventually(lambda: not self.stamp.exists(), "the stamp is removed")

    def test_end_while_pressing(self) -> None:
        """SIGTERM while a newer stamp is stuck leaves neither that one nor the older."""
        agent = self.start_on_disk("", self.hidden(thaw=False))
        with agent.connect() as waiting:
            waiting.start("GET", "/sync", agent.credentials)
            agent.wait_for_log("the stamp .* waits for it")
            self.assertTrue(self.stamp.exists())
            self.assertLess(self.end(agent), ENDS)
        self.disk.thaw()
        eventually(
            lambda: not list(self.stamp.parent.glob("*stamp.json*")), "the stamp is removed", 10
        )

    def test_killed(self) -> None:
        """A stamp that was stuck when the agent was killed does not appear afterwards."""
        agent = self.start_on_disk("", self.programs.command("a"))
        self.disk.freeze()
        with agent.connect() as waiting:
            waiting.start("GET", "/sync", agent.credentials)
            agent.wait_for_log("the stamp .* waits for it")
            [writer] = writers(agent.pid, "stamp")
            self.end(agent, signal.SIGKILL)
        self.disk.thaw()
        eventually(lambda: not Path(f"/proc/{writer}").exists(), "the writer has ended")
        self.assertEqual([each.name for each in self.stamp.parent.glob("*stamp.json*")], [])

    def test_restart(self) -> None:
        """An agent starts, and answers, while its state directory is frozen."""
        agent = self.start_on_disk("", self.programs.command("a"))
        agent.stop()
        self.disk.freeze()
        agent.start()
        self.assertEqual(agent.get("/nothing").status, 404)

    def test_restart_owing(self) -> None:
        """It does so too where a stamp is left, and a thaw owed."""
        agent = self.start_on_disk("", self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.disk.freeze()
        self.end(agent, signal.SIGKILL)
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])
        self.disk.thaw()
        eventually(lambda: not self.stamp.exists(), "the stamp is removed")


class FileTests(FrozenTestCase):
    """The log file by itself."""

    def test_rotated(self) -> None:
        """A file of a million bytes makes way for a new one, and so do those before it."""
        log = Path(self.mktemp()).resolve()
        log.write_bytes(b"old\n" * 250_000)
        log.chmod(0o640)
        Path(f"{log}.1").write_text("older\n")
        agent = self.start(own_log=log)
        agent.wait_for_log("answers on")
        self.assertTrue(Path(f"{log}.1").read_bytes().startswith(b"old\n"))
        self.assertEqual(Path(f"{log}.2").read_text(), "older\n")
        self.assertEqual(log.stat().st_mode & 0o777, 0o640)

    def test_rotated_by_signal(self) -> None:
        """SIGUSR1 rotates it, as with any log file of twistd."""
        log = Path(self.mktemp()).resolve()
        agent = self.start(own_log=log)
        agent.wait_for_log("answers on")
        # It takes signals once its reactor runs.
        self.assertEqual(agent.get("/nothing").status, 404)
        agent.kill(signal.SIGUSR1)
        eventually(Path(f"{log}.1").exists, "the log is rotated")
        self.assertEqual(agent.get("/nothing").status, 404)
        agent.wait_for_log("GET /nothing")

    def test_no_directory(self) -> None:
        """A log file that cannot be opened is told at the start, in words."""
        directory = Path(self.mktemp()).resolve()
        agent = LoggingAgent(directory, directory / "missing" / "log")
        self.addCleanup(agent.stop)
        # Before the agent's end, which would wait for ever where something is wrong.
        self.addCleanup(self.disk.release)
        agent.spawn()
        self.assertEqual(agent.wait(), 1)
        said = agent.log_path.read_text()
        self.assertIn(f"cannot open the log file {agent.own_log}: No such file or directory", said)
        self.assertNotIn("Traceback", said)

    def test_full(self) -> None:
        """On a full disk the agent works on, and its lines come once there is room."""
        agent = self.start(sections=self.programs.command("a"))
        self.fill(self.disk)
        self.ask_much(agent)
        for target in ("/sync", "/post-sync"):
            self.assertEqual(agent.get(target).status, 200)
        self.assertNotIn("synced", agent.log)
        (self.disk.mount / "filler").unlink()
        self.assert_complete(agent, MANY)
        agent.wait_for_outcomes("synced")

    def fill(self, disk: Disk) -> None:
        """Leave no room on a disk, not even to the end of a block."""
        log = disk.mount / "agent.log"
        with (disk.mount / "filler").open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(b"\0" * size)
                        os.fsync(file.fileno())
                except OSError:
                    continue
        # What is left of the log's own last block.
        with log.open("ab", buffering=0) as file:
            try:
                file.write(b"\n" * 4096)
            except OSError:
                return
