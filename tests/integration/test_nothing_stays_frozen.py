"""Nothing stays frozen: whatever happens to whom, all is let go without waiting for a limit.

The hold limit is ten minutes, unless it is what the test is about.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.disks import Disk, DiskTestCase, run
from tests.integration.footprint import children
from tests.integration.holds import Lock, assert_ended, filesystem, guards, kill
from tests.integration.servers import MariaDB

LIMIT = "hold_limit = 10m\n"


class HoldTestCase(DiskTestCase):
    """Two filesystems and a lock, held by an agent."""

    def setUp(self) -> None:
        self.need_disks()
        needs.program("flock")
        self.first, self.second = self.make_disk("ext4"), self.make_disk("xfs")
        self.lock = Lock(Path(self.mktemp()).resolve())
        self.sections = "".join(
            (
                self.lock.section(),
                filesystem(self.first, "first"),
                filesystem(self.second, "second"),
            )
        )

    def start(self, options: str = LIMIT) -> Agent:
        """Start the agent."""
        return Agent.for_test(self, options, self.sections)

    def hold(self, options: str = LIMIT) -> Agent:
        """Start the agent, and have it hold everything."""
        agent = self.start(options)
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 200, f"{answer.body!r}\n{agent.log}")
        self.assert_held()
        return agent

    def assert_held(self) -> None:
        """See that everything is held."""
        self.assert_frozen(self.first, self.second)
        self.assertTrue(self.lock.is_held)

    def assert_all_let_go(self, *disks: Disk) -> None:
        """See that nothing is held any more, soon."""
        self.assert_let_go(*disks)
        self.lock.assert_let_go()


class HoldTests(HoldTestCase):
    """What may happen while everything is held."""

    def test_good(self) -> None:
        """A window in which nothing happens is synced, and leaves no guard behind."""
        agent = self.hold()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assert_all_let_go()
        agent.wait_for_outcomes("synced")
        eventually(lambda: not children(agent.pid), "all guards have ended")

    def test_agent_killed(self) -> None:
        """The agent is killed: the guards let go, and the next start says so."""
        agent = self.hold()
        holders = guards(agent)
        agent.kill()
        self.assert_all_let_go()
        assert_ended(*holders)
        agent.wait()
        agent.start()
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(agent.outcomes, ["recovered"])

    def test_agent_terminated(self) -> None:
        """The agent gets SIGTERM: it lets go of all and ends."""
        agent = self.hold()
        agent.kill(signal.SIGTERM)
        agent.wait()
        self.assert_all_let_go()
        self.assertEqual(agent.outcomes, ["stopped"])

    def test_agent_stopped(self) -> None:
        """The agent is stopped past the limit: the guards let go, and the window is not synced."""
        agent = self.hold("hold_limit = 2s\n")
        agent.kill(signal.SIGSTOP)
        self.assert_all_let_go()
        agent.kill(signal.SIGCONT)
        self.assertEqual(agent.get("/post-sync").status, 500)
        eventually(lambda: agent.outcomes, "the window has ended")
        self.assertIn(agent.outcomes, (["broken"], ["expired"]))

    def assert_broken(self, agent: Agent, who: str) -> None:
        """See that all is let go, by the agent, and that the window is broken for that reason."""
        self.assert_all_let_go()
        agent.wait_for_outcomes("broken")
        agent.wait_for_log(rf"window \S+: .*{who}: its (guard|client) has ended")
        self.assertEqual(agent.get("/post-sync").status, 500)
        eventually(lambda: not children(agent.pid), "all guards have ended")

    def test_freezer_killed(self) -> None:
        """A guard of filesystems is killed: the agent thaws in its place."""
        agent = self.hold()
        kill(guards(agent, "freezer")[0])
        self.assert_broken(agent, "filesystem:(first|second)")
        self.assertIn("is thawed in the place of its guard", agent.log)

    def test_freezers_killed(self) -> None:
        """All guards of filesystems are killed at once: the agent thaws in their place."""
        agent = self.hold()
        kill(*guards(agent, "freezer"))
        self.assert_broken(agent, "filesystem:(first|second)")

    def test_freezers_stopped(self) -> None:
        """All guards of filesystems are stopped: the agent ends them and thaws in their place."""
        agent = self.hold()
        for guard in guards(agent, "freezer"):
            os.kill(guard, signal.SIGSTOP)
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assert_all_let_go()
        self.assertEqual(agent.outcomes, ["failed"])

    def test_session_guard_killed(self) -> None:
        """The guard of a session is killed: its client ends, and the agent lets go of the rest."""
        agent = self.hold()
        [guard] = guards(agent, "session")
        [client] = children(guard)
        kill(guard)
        self.assert_broken(agent, "session:lock")
        assert_ended(client)

    def test_client_killed(self) -> None:
        """A session's client is killed: the agent lets go of the rest."""
        agent = self.hold()
        [guard] = guards(agent, "session")
        kill(*children(guard))
        self.assert_broken(agent, "session:lock")

    def test_agent_then_guards(self) -> None:
        """The agent is killed, and the guards a second later: all is let go in between."""
        agent = self.hold()
        holders = guards(agent)
        agent.kill()
        time.sleep(1)
        kill(*holders)
        self.assert_all_let_go()

    def test_guards_then_agent(self) -> None:
        """The guards are killed, and the agent a second later: all is let go in between."""
        agent = self.hold()
        kill(*guards(agent))
        time.sleep(1)
        agent.kill()
        self.assert_all_let_go()

    def test_all_at_once(self) -> None:
        """Agent and guards are killed at once: the next start lets go before it opens its log."""
        agent = Agent(Path(self.mktemp()).resolve(), LIMIT, self.sections)
        log, pid = self.first.mount / "agent.log", self.second.mount / "agent.pid"
        agent.twistd_options = ("-n", f"--logfile={log}", f"--pidfile={pid}")
        self.addCleanup(agent.stop)
        agent.start()
        self.assertEqual(agent.get("/sync").status, 200)
        self.assert_held()
        [client] = children(*guards(agent, "session"))
        kill(agent.pid, *guards(agent))
        agent.wait()
        self.assert_frozen(self.first, self.second)
        agent.start()
        self.assert_all_let_go()
        assert_ended(client)
        self.assertEqual(agent.get("/post-sync").status, 500)
        eventually(lambda: "recovered" in log.read_text(), "the log tells of it")


class FreezeTests(HoldTestCase):
    """What may happen on the way to a hold."""

    def test_second_of_three(self) -> None:
        """The second of three filesystems cannot be frozen: the others are let go, it is left."""
        third = self.make_disk()
        self.second.freeze()
        agent = Agent.for_test(
            self,
            LIMIT,
            "".join(
                (
                    self.lock.section(),
                    filesystem(self.first, "first", "order = 91"),
                    filesystem(self.second, "second", "order = 92"),
                    filesystem(third, "third", "order = 93"),
                )
            ),
        )
        answer = agent.get("/sync")
        self.assertEqual((answer.status, answer.first_line), (500, "Internal Error"))
        self.assertIn(b"filesystem:second", answer.body)
        self.assertIn(b"somebody else has frozen it already", answer.body)
        self.assert_all_let_go(self.first, third)
        self.assert_frozen(self.second)
        agent.wait_for_outcomes("failed")

    def wait_for_lock(self, agent: Agent) -> int:
        """Have a session wait for the lock while filesystems are frozen; give its client."""
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", "/sync", agent.credentials)
        eventually(lambda: guards(agent, "session"), "the session's guard is there")
        [guard] = guards(agent, "session")
        eventually(lambda: children(guard), "the session's client is there")
        [client] = children(guard)
        eventually(lambda: children(client), "the client waits for the lock")
        self.assert_frozen(self.first, self.second)
        return client

    def test_waiting(self) -> None:
        """A session waits for a lock: when the agent dies, its client ends all the same."""
        self.sections = "".join(
            (
                self.lock.section("order = 95"),
                filesystem(self.first, "first"),
                filesystem(self.second, "second"),
            )
        )
        for number in (signal.SIGKILL, signal.SIGTERM):
            holder = self.lock.hold()
            self.addCleanup(holder.wait)
            self.addCleanup(holder.kill)
            agent = self.start()
            client = self.wait_for_lock(agent)
            agent.kill(number)
            self.assert_let_go()
            assert_ended(client)
            holder.kill()
            self.lock.assert_let_go()

    def test_waits_too_long(self) -> None:
        """A session waits longer than it may: the freeze fails, and all is let go."""
        self.sections = self.sections.replace("command = sh", "command = sh\nfreeze_timeout = 1s")
        holder = self.lock.hold()
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        agent = self.start()
        self.assertIn(b"session:lock: not done within 1s", agent.get("/sync").body)
        holder.kill()
        self.assert_all_let_go()
        agent.wait_for_outcomes("failed")

    def test_mariadb_waits(self) -> None:
        """MariaDB's client waits for a lock, and its connection is gone once the agent is."""
        server = MariaDB(self)
        locked = "LOCK TABLES ledger.plain WRITE; SELECT 'locked';\n"
        holder = subprocess.Popen(
            [*server.client, "--batch", "--unbuffered"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        assert holder.stdin is not None
        assert holder.stdout is not None
        self.addCleanup(holder.stdin.close)
        self.addCleanup(holder.stdout.close)
        holder.stdin.write(locked.encode())
        holder.stdin.flush()
        self.assertEqual(holder.stdout.readline(), b"locked\n")
        self.sections = "\n".join(
            (
                "[session:mariadb]",
                f"command = {' '.join(server.client)} --batch --skip-column-names --unbuffered",
                "freeze_input = FLUSH TABLES WITH READ LOCK; SELECT 'frozen';",
                "freeze_expect = frozen",
                "freeze_refuse = ^ERROR",
                "thaw_input = UNLOCK TABLES; SELECT 'thawed';",
                "thaw_expect = thawed",
                "order = 95",
                filesystem(self.first, "first"),
                filesystem(self.second, "second"),
            )
        )
        agent = self.start()
        waiting = (
            "SELECT COUNT(*) FROM information_schema.processlist"
            " WHERE info LIKE 'FLUSH TABLES%' AND state LIKE 'Waiting%'"
        )
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", "/sync", agent.credentials)
        eventually(lambda: server.query(waiting) == "1\n", "the session waits for the lock")
        self.assert_frozen(self.first, self.second)
        agent.kill()
        self.assert_let_go()
        eventually(lambda: server.query(waiting) == "0\n", "nobody waits any more", 20)


class FullDiskTests(HoldTestCase):
    """What a full disk does."""

    def setUp(self) -> None:
        super().setUp()
        self.small = Path(self.mktemp()).resolve()
        self.small.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", self.small)
        self.addCleanup(run, "umount", self.small)

    def fill(self, directory: Path) -> None:
        """Fill a filesystem to its last byte."""
        run("sh", "-c", 'cat /dev/zero >"$0" 2>&- || :', directory / "filler")

    def make(self, *, state: Path | None = None, runtime: Path | None = None) -> Agent:
        """Start an agent with some of its directories elsewhere."""
        agent = Agent(Path(self.mktemp()).resolve())
        agent.state_directory = state or agent.state_directory
        agent.runtime_directory = runtime or agent.runtime_directory
        # The path may be too long for a socket.
        agent.configure(f"{LIMIT}\ncontrol = no", self.sections)
        self.addCleanup(agent.stop)
        agent.start()
        return agent

    def test_stamp(self) -> None:
        """The stamp cannot be written: the freeze fails, nothing is frozen."""
        agent = self.make(state=self.small)
        self.fill(self.small)
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(b"cannot write the stamp", answer.body)
        self.assertIn(b"No space left on device", answer.body)
        self.assert_all_let_go()

    def test_record(self) -> None:
        """The record cannot be written: the freeze fails, all is let go."""
        agent = self.make(runtime=self.small)
        self.fill(self.small)
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(b"No space left on device", answer.body)
        self.assert_all_let_go()

    def test_record_later(self) -> None:
        """The record cannot be written any more during the hold: all is let go in the end."""
        agent = self.make(runtime=self.small)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assert_held()
        self.fill(self.small)
        agent.get("/post-sync")
        self.assert_all_let_go()

    def test_frozen(self) -> None:
        """What is frozen is full itself, and the log on it: the window is as good as any."""
        agent = self.make(state=self.second.mount / "state")
        self.fill(self.first.mount)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assert_held()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertFalse(self.first.is_frozen)
        self.assert_all_let_go(self.second)
