"""The agent's life: its start, signals in every state, reloads, its end."""

from __future__ import annotations

import signal
import socket
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509

from tests.certificates import make
from tests.integration.agent import Agent
from tests.integration.lifecycle_case import LifeTestCase
from xohook.host.pids import start_time


class TerminationTests(LifeTestCase):
    """SIGTERM in every state: all is thawed, who waits is told to come back, no child is left."""

    def test_idle(self) -> None:
        """With no window open the agent just ends."""
        agent = self.agent_with()
        agent.kill(signal.SIGTERM)
        self.terminated(agent)

    def test_freezing(self) -> None:
        """The freeze is broken off and undone; who waits hears 503 with Retry-After."""
        freeze = 'trap "" TERM; sleep 1000 & echo $! >"$0.child"; wait; wait'
        agent = self.agent_with(
            self.programs.command("a", order=10), self.programs.command("b", freeze, order=20)
        )
        both = [self.start(agent, "/sync"), self.start(agent, "/sync")]
        agent.wait_for_log("shares the freeze")
        child = self.programs.number("b-freeze.child")
        agent.kill(signal.SIGTERM)
        for connection in both:
            answer = connection.answer()
            self.assertEqual((answer.status, answer.headers.get("retry-after")), (503, "5"))
        self.terminated(agent)
        self.assertEqual(self.programs.journal[2:], ["thaw b stopped", "thaw a stopped"])
        self.assertIsNone(start_time(child))
        self.assertEqual(agent.outcomes, ["stopped"])

    def test_freezing_flush(self) -> None:
        """A program that only flushes has ended before the agent has, by SIGKILL if need be."""
        freeze = 'trap "" TERM; sleep 1000 & echo $! >"$0.child"; wait; wait'
        agent = self.agent_with(self.programs.command("a", freeze, thaw=None))
        self.start(agent, "/sync")
        child = self.programs.number("a-freeze.child")
        agent.kill(signal.SIGTERM)
        self.terminated(agent)
        self.assertIsNone(start_time(child))

    def test_holding(self) -> None:
        """The hold is thawed; the /post-sync that comes to the next run hears 500."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill(signal.SIGTERM)
        self.terminated(agent)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a stopped"])
        agent.start()
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a stopped"])
        self.assertEqual(agent.get("/post-sync").status, 500)

    def test_thawing(self) -> None:
        """The thaw goes on to its end, even if SIGTERM comes again; who waits hears of it."""
        agent = self.agent_with(self.programs.command("a", thaw="stay a; note done"))
        self.assertEqual(agent.get("/sync").status, 200)
        post_sync = self.start(agent, "/post-sync")
        self.programs.wait_for("at a")
        late = self.start(agent, "/sync")
        agent.kill(signal.SIGTERM)
        agent.wait_for_log("Received SIGTERM")
        self.assertEqual(agent.get("/sync").status, 503)
        self.programs.let_on("a")
        self.assertEqual(post_sync.answer().status, 200)
        answer = late.answer()
        self.assertEqual((answer.status, answer.headers.get("retry-after")), (503, "5"))
        self.terminated(agent)
        self.assertEqual(self.programs.journal[-1], "done")
        self.assertEqual(agent.outcomes, ["synced"])

    def test_hung_thaw(self) -> None:
        """A thaw that hangs has its timeout, and holds the end up no longer."""
        agent = self.agent_with(
            self.programs.command("a", thaw="exec sleep 1000", thaw_timeout="300ms")
        )
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill(signal.SIGTERM)
        self.terminated(agent)
        self.assertIn("command:a NOT THAWED: not done within 300ms, and told to end", agent.log)


class ReloadTests(LifeTestCase):
    """SIGHUP: the configuration is read again, between windows."""

    def test_idle(self) -> None:
        """With no window open it takes effect at once: participants, limits, secrets."""
        agent = self.agent_with()
        old = agent.credentials
        secret = agent.directory / "secret"
        secret.write_text("another one, just as long as is needed\n")
        secret.chmod(0o600)
        agent.configure(f"secret_file = {secret}\nhold_limit = 77s", self.programs.command("new"))
        self.hang_up(agent)
        with agent.connect() as connection:
            self.assertEqual(connection.get("/sync", old).status, 403)
        (agent.state_directory / "secret").write_text(secret.read_text())
        answer = agent.get("/sync")
        self.assertEqual((answer.status, answer.headers["keep-alive"]), (200, "timeout=77"))
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze new", "thaw new synced"])

    def test_in_a_window(self) -> None:
        """While freezing, holding or thawing it waits for the window's end."""
        gates = ("freezing", "thawing")
        for state in ("freezing", "holding", "thawing"):
            self.programs.clear()
            old = self.programs.command(f"old-{state}", *(f"stay {gate}-{state}" for gate in gates))
            agent = self.agent_with(old)

            def hang_up(now: str, wanted: str = state, agent: Agent = agent) -> None:
                if now == wanted:
                    agent.configure("", self.programs.command(f"new-{wanted}"))
                    agent.kill(signal.SIGHUP)
                    # What comes in after the signal is answered after it is taken note of.
                    self.assertEqual(agent.get("/nothing").status, 404)
                    self.assertNotIn("reloaded", agent.log)

            sync = self.start(agent, "/sync")
            self.programs.wait_for(f"at freezing-{state}")
            hang_up("freezing")
            self.programs.let_on(f"freezing-{state}")
            self.assertEqual(sync.answer().status, 200)
            hang_up("holding")
            post_sync = self.start(agent, "/post-sync")
            self.programs.wait_for(f"at thawing-{state}")
            hang_up("thawing")
            self.programs.let_on(f"thawing-{state}")
            self.assertEqual(post_sync.answer().status, 200)
            agent.wait_for_log("reloaded, with 1 participant\n")
            self.assertEqual(agent.get("/sync").status, 200)
            self.assertEqual(agent.get("/post-sync").status, 200)
            self.assertEqual(
                self.programs.journal[4:], [f"freeze new-{state}", f"thaw new-{state} synced"]
            )
            agent.stop()

    def test_broken(self) -> None:
        """A broken configuration leaves everything as it was, and the log has all mistakes."""
        section = self.programs.command("a")
        agent = self.agent_with(section)
        agent.configure("freeze_budget = soon\nhold_limit = -1", section + "ordre = 1\n")
        agent.kill(signal.SIGHUP)
        agent.wait_for_log("not reloaded", count=3)
        for option in ("freeze_budget", "hold_limit", "ordre"):
            self.assertRegex(agent.log, rf"not reloaded: .*xohook\.ini:\d+ \[\S+\] {option}: ")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])

    def test_certificate(self) -> None:
        """A renewed certificate is served from SIGHUP on, to new connections, without a restart."""
        agent = self.not_started()
        now = datetime.now(timezone.utc)
        files = make("first", now=now).write(agent.directory / "tls")
        agent.configure(f"certificate = {files[0]}\nprivate_key = {files[1]}")
        agent.start()
        before = self.certificate(agent)
        make("second", now=now + timedelta(seconds=1)).write(agent.directory / "tls")
        self.assertEqual(self.certificate(agent), before)
        pid = agent.pid
        self.hang_up(agent)
        after = self.certificate(agent)
        self.assertNotEqual(after, before)
        served = x509.load_der_x509_certificate(after)
        self.assertEqual(served, x509.load_pem_x509_certificate(files[0].read_bytes()))
        self.assertEqual(agent.pid, pid)
        # What is in place now does not go together: the one that is served stays.
        files[1].write_bytes(b"")
        agent.kill(signal.SIGHUP)
        agent.wait_for_log("not reloaded")
        self.assertEqual(self.certificate(agent), after)

    def certificate(self, agent: Agent) -> bytes:
        with agent.connect() as connection:
            held = connection.socket.getpeercert(binary_form=True)
        assert held is not None
        return held

    def test_where(self) -> None:
        """What cannot change without a restart is told and otherwise ignored."""
        agent = self.agent_with()
        text = agent.configuration.read_text()
        agent.configuration.write_text(text.replace(f"tcp:{agent.port}:", "tcp:1:"))
        self.hang_up(agent)
        self.assertIn("listen has changed: restart the agent for it", agent.log)
        self.assertEqual(agent.get("/sync").status, 200)


class RefusedStartTests(LifeTestCase):
    """A start that cannot be says so in plain lines, and exits 1."""

    def refused(self, agent: Agent) -> str:
        agent.spawn()
        self.assertEqual(agent.wait(), 1)
        self.assertNotIn("Traceback", agent.log)
        return agent.log

    def test_second(self) -> None:
        """A second agent with the same runtime directory is refused, and the first one works on."""
        first = self.agent_with()
        second = self.not_started()
        text = second.configuration.read_text()
        second.configuration.write_text(
            text.replace(str(second.runtime_directory), str(first.runtime_directory))
        )
        self.assertEqual(
            self.refused(second),
            f"xohook: another agent (process {first.pid}) is running with the runtime directory"
            f" {first.runtime_directory}: stop it, or give this one a runtime_directory of its"
            " own\n",
        )
        self.assertEqual(first.get("/sync").status, 200)

    def test_frozen_control(self) -> None:
        """A control socket on what a participant freezes is refused, and nothing is made."""
        # The runtime directory lies elsewhere.
        held = tempfile.TemporaryDirectory(prefix="xohook-", dir="/dev/shm")
        self.addCleanup(held.cleanup)
        control = Path(held.name) / "control"
        agent = self.not_started(
            "[command:shm]\nfreeze = fsfreeze -f /dev/shm\nthaw = fsfreeze -u /dev/shm",
            options=f"control = {control}",
        )
        self.assertIn(
            f"control = {control}: it lies on the filesystem of /dev/shm, which [command:shm]"
            " freezes",
            self.refused(agent),
        )
        self.assertEqual(list(control.parent.iterdir()), [])

    def test_busy_port(self) -> None:
        """A port that is taken ends the start with one line that names it."""
        agent = self.not_started()
        with socket.create_server(("127.0.0.1", agent.port)):
            log = self.refused(agent)
        [said] = [line for line in log.splitlines() if "Address already in use" in line]
        self.assertIn(f"tcp:{agent.port}:interface=127.0.0.1", said)
        agent.start()

    def test_mistakes(self) -> None:
        """All mistakes of the configuration are told, and nothing else."""
        agent = self.not_started(
            "[command:a]\n", "[comand:b]\n", options="freeze_budget = soon\nwibble = 1"
        )
        lines = self.refused(agent).splitlines()
        self.assertEqual(len(lines), 4, lines)
        for line in lines:
            self.assertRegex(line, rf"^{agent.configuration}:\d+ \[")

    def test_no_configuration(self) -> None:
        """A configuration that is not there is told, and nothing is made."""
        agent = self.not_started()
        agent.configuration.unlink()
        self.assertIn(f"{agent.configuration}: cannot be read", self.refused(agent))
        self.assertFalse(agent.state_directory.exists())
