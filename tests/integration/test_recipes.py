"""Tests of the recipes with real clients and servers: what they hold, and that it is let go."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import eventually
from tests.integration.guards import Guard
from tests.integration.servers import MariaDB, PostgreSQL, Redis
from xohook.config.loading import load

ENVIRON = {"STATE_DIRECTORY": "/state", "RUNTIME_DIRECTORY": "/runtime"}


class RecipeTestCase(SynchronousTestCase):
    """Reads a section that names a recipe."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def settings(self, *lines: str) -> Any:
        """Load the one participant of a file."""
        file = self.folder / "x.ini"
        file.write_text("\n".join(lines))
        [found] = load(file, environ=ENVIRON).participants
        return found


class SessionTestCase(RecipeTestCase):
    """Runs a recipe's client under the guard, as the agent does."""

    section: tuple[str, ...] = ()

    def start(self) -> Guard:
        """Start the client under its guard."""
        self.recipe = self.settings(*self.section)
        variables = [f"{name}={value}" for name, value in self.recipe.environment.items()]
        guard = Guard.of_session(
            self, "env", *variables, *self.recipe.command, thaw_input=self.recipe.thaw_input
        )
        self.client = int(guard.line().removeprefix("0 started "))
        return guard

    def frozen(self) -> Guard:
        """Start the client and have it freeze."""
        guard = self.start()
        guard.send(self.recipe.freeze_input)
        self.await_line(guard, self.recipe.freeze_expect)
        return guard

    def await_line(self, guard: Guard, expected: str) -> list[str]:
        """Wait until the client says a whole line, and give what it has said until then."""
        said: list[str] = []
        while True:
            line = guard.line()
            if line.endswith(" thawing"):
                continue
            self.assertTrue(line.startswith("0 line "), (line, said))
            said.append(line.removeprefix("0 line "))
            if said[-1].strip() == expected:
                return said

    def spawn(self, *words: str | Path) -> subprocess.Popen[bytes]:
        """Start a program that may have to wait for a lock."""
        process = subprocess.Popen(words)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def assert_ends_well(self, *processes: subprocess.Popen[bytes]) -> None:
        """See that programs which waited for a lock get it."""
        for process in processes:
            self.assertEqual(process.wait(20), 0)


class HoldMixin(ABC):
    """What holds of every recipe for a session; mixed into a test case with its server."""

    @abstractmethod
    def begin_writes(self: Any) -> list[subprocess.Popen[bytes]]:
        """Start writing; comes back when all writes have been held back."""

    def test_thawed(self: Any) -> None:
        """Writes are held back until the thaw, which is proved over the same connection."""
        guard = self.frozen()
        writes = self.begin_writes()
        guard.order("thaw")
        self.await_line(guard, self.recipe.thaw_expect)
        self.assert_ends_well(*writes)
        guard.order("close")
        self.assertEqual(guard.lines(), ["0 ended exit status 0"])

    def test_agent_gone(self: Any) -> None:
        """The end of the agent lets go."""
        guard = self.frozen()
        writes = self.begin_writes()
        guard.close()
        self.assert_ends_well(*writes)

    def test_guard_killed(self: Any) -> None:
        """The guard's end by SIGKILL lets go."""
        guard = self.frozen()
        writes = self.begin_writes()
        guard.signal(signal.SIGKILL)
        self.assert_ends_well(*writes)

    def test_client_killed(self: Any) -> None:
        """The client's end by SIGKILL is told, and a client of its own thaws in its place."""
        guard = self.frozen()
        writes = self.begin_writes()
        os.kill(self.client, signal.SIGKILL)
        self.assertEqual(guard.lines()[-1], "0 ended SIGKILL")
        rescue = self.start()
        rescue.order("thaw")
        rescue.close()
        rescue.lines()
        self.assert_ends_well(*writes)


class MariaDBTests(HoldMixin, SessionTestCase):
    """The recipe ``mariadb``."""

    def setUp(self) -> None:
        super().setUp()
        self.server = MariaDB(self)
        self.section = self.section_of("root")

    def section_of(self, user: str) -> tuple[str, ...]:
        options = "--batch --skip-column-names --unbuffered --skip-reconnect"
        client = f"{shlex.join(self.server.client)} --user={user}"
        return "[session:db]", "recipe = mariadb", f"command = {client} {options}"

    def waiting(self) -> int:
        """Count the statements that wait for a lock."""
        states = "SELECT state FROM information_schema.processlist"
        return self.server.query(states).count("Waiting for")

    def begin_writes(self) -> list[subprocess.Popen[bytes]]:
        writes = [
            self.spawn(*self.server.client, f"--execute={statement}")
            for statement in (
                "INSERT INTO ledger.lasting VALUES (1)",
                "INSERT INTO ledger.plain VALUES (1)",
            )
        ]
        eventually(lambda: self.waiting() == 2, "both writes wait")
        return writes

    def test_waiting(self) -> None:
        """A freeze that waits for another's lock is let go of as well."""
        other = subprocess.Popen(
            self.server.client, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.addCleanup(other.wait)
        assert other.stdin is not None
        other.stdin.write(b"LOCK TABLES ledger.plain WRITE;\n")
        other.stdin.flush()
        count = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'root'"
        eventually(lambda: self.server.query(count).strip() == "2", "the other is there")
        guard = self.start()
        guard.send(self.recipe.freeze_input)
        eventually(lambda: self.waiting() == 1, "the freeze waits")
        guard.close()
        eventually(lambda: self.waiting() == 0, "the freeze waits no more")
        other.stdin.close()

    def test_refused(self) -> None:
        """A user without the right is refused in the server's words, and nothing more is tried."""
        self.server.query("CREATE USER weak@localhost")
        self.section = self.section_of("weak")
        guard = self.start()
        guard.send(self.recipe.freeze_input)
        refusals = [line for line in guard.lines() if line.startswith("0 line ERROR ")]
        self.assertEqual(len(refusals), 1)
        self.assertRegex(refusals[0].removeprefix("0 line "), self.recipe.freeze_refuse)
        self.assertIn("RELOAD", refusals[0])


class RedisTests(HoldMixin, SessionTestCase):
    """The recipe ``redis``."""

    def setUp(self) -> None:
        super().setUp()
        self.server = Redis(self)
        options = f"REDIS_OPTIONS='-s {self.server.socket}'"
        self.section = "[session:db]", "recipe = redis", f"environment = {options}"

    def begin_writes(self) -> list[subprocess.Popen[bytes]]:
        write = self.spawn("redis-cli", "-s", self.server.socket, "set", "a", "b")
        # Its connection stands as long as it has no answer.
        eventually(lambda: " cmd=set " in self.server.ask("client", "list"), "it waits")
        self.assertEqual(self.server.ask("exists", "a"), "0")
        return [write]

    def test_dumped(self) -> None:
        """What was written before the freeze is in the dump and in the append-only file."""
        self.server.ask("set", "a", "b")
        self.frozen()
        said = self.server.ask("info", "persistence")
        self.assertIn("rdb_changes_since_last_save:0", said)
        self.assertIn("aof_buffer_length:0", said)
        self.assertTrue((self.server.folder / "dump.rdb").exists())

    def test_undone(self) -> None:
        """A pause that ends before the thaw ends the session, which tells why."""
        guard = self.frozen()
        self.server.ask("client", "unpause")
        said = guard.lines()
        self.assertEqual(said, ["0 line refused: the pause has ended", "0 ended exit status 1"])

    def test_refused(self) -> None:
        """What the server refuses is told in its words; ``redis-cli`` itself would go on."""
        self.server.ask("config", "set", "requirepass", "secret")
        guard = self.start()
        guard.send(self.recipe.freeze_input)
        said = guard.line().removeprefix("0 line ")
        self.assertRegex(said, self.recipe.freeze_refuse)
        self.assertIn("NOAUTH", said)


class SQLiteTests(HoldMixin, SessionTestCase):
    """The recipe ``sqlite``."""

    def setUp(self) -> None:
        super().setUp()
        self.program = needs.program("sqlite3")
        self.file = self.folder / "a file.db"
        self.run_sql("PRAGMA journal_mode = WAL; CREATE TABLE ledger (it)")
        variable = shlex.quote(f"DATABASE={self.file}")
        self.section = "[session:db]", "recipe = sqlite", f"environment = {variable}"

    def run_sql(self, text: str) -> bool:
        """Run SQL that waits for no lock, and tell whether it succeeded."""
        ended = subprocess.run([self.program, self.file, text], capture_output=True, check=False)
        return ended.returncode == 0

    def begin_writes(self) -> list[subprocess.Popen[bytes]]:
        self.assertFalse(self.run_sql("BEGIN IMMEDIATE"))
        wait = ("-cmd", ".timeout 20000")
        return [self.spawn(self.program, *wait, self.file, "INSERT INTO ledger VALUES (1)")]

    def test_checkpointed(self) -> None:
        """What was written before the freeze is in the file itself."""
        with_reader = subprocess.Popen([self.program, self.file], stdin=subprocess.PIPE)
        self.addCleanup(with_reader.wait)
        assert with_reader.stdin is not None
        # The last connection to close would take the log away; this one stays.
        with_reader.stdin.write(b"INSERT INTO ledger VALUES (1);\n")
        with_reader.stdin.flush()
        log = self.file.with_name(f"{self.file.name}-wal")
        eventually(lambda: log.exists() and log.stat().st_size, "it is in the log")
        self.frozen()
        self.assertEqual(log.stat().st_size, 0)
        with_reader.stdin.close()

    def test_not_there(self) -> None:
        """A database that is not there is refused, and not made."""
        self.file.unlink()
        guard = self.start()
        said = guard.line().removeprefix("0 line ")
        self.assertRegex(said, self.recipe.freeze_refuse)
        self.assertIn(f"DATABASE={self.file}: no file that", said)
        self.assertFalse(self.file.exists())


def position(text: str) -> tuple[int, int]:
    """Read a place in PostgreSQL's log (``pg_lsn``)."""
    high, _, low = text.partition("/")
    return int(high, 16), int(low, 16)


class PostgreSQLTests(RecipeTestCase):
    """The recipe ``postgresql``."""

    def run_freeze(self, server: PostgreSQL, *more: str) -> subprocess.CompletedProcess[str]:
        recipe = self.settings(
            "[command:db]",
            "recipe = postgresql",
            f"user = {server.user}",
            f"environment = PGHOST={server.folder} {' '.join(more)}",
        )
        return subprocess.run(
            recipe.freeze,
            env={"PATH": os.environ["PATH"], **recipe.environment},
            user=server.user,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def test_checkpoint(self) -> None:
        """All that was written before is checkpointed, and a failure is an exit status."""
        server = PostgreSQL(self)
        server.query("CREATE TABLE ledger (it int)")
        before = server.query("SELECT pg_current_wal_insert_lsn()")
        ended = self.run_freeze(server)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        reached = server.query("SELECT redo_lsn FROM pg_control_checkpoint()")
        self.assertGreaterEqual(position(reached), position(before))
        server.query("CREATE ROLE weak LOGIN")
        ended = self.run_freeze(server, "PGUSER=weak")
        self.assertNotEqual(ended.returncode, 0)
        self.assertIn("pg_checkpoint", ended.stderr)


class StandInTests(RecipeTestCase):
    """The recipes whose clients are not to be had here, around stand-ins for these.

    What is tested is the recipe's own shell; the stand-ins note what they are asked for.
    """

    def stand_in(self, name: str, script: str) -> dict[str, str]:
        """Make a program, and give the environment in which it is found."""
        program = self.folder / name
        program.write_text(f"#!/bin/sh\necho {name} $* >> {self.folder}/asked\n{script}\n")
        program.chmod(0o755)
        return {"PATH": f"{self.folder}:/usr/bin:/bin"}

    def asked(self) -> list[str]:
        """Tell what the stand-in was asked for."""
        return (self.folder / "asked").read_text().splitlines()

    def run_recipe(
        self, words: tuple[str, ...], environment: dict[str, str], said: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=environment, input=said, capture_output=True, text=True, check=False
        )

    def test_docker(self) -> None:
        """Containers are paused together, and those that are still paused go on."""
        paused = 'case "$1 $4" in "inspect b") echo false;; inspect*) echo true;; esac'
        recipe = self.settings("[command:x]", "recipe = docker", "environment = CONTAINERS='a b'")
        environment = {**self.stand_in("docker", paused), **recipe.environment}
        self.assertEqual(self.run_recipe(recipe.freeze, environment).returncode, 0)
        for outcome, status in (("failed", 0), ("synced", 1)):
            ended = self.run_recipe(recipe.thaw, {**environment, "XOHOOK_OUTCOME": outcome})
            self.assertEqual(ended.returncode, status, ended)
        inspect = "docker inspect --format {{.State.Paused}}"
        thaw = [f"{inspect} a", "docker unpause a", f"{inspect} b"]
        self.assertEqual(self.asked(), ["docker pause a b", *thaw, *thaw])

    def test_docker_without_names(self) -> None:
        """Containers have to be named."""
        recipe = self.settings("[command:x]", "recipe = docker")
        ended = self.run_recipe(recipe.freeze, self.stand_in("docker", ""))
        self.assertNotEqual(ended.returncode, 0)
        self.assertIn("environment = CONTAINERS=NAME", ended.stderr)

    def test_mongodb(self) -> None:
        """One lock has one unlock, at the thaw or at the end of whoever holds."""
        recipe = self.settings("[session:x]", "recipe = mongodb")
        environment = self.stand_in("mongosh", "")
        for said, lines in (("freeze\nthaw\n", "frozen\nthawed\n"), ("freeze\n", "frozen\n")):
            self.assertEqual(self.run_recipe(recipe.command, environment, said).stdout, lines)
            locks = [line.rpartition(".")[2] for line in self.asked()]
            self.assertEqual(locks, ["fsyncLock()", "fsyncUnlock()"])
            (self.folder / "asked").unlink()

    def test_mongodb_refused(self) -> None:
        """What MongoDB refuses is told, for the thaw of what is not locked too."""
        recipe = self.settings("[session:x]", "recipe = mongodb")
        environment = self.stand_in("mongosh", "echo MongoServerError; exit 1")
        for said in ("freeze\n", "thaw\n", "check\n"):
            ended = self.run_recipe(recipe.command, environment, said)
            self.assertRegex(ended.stdout, recipe.freeze_refuse)
            self.assertIn("MongoServerError", ended.stdout)
