"""What becomes of a window whose agent is killed: the next start thaws by the record."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.footprint import children
from tests.integration.hook_client import PATIENCE, Connection
from tests.integration.programs import Programs
from xohook.host.pids import start_time


class KilledTestCase(SynchronousTestCase):
    """An agent that is killed, with programs that tell what they do."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def agent_with(self, *sections: str, options: str = "") -> Agent:
        return Agent.for_test(self, options=options, sections="\n".join(sections))

    def sync(self, agent: Agent) -> Connection:
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", "/sync", agent.credentials)
        return connection

    def kill(self, agent: Agent) -> None:
        agent.kill()
        self.assertEqual(agent.wait(), -signal.SIGKILL)

    def record(self, agent: Agent) -> Path:
        return agent.runtime_directory / "record.json"


class KilledTests(KilledTestCase):
    """kill -9 of the agent, in each state."""

    def test_hold(self) -> None:
        """In the hold: the next start thaws in reverse order, once; /post-sync hears 500."""
        agent = self.agent_with(
            self.programs.command("a", order=10),
            self.programs.command("b", order=20),
            self.programs.command("flush", order=30, thaw=None),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.programs.clear()
        agent.start()
        self.assertEqual(self.programs.journal, ["thaw b recovered", "thaw a recovered"])
        self.assertEqual(agent.outcomes, ["recovered"])
        # The stray survives a further restart, and nothing is thawed again.
        self.kill(agent)
        agent.start()
        self.assertEqual(len(self.programs.journal), 2)
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertFalse(self.record(agent).exists())

    def test_works_afterwards(self) -> None:
        """An agent that has recovered goes on as any other: windows, and an end by SIGTERM."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.start()
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("recovered", "synced")
        agent.kill(signal.SIGTERM)
        # twistd ends in an orderly way, and then by the signal that it was sent.
        self.assertEqual(agent.wait(), -signal.SIGTERM)

    def test_freeze(self) -> None:
        """In the freeze: the program that still runs is ended, with its children, then undone."""
        freeze = 'trap "note terminated; exit" TERM; sleep 1000 & echo $! >"$0.child"; wait'
        agent = self.agent_with(
            self.programs.command("a", order=10),
            self.programs.command("b", freeze, order=20),
            self.programs.command("c", order=30),
        )
        self.sync(agent)
        child = self.programs.number("b-freeze.child")
        self.kill(agent)
        self.assertIsNotNone(start_time(child))
        self.programs.clear()
        agent.start()
        self.assertIsNone(start_time(child))
        self.assertEqual(
            self.programs.journal, ["terminated", "thaw b recovered", "thaw a recovered"]
        )
        # That /sync had no answer of 200.
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_freeze_only(self) -> None:
        """A program that only flushes is ended too, though it has nothing to thaw."""
        agent = self.agent_with(
            self.programs.command("a", 'echo $$ >"$0.pid"; exec sleep 1000', thaw=None)
        )
        self.sync(agent)
        flushing = self.programs.number("a-freeze.pid")
        self.kill(agent)
        self.assertIsNotNone(start_time(flushing))
        agent.start()
        self.assertIsNone(start_time(flushing))

    def test_thaw(self) -> None:
        """In the thaw: what is thawed stays so; the thaw that was cut short runs again."""
        agent = self.agent_with(
            self.programs.command("a", order=10),
            self.programs.command(
                "b", thaw='[ -e "$0.once" ] || { : >"$0.once"; stay b; }', order=20
            ),
            self.programs.command("c", order=30),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", "/post-sync", agent.credentials)
        self.programs.wait_for("at b")
        # The look at the participants that every start takes ends by itself.
        eventually(lambda: len(children(agent.pid)) == 1, "the thaw alone is running")
        [cut_short] = children(agent.pid)
        self.kill(agent)
        self.programs.clear()
        agent.start()
        self.assertEqual(self.programs.journal, ["thaw b recovered", "thaw a recovered"])
        self.assertIsNone(start_time(cut_short))

    def test_recovery(self) -> None:
        """In the recovery itself: the start after it ends that thaw's program and runs it again."""
        once = '[ -e "$0.once" ] || { : >"$0.once"; stay a; }'
        agent = self.agent_with(self.programs.command("a", thaw=once))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.spawn()
        self.programs.wait_for("at a")
        # The look at the participants that every start takes ends by itself.
        eventually(lambda: len(children(agent.pid)) == 1, "the thaw alone is running")
        [cut_short] = children(agent.pid)
        self.kill(agent)
        self.assertIsNotNone(start_time(cut_short))
        agent.start()
        self.assertIsNone(start_time(cut_short))
        self.assertEqual(self.programs.journal.count("thaw a recovered"), 2)
        self.assertEqual(agent.get("/post-sync").status, 500)

    def test_interrupted(self) -> None:
        """SIGTERM during the recovery ends the start with a line; the thaw is owed still."""
        agent = self.agent_with(self.programs.command("a", thaw="stay a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.spawn()
        self.programs.wait_for("at a")
        agent.kill(signal.SIGTERM)
        self.assertEqual(agent.wait(), 1)
        self.assertIn("xohook: interrupted while thawing", agent.log)
        self.assertNotIn("Traceback", agent.log)
        agent.spawn()
        eventually(lambda: self.programs.journal.count("at a") == 2, "the thaw runs again")
        self.programs.let_on("a")
        agent.wait_for_outcomes("recovered")

    def test_thaw_fails(self) -> None:
        """A thaw that fails in the recovery stops neither the others nor the start."""
        agent = self.agent_with(
            self.programs.command("a", order=10),
            self.programs.command("b", thaw="exit 7", order=20),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.start()
        agent.wait_for_log("command:b NOT THAWED: exit status 7")
        self.assertEqual(self.programs.journal[-1], "thaw a recovered")


class ChangedTests(KilledTestCase):
    """The thaws are those of the window, whatever has changed since."""

    def test_removed(self) -> None:
        """A participant that is configured no more is thawed."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.configure()
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])

    def test_broken(self) -> None:
        """With a broken configuration the thaw runs, then the start stops with all mistakes."""
        section = self.programs.command("a")
        agent = self.agent_with(section)
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        agent.configure("freeze_budget = soon\nhold_limit = -1", section + "ordre = 1\n")
        agent.spawn()
        self.assertEqual(agent.wait(), 1)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])
        for option in ("freeze_budget", "hold_limit", "ordre"):
            self.assertRegex(agent.log, rf"xohook\.ini:\d+ \[\S+\] {option}: ")
        self.assertNotIn("Traceback", agent.log)
        agent.configure("", section)
        agent.start()
        self.assertEqual(len(self.programs.journal), 2)
        self.assertEqual(agent.get("/post-sync").status, 500)

    def test_before_log_and_pid_file(self) -> None:
        """The thaw comes before the log and the pid file, which may lie on what is frozen."""
        frozen = self.programs.directory / "frozen"
        frozen.mkdir()
        agent = self.agent_with(
            self.programs.command("a", f"rmdir {frozen}", f"mkdir {frozen}"),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.assertFalse(frozen.exists())
        log, pid_file = frozen / "log", frozen / "pid"
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("twistd"),
                "-n",
                f"--pidfile={pid_file}",
                f"--logfile={log}",
                "xohook",
                "-c",
                agent.configuration,
            ],
            env=agent.environment,
            cwd="/",
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        eventually(lambda: log.exists() and " answers on " in log.read_text(), "it is up")
        self.assertEqual(int(pid_file.read_text()), process.pid)
        self.assertIn("recovered", log.read_text())

    def test_another_boot(self) -> None:
        """After a boot the thaw runs, but no process is ended and no /post-sync expected."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        self.addCleanup(bystander.wait)
        self.addCleanup(bystander.kill)
        record = json.loads(self.record(agent).read_text())
        record["boot_id"] = "another"
        record["entries"][0]["process"] = {
            "pid": bystander.pid,
            "started": start_time(bystander.pid),
        }
        self.record(agent).write_text(json.dumps(record))
        stamp = agent.state_directory / "stamp.json"
        stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "boot": "another"}))
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])
        self.assertIsNone(bystander.poll())
        self.assertEqual(agent.get("/post-sync").status, 200)


class RecordTests(KilledTestCase):
    """The record that cannot be read or written."""

    def test_corrupt(self) -> None:
        """A record that makes no sense stops the start with words, and stays as it is."""
        agent = self.agent_with(self.programs.command("a"))
        agent.stop()
        wholes = (b"{", b"[]", b'"x"', b"\xff", b"{}", b'{"version": 99}')
        entries = '{"version": 1, "boot_id": "x", "window": "w", "strays": [], "entries": %s}'
        parts = tuple((entries % part).encode() for part in ("[{}]", "[1]", "1", '["x"]'))
        entry = '[{"name": "command:a", "order": 1, "owed": %s, "process": {}}]'
        owed = tuple((entries % (entry % part)).encode() for part in ("{}", "1", '{"account": 1}'))
        self.record(agent).touch(mode=0o600)
        for data in (*wholes, *parts, *owed):
            self.record(agent).write_bytes(data)
            agent.log_path.write_text("")
            agent.spawn()
            self.assertEqual(agent.wait(), 1, data)
            self.assertRegex(
                agent.log, r"^xohook: .*by hand,? and (remove the file|take it out)", data
            )
            self.assertNotIn("Traceback", agent.log, data)
            self.assertEqual(self.record(agent).read_bytes(), data)

    def fill(self, directory: Path) -> Path:
        filler = directory / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        return filler

    def small_disk(self) -> Path:
        needs.root()
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        options = "size=64k,mode=0700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
        subprocess.run(mount, check=True)
        self.addCleanup(subprocess.check_call, ["umount", str(directory)])
        return directory

    def test_disk_full_before(self) -> None:
        """With no room for the record /sync is answered 500 with words, and nothing is frozen."""
        disk = self.small_disk()
        agent = self.on(disk, self.programs.command("a"))
        filler = self.fill(disk)
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertEqual(
            answer.body.decode().splitlines()[1:],
            [f"command:a: cannot write the record {disk}/record.json: No space left on device"],
        )
        self.assertNotIn("freeze a", self.programs.journal)
        agent.wait_for_outcomes("failed")
        filler.unlink()
        agent.get("/post-sync")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_disk_full_in_hold(self) -> None:
        """A hold that is open when the disk fills is thawed all the same, and synced."""
        disk = self.small_disk()
        agent = self.on(disk, self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.fill(disk)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])
        self.assertIn("No space left on device", agent.log)
        self.assertFalse((disk / "record.json").exists())

    def test_disk_full_afterwards(self) -> None:
        """After a kill the thaw runs once and the start comes up, though nothing can be noted."""
        disk = self.small_disk()
        agent = self.on(disk, self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.fill(disk)
        agent.start()
        self.assertIn("No space left on device", agent.log)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])
        self.assertFalse((disk / "record.json").exists())
        self.kill(agent)
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a recovered"])

    def on(self, disk: Path, section: str) -> Agent:
        # The path is too long for a socket.
        agent = Agent(Path(self.mktemp()).resolve(), "control = no")
        text = agent.configuration.read_text() + section
        agent.configuration.write_text(text.replace(str(agent.runtime_directory), str(disk)))
        self.addCleanup(agent.stop)
        agent.start()
        return agent

    def test_private(self) -> None:
        """The record is nobody else's to read, and is whole whenever it is looked at."""
        agent = self.agent_with(self.programs.command("a"))
        always = self.kept(agent)
        self.assertEqual(always, ["control.sock", "control.sock.lock", "lock"])
        self.assertEqual(agent.get("/sync").status, 200)
        record = self.record(agent)
        self.assertEqual(record.stat().st_mode & 0o777, 0o600)
        told = json.loads(record.read_text())
        self.assertEqual(
            (told["owed"], [entry["name"] for entry in told["entries"]]), (1, ["command:a"])
        )
        self.assertEqual(self.kept(agent), [*always, "record.json"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.kept(agent), always)

    def kept(self, agent: Agent) -> list[str]:
        return sorted(path.name for path in agent.runtime_directory.iterdir())
