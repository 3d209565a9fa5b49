"""A session's lock that outlives its client is released however client, guard or agent end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.integration.agent import eventually
from tests.integration.asking import OwingTestCase
from tests.integration.footprint import children
from tests.integration.holds import guards
from tests.integration.programs import Programs


class LockTestCase(OwingTestCase):
    """A session whose lock is a directory that its client makes and removes."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())
        self.lock = self.programs.directory / "lock"

    def session(self, freeze: str = "", thaw: str = "", **options: object) -> str:
        """Write the section and its client.

        :param freeze: what the client does between the lock and its word of it.
        :param thaw: what it does before it releases the lock.
        :param options: further options.
        :return: the section.
        """
        client = self.programs.write(
            "client",
            f"freeze() {{ mkdir {self.lock}; {freeze or ':'}; echo frozen; }}",
            f"thaw() {{ {thaw or ':'}; rmdir {self.lock} || exit 3; echo thawed; }}",
            "while read -r word; do $word; done",
        )
        lines = [
            "[session:db]",
            f"command = {client}",
            *("freeze_input = freeze", "freeze_expect = frozen"),
            *("thaw_input = thaw", "thaw_expect = thawed"),
            *(f"{option} = {value}" for option, value in options.items()),
        ]
        return "\n".join(lines) + "\n"

    def first_time(self, action: str) -> str:
        """Write what only the first client does."""
        mark = self.programs.directory / "mark"
        return f"[ -e {mark} ] || {{ touch {mark}; {action}; }}"

    @property
    def guard(self) -> int:
        """The guard's process."""
        [pid] = guards(self.agent, "session")
        return pid

    def assert_released(self) -> None:
        """See that the lock is released, and that nothing is owed."""
        eventually(lambda: not self.lock.exists(), "the lock is released")
        eventually(lambda: not self.unthawed(), "nothing is owed")
        self.assertEqual(self.record(), [])


class FreezeTests(LockTestCase):
    """The freeze ends before the client confirms it."""

    def begin(self) -> None:
        """Have the client take its lock, and be slow to say so."""
        self.agent = self.agent_with(self.session(freeze=self.first_time("stay slow")))
        self.connection = self.agent.connect()
        self.addCleanup(self.connection.close)
        self.connection.start("GET", "/sync", self.agent.credentials)
        self.programs.wait_for("at slow")

    def test_requester_gone(self) -> None:
        """The requester leaves: the client is ended, and its lock released."""
        self.begin()
        self.connection.close()
        self.agent.wait_for_outcomes("cancelled")
        self.assert_released()

    def test_guard_stopped(self) -> None:
        """So it is where the guard is stopped, and cannot end the client."""
        self.begin()
        client = children(self.guard)
        os.kill(self.guard, signal.SIGSTOP)
        self.connection.close()
        self.agent.wait_for_outcomes("cancelled")
        self.assert_released()
        self.assertEqual([Path(f"/proc/{pid}").exists() for pid in client], [False])

    def test_guard_killed(self) -> None:
        """So it is where the guard is killed; the window fails."""
        self.begin()
        os.kill(self.guard, signal.SIGKILL)
        self.assertEqual(self.connection.answer().status, 500)
        self.agent.wait_for_outcomes("failed")
        self.assert_released()

    def test_refused(self) -> None:
        """A client that refuses and ends by itself is not followed by another one."""
        section = self.session(freeze="echo sorry; exit 1", freeze_refuse="sorry")
        self.agent = self.agent_with(section)
        self.lock.mkdir()
        self.assertEqual(self.agent.get("/sync").status, 500)
        self.agent.wait_for_outcomes("failed")
        self.assertTrue(self.lock.exists())


class HoldTests(LockTestCase):
    """A client that needs longer for its thaw than others."""

    def hold(self, options: str = "") -> None:
        """Hold the lock."""
        self.agent = self.agent_with(self.session(thaw="sleep 3"), options=options)
        self.assertEqual(self.agent.get("/sync").status, 200)

    def test_agent_killed(self) -> None:
        """The agent is killed: the guard lets the client finish its thaw."""
        self.hold()
        self.agent.kill()
        self.agent.wait()
        eventually(lambda: not self.lock.exists(), "the lock is released")

    def test_agent_stopped(self) -> None:
        """The agent is stopped for longer than the hold may last: so it does."""
        self.hold("hold_limit = 1s")
        self.agent.kill(signal.SIGSTOP)
        eventually(lambda: not self.lock.exists(), "the lock is released")
        self.agent.kill(signal.SIGCONT)
        self.agent.wait_for_outcomes("expired")
        self.assert_released()


class ThawTests(LockTestCase):
    """What ends while the client thaws."""

    def begin(self) -> None:
        """Have the client stay in its thaw."""
        section = self.session(thaw=self.first_time("stay thaw"), thaw_timeout="20s")
        self.agent = self.agent_with(section)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.connection = self.agent.connect()
        self.addCleanup(self.connection.close)
        self.connection.start("GET", "/post-sync", self.agent.credentials)
        self.programs.wait_for("at thaw")

    def assert_failed(self) -> None:
        """See that the window failed, and nothing is locked."""
        answer = self.connection.answer()
        self.assertEqual(answer.status, 500)
        self.assertIn("session:db: not", answer.body.decode())
        self.assert_released()

    def test_client_killed(self) -> None:
        """The client is killed: another one releases the lock."""
        self.begin()
        [client] = children(self.guard)
        os.killpg(client, signal.SIGKILL)
        self.assert_failed()

    def test_guard_terminated(self) -> None:
        """The guard is told to end, as by ``systemctl kill``."""
        self.begin()
        os.kill(self.guard, signal.SIGTERM)
        self.assert_failed()


class OwedTests(LockTestCase):
    """The lock cannot be released in the client's place."""

    def lose(self, thaw: str) -> None:
        """Hold the lock, and lose the client."""
        self.agent = self.agent_with(self.session(thaw=thaw, thaw_timeout="2s"))
        self.assertEqual(self.agent.get("/sync").status, 200)
        os.kill(self.guard, signal.SIGKILL)

    def test_hangs(self) -> None:
        """The thaw is owed while the client hangs, no window opens, and then it is released."""
        busy = self.programs.directory / "busy"
        busy.touch()
        self.lose(f"while [ -e {busy} ]; do sleep 0.1; done")
        eventually(self.unthawed, "it is owed")
        [unthawed] = self.unthawed()
        self.assertEqual(unthawed["name"], "session:db")
        self.assertIn("did not confirm the thaw within 1.5s", unthawed["problem"])
        self.assertEqual([entry["name"] for entry in self.record()], ["session:db"])
        busy.unlink()
        self.assert_released()

    def test_stubborn(self) -> None:
        """A client that ignores SIGTERM is ended in time, however short that is."""
        section = self.session(freeze="trap '' TERM HUP", thaw=self.first_time("stay thaw"))
        self.agent = self.agent_with(section + "thaw_timeout = 1s\n")
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.agent.get("/post-sync").status, 500)
        self.assert_released()

    def test_no_program(self) -> None:
        """So it is while the client's program is not there."""
        self.agent = self.agent_with(self.session())
        self.assertEqual(self.agent.get("/sync").status, 200)
        client = self.programs.directory / "client"
        client.rename(client.with_name("away"))
        os.kill(self.guard, signal.SIGKILL)
        eventually(self.unthawed, "it is owed")
        self.assertIn("no such program", self.unthawed()[0]["problem"])
        client.with_name("away").rename(client)
        self.assert_released()

    def test_next_start(self) -> None:
        """A start that cannot release it either leaves it owed, and does it later."""
        busy = self.programs.directory / "busy"
        busy.touch()
        self.lose(f"while [ -e {busy} ]; do sleep 0.1; done")
        eventually(self.unthawed, "it is owed")
        self.agent.kill()
        self.agent.wait()
        self.agent.start()
        self.assertEqual([each["name"] for each in self.unthawed()], ["session:db"])
        busy.unlink()
        self.assert_released()
