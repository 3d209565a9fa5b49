"""What is read at a start, at a reload and for a renewal may be held up, and the agent is not."""

from __future__ import annotations

import os
import re
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import make
from tests.integration.agent import Agent, eventually
from tests.integration.disks import Disk, DiskTestCase
from tests.integration.footprint import writers
from tests.integration.hanging import HungMount
from tests.integration.programs import Programs
from xohook.host.pids import start_time

WAITS = "the start waits for a disk or a file server"


def readers(agent: Agent) -> list[int]:
    """List the processes that read for an agent."""
    pids = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    found = []
    for child in pids:
        try:
            words = (Path("/proc") / child / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"xohook.service.reading" in words:
            found.append(int(child))
    return found


class ReloadTests(SynchronousTestCase):
    """A reload whose configuration cannot be read."""

    def setUp(self) -> None:
        programs = Programs(Path(self.mktemp()).resolve())
        self.agent = Agent.for_test(self, sections=programs.command("a"))
        self.drop_ins = Path(f"{self.agent.configuration}.d")
        # It accepts connections a moment before it takes signals.
        self.assertEqual(self.agent.get("/nothing").status, 404)
        # Whoever looks at the participants reads the drop-ins too.
        eventually(self.is_quiet, "the look has ended")
        self.drop_ins.mkdir()

    def is_quiet(self) -> bool:
        """Whether the agent has no children but its writers."""
        pids = Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split()
        return {int(each) for each in pids} == set(writers(self.agent.pid))

    def assert_good(self) -> None:
        """See that a window is good."""
        for target in ("/sync", "/post-sync"):
            self.assertEqual(self.agent.get(target).status, 200)

    def test_window(self) -> None:
        """A window opens meanwhile, and the reload takes effect at its end."""
        fifo = self.drop_ins / "a.ini"
        os.mkfifo(fifo)
        self.agent.kill(signal.SIGHUP)
        eventually(lambda: readers(self.agent), "it is being read")
        self.assertEqual(self.agent.get("/sync").status, 200)
        [reader] = readers(self.agent)
        # It is opened when the reader has done so, and what is read then is empty.
        os.close(os.open(fifo, os.O_WRONLY))
        eventually(lambda: reader not in readers(self.agent), "it has been read")
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.agent.wait_for_log("reloaded, with")
        log = self.agent.log
        self.assertLess(log.index(" synced"), log.index("reloaded, with"))

    def test_gone(self) -> None:
        """A file server that is gone ends the reload after a time, in words, and nothing else."""
        hung = HungMount(self.drop_ins)
        self.addCleanup(hung.close)
        self.agent.kill(signal.SIGHUP)
        eventually(lambda: readers(self.agent), "it is being read")
        self.assertEqual(self.agent.get("/nothing").status, 404)
        self.agent.wait_for_log(
            f"not reloaded: the configuration {re.escape(str(self.agent.configuration))} is not "
            "read within 30s"
        )
        eventually(lambda: not readers(self.agent), "the reader has ended")
        self.assert_good()

    def test_killed(self) -> None:
        """When the agent is killed, the process that reads ends too."""
        fifo = self.drop_ins / "a.ini"
        os.mkfifo(fifo)
        self.agent.kill(signal.SIGHUP)
        eventually(lambda: readers(self.agent), "it is being read")
        [reader] = readers(self.agent)
        # It is opened when the reader has done so, who then waits for more.
        self.addCleanup(os.close, os.open(fifo, os.O_WRONLY))
        os.kill(self.agent.pid, signal.SIGKILL)
        self.agent.wait()
        eventually(lambda: start_time(reader) is None, "it has ended")

    def test_many(self) -> None:
        """Many signals while it is being read make one reload more, which has the last word."""
        fifo = self.drop_ins / "a.ini"
        os.mkfifo(fifo)
        self.agent.kill(signal.SIGHUP)
        eventually(lambda: readers(self.agent), "it is being read")
        for _ in range(20):
            self.agent.kill(signal.SIGHUP)
            self.assertEqual(self.agent.get("/nothing").status, 404)
        opened = os.open(fifo, os.O_WRONLY)
        fifo.unlink()
        os.close(opened)
        self.agent.wait_for_log("reloaded, with", 2)
        self.assert_good()
        self.assertEqual(self.agent.log.count("reloaded, with"), 2)


class FrozenStateTests(DiskTestCase):
    """The state directory lies on a filesystem that somebody has frozen."""

    def setUp(self) -> None:
        self.need_disks()
        self.disk: Disk = self.make_disk()
        self.agent = Agent(Path(self.mktemp()).resolve())
        self.agent.state_directory = self.disk.mount / "state"
        self.agent.configure()
        self.addCleanup(self.agent.stop)
        # The agent's end is not to wait for the disk.
        self.addCleanup(self.disk.release)

    def test_renewal(self) -> None:
        """A certificate that is due is served as it is, and renewed when the disk answers."""
        self.agent.start()
        self.agent.stop()
        ending = make("ending", now=datetime.now(timezone.utc) - timedelta(days=61))
        certificate = self.agent.state_directory / "certificate.pem"
        certificate.write_bytes(ending.pem)
        (self.agent.state_directory / "private_key.pem").write_bytes(ending.key_pem())
        os.sync()
        self.disk.freeze()
        self.agent.start()
        eventually(lambda: readers(self.agent), "it is being renewed")
        self.assertEqual(self.agent.get("/nothing").status, 404)
        self.disk.thaw()
        eventually(lambda: certificate.read_bytes() != ending.pem, "it is renewed")

    def test_reload(self) -> None:
        """A reload that has to make something there waits, and the agent does not."""
        self.agent.start()
        self.assertEqual(self.agent.get("/nothing").status, 404)
        (self.agent.state_directory / "vm").unlink()
        credentials = self.agent.credentials
        self.disk.freeze()
        self.agent.kill(signal.SIGHUP)
        eventually(lambda: readers(self.agent), "it is being read")
        with self.agent.connect() as connection:
            self.assertEqual(connection.get("/nothing", credentials).status, 404)
        self.disk.thaw()
        self.agent.wait_for_log("reloaded, with")
        self.assertTrue((self.agent.state_directory / "vm").exists())

    def test_first_start(self) -> None:
        """A start that has to make something says what it waits for, and goes on in the end."""
        self.disk.freeze()
        self.agent.spawn()
        self.agent.wait_for_log(f"{WAITS}: the state directory {self.agent.state_directory} is")
        self.disk.thaw()
        eventually(lambda: "answers on" in self.agent.log, "it has started")

    def test_terminated(self) -> None:
        """Such a start ends when it is told to: it is not stuck itself."""
        self.disk.freeze()
        self.agent.spawn()
        self.agent.wait_for_log(WAITS)
        self.agent.kill(signal.SIGTERM)
        self.agent.wait()
