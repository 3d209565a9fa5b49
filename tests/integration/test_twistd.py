"""The agent under twistd: pid files, daemons, systemd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.integration.agent import Agent, accepts, eventually
from tests.integration.footprint import children
from tests.integration.hook_client import PATIENCE
from tests.integration.lifecycle_case import LifeTestCase
from xohook.host.pids import start_time

#: Shows that a deadline of the agent's reactor goes by the monotonic clock, the time of day apart.
CLOCK = """
import sys, time
from xohook import tap
options = tap.Options()
options.parseOptions(["-c", sys.argv[1]])
tap.makeService(options)
from twisted.internet import reactor
stepped = time.time() + 100_000
time.time = lambda: stepped
assert abs(reactor.seconds() - time.monotonic()) < 60
due = []
reactor.callLater(3600, due.append, "early")
reactor.callLater(0.05, reactor.stop)
reactor.run()
print("due", due)
"""


class TwistdTests(LifeTestCase):
    """The agent under twistd: pid files, daemons, systemd."""

    def twistd(self, agent: Agent, *arguments: str) -> list[str]:
        program = str(Path(sys.executable).with_name("twistd"))
        return [program, *arguments, "xohook", "-c", str(agent.configuration)]

    def test_stale_pid_file(self) -> None:
        """A pid file whose number another process has stops twistd, unless --pidfile= is given."""
        agent = self.not_started()
        (agent.directory / "twistd.pid").write_text(f"{os.getpid()}\n")
        done = subprocess.run(
            self.twistd(agent, "-n"),
            cwd=agent.directory,
            env=agent.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("Another twistd server is running", done.stdout + done.stderr)
        # The harness gives --pidfile=, in the very same directory.
        agent.start()

    def test_daemon(self) -> None:
        """Without -n it becomes a daemon, from any directory, with windows and signals."""
        agent = self.not_started(self.programs.command("a"))
        log = agent.directory / "daemon.log"
        subprocess.run(
            self.twistd(agent, "--pidfile=", f"--logfile={log}"),
            cwd="/",
            env=agent.environment,
            check=True,
            timeout=PATIENCE,
        )
        eventually(lambda: accepts(agent.port), "the daemon accepts connections")
        pid = self.listener(agent)
        descriptor = os.pidfd_open(pid)
        self.addCleanup(os.close, descriptor)
        self.addCleanup(self.end, descriptor)
        self.assertEqual(agent.get("/sync").status, 200)
        os.kill(pid, signal.SIGHUP)
        self.assertEqual(agent.get("/post-sync").status, 200)
        eventually(lambda: "reloaded" in log.read_text(), "it has reloaded")
        self.assertEqual(agent.get("/sync").status, 200)
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: start_time(pid) is None, "it has ended")
        self.assertEqual(self.programs.journal[-1], "thaw a stopped")

    def listener(self, agent: Agent) -> int:
        """Find the daemon by its command line: it has no pid file."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(agent.configuration).encode() in (process / "cmdline").read_bytes():
                    return int(process.name)
        raise AssertionError("there is no daemon")

    def end(self, descriptor: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def test_systemd(self) -> None:
        """Systemd hears READY=1 once the agent listens, and STOPPING=1 when its end begins."""
        agent = self.not_started(self.programs.command("a", thaw="stay a"))
        # The path of a UNIX socket has room for 107 bytes, and mktemp's are long.
        address = f"xohook-test-{os.getpid()}-{agent.port}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(f"\0{address}")
            systemd.settimeout(PATIENCE)
            process = subprocess.Popen(
                self.twistd(agent, "-n", "--pidfile=", "--logfile=-"),
                env={**agent.environment, "NOTIFY_SOCKET": f"@{address}"},
                stdout=subprocess.DEVNULL,
            )
            self.addCleanup(process.wait, PATIENCE)
            self.addCleanup(process.terminate)
            self.assertEqual(systemd.recv(100), b"READY=1")
            self.assertTrue(accepts(agent.port))
            self.assertEqual(agent.get("/sync").status, 200)
            process.terminate()
            self.assertEqual(systemd.recv(100), b"STOPPING=1")
            self.assertIsNone(process.poll())
            self.programs.let_on("a")

    def test_systemd_not_ready(self) -> None:
        """An agent that cannot listen never says that it is ready."""
        agent = self.not_started()
        address = f"xohook-test-{os.getpid()}-{agent.port}"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
            socket.create_server(("127.0.0.1", agent.port)),
        ):
            systemd.bind(f"\0{address}")
            done = subprocess.run(
                self.twistd(agent, "-n", "--pidfile="),
                env={**agent.environment, "NOTIFY_SOCKET": f"@{address}"},
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual(done.returncode, 1)
            systemd.setblocking(False)
            self.assertRaises(BlockingIOError, systemd.recv, 100)

    def test_clock(self) -> None:
        """A stepped clock changes no deadline: the reactor's time is monotonic."""
        agent = self.not_started()
        done = subprocess.run(
            [sys.executable, "-c", CLOCK, agent.configuration],
            env=agent.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, "due []\n"), done.stderr)

    def test_left_behind(self) -> None:
        """A program that outlives a killed agent does not keep the runtime directory to itself."""
        agent = self.agent_with(self.programs.command("a", 'sleep 1000 & echo $! >"$0.child"'))
        self.assertEqual(agent.get("/sync").status, 200)
        child = self.programs.number("a-freeze.child")
        self.addCleanup(os.kill, child, signal.SIGKILL)
        eventually(lambda: not children(agent.pid), "nothing of the earlier run is left")
        agent.kill()
        agent.wait()
        agent.start()
        self.assertIsNotNone(start_time(child))
        self.assertEqual(self.programs.journal[-1], "thaw a recovered")
