"""Databases that are written to while their disks are snapshotted, and started on what came of it.

Each keeps numbers: a writer hands them in, one after the other, and what it may count on is in the
database from then on. The data lies on one disk; PostgreSQL has a tablespace on another.
"""
# ruff: noqa: S608 - the names in the queries are those of the tables here.

from __future__ import annotations

import shlex
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import eventually
from tests.integration.servers import Server


class Database(Server, ABC):
    """A database with its data on one disk, and perhaps some on another.

    :param test: the test.
    """

    #: The user that its server runs as where the test is root's; None for the test's own.
    runs_as: str | None = None

    #: What the writer has its client run; it says ``doneNUMBER`` once NUMBER is kept for good.
    text = ""

    #: Where each number is kept.
    tables: tuple[str, ...] = ("kept",)

    def __init__(self, test: SynchronousTestCase) -> None:
        super().__init__(test, self.runs_as)
        self.socket = self.folder / "socket"
        self.first, self.second = self.folder / "first", self.folder / "second"

    @property
    @abstractmethod
    def client(self) -> tuple[str, ...]:
        """The writer's client."""

    @property
    @abstractmethod
    def section(self) -> str:
        """The participant that holds it, by its recipe."""

    @abstractmethod
    def create(self) -> None:
        """Make an empty database on the disks that are mounted, and start it."""

    @abstractmethod
    def start(self) -> None:
        """Start it on the data that is there, repairing nothing."""

    @abstractmethod
    def numbers(self, table: str) -> set[int]:
        """Have it look over a table, and read it.

        :param table: one of :attr:`tables`.
        :return: the numbers that are kept there.
        :raises AssertionError: where it finds anything wrong.
        """

    def make(self, directory: Path) -> Path:
        """Make a directory for its data, which is its server's alone.

        :param directory: the directory.
        :return: it.
        """
        self.run_as_root("install", "-d", "-m", "700", "-o", self.user, str(directory))
        return directory

    @staticmethod
    def run_as_root(*command: str) -> None:
        """Run a program as the test's own user.

        :param command: the program and its arguments.
        """
        subprocess.run(command, check=True, timeout=60)


class MariaDBDatabase(Database):
    """MariaDB, with tables of InnoDB, Aria and MyISAM."""

    runs_as = "mysql"
    tables = ("InnoDB", "Aria", "MyISAM")
    text = (
        "".join(f"INSERT INTO kept.{table} VALUES (NUMBER); " for table in tables)
        + "SELECT 'doneNUMBER';"
    )

    @property
    def client(self) -> tuple[str, ...]:
        """The writer's client."""
        words = ("mariadb", "--no-defaults", "--user=root", f"--socket={self.socket}")
        return (*words, "--batch", "--skip-column-names", "--unbuffered", "--skip-reconnect")

    @property
    def section(self) -> str:
        """The participant that holds it, by its recipe."""
        command = shlex.join(self.client)
        return f"[session:mariadb]\nrecipe = mariadb\ncommand = {command}\n"

    def create(self) -> None:
        """Make an empty database on the disks that are mounted, and start it."""
        self.run(
            needs.program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={self.make(self.first / 'data')}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        self.start()
        self.query("CREATE DATABASE kept")
        for table in self.tables:
            self.query(f"CREATE TABLE kept.{table} (number INT PRIMARY KEY) ENGINE={table}")

    def start(self) -> None:
        """Start it on the data that is there, repairing nothing."""
        self.socket.unlink(missing_ok=True)
        self.spawn(
            needs.program("mariadbd"),
            "--no-defaults",
            f"--datadir={self.first / 'data'}",
            f"--socket={self.socket}",
            "--skip-networking",
            "--innodb-flush-method=fsync",
            "--aria-recover-options=OFF",
            "--myisam-recover-options=OFF",
        )
        eventually(self.socket.exists, "MariaDB has opened its socket")

    def numbers(self, table: str) -> set[int]:
        """Have it look over a table, and read it."""
        said = self.query(f"CHECK TABLE kept.{table} EXTENDED")
        assert said.split("\t")[-1].strip() == "OK", said
        return set(map(int, self.query(f"SELECT * FROM kept.{table}").split()))

    def query(self, text: str) -> str:
        """Run a query.

        :param text: the query.
        :return: the rows.
        """
        return self.run(*self.client, f"--execute={text}")


class PostgreSQLDatabase(Database):
    """PostgreSQL, with a table beside its log and another in a tablespace on the second disk."""

    runs_as = "postgres"
    tables = ("here", "there")
    text = (
        "BEGIN; "
        + "".join(f"INSERT INTO {table} VALUES (NUMBER); " for table in tables)
        + "COMMIT; SELECT 'doneNUMBER';"
    )

    @property
    def client(self) -> tuple[str, ...]:
        """The writer's client."""
        words = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
        return (*words, f"--host={self.folder}", "--dbname=postgres", f"--username={self.user}")

    @property
    def section(self) -> str:
        """The participant that flushes it, by its recipe."""
        return (
            "[command:postgresql]\nrecipe = postgresql\n"
            f"user = {self.user}\nenvironment = PGHOST={self.folder}\n"
        )

    def create(self) -> None:
        """Make an empty database on the disks that are mounted, and start it."""
        data, space = self.make(self.first / "data"), self.make(self.second / "space")
        self.run(self.programs / "initdb", "--auth=trust", "--data-checksums", f"--pgdata={data}")
        self.start()
        self.query("CREATE EXTENSION amcheck")
        self.query(f"CREATE TABLESPACE second LOCATION '{space}'")
        self.query("CREATE TABLE here (number INT PRIMARY KEY)")
        self.query(
            "CREATE TABLE there (number INT PRIMARY KEY USING INDEX TABLESPACE second)"
            " TABLESPACE second"
        )

    def start(self) -> None:
        """Start it on the data that is there, repairing nothing."""
        data = self.first / "data"
        # Like a restored system's, it finds the file of a server that is no more.
        words = ("-c", "listen_addresses=", "-k", str(self.folder))
        self.spawn(self.programs / "postgres", "-D", data, *words)
        ready = [str(self.programs / "pg_isready"), "--quiet", "--host", str(self.folder)]

        def is_ready() -> bool:
            return subprocess.run(ready, check=False).returncode == 0

        eventually(is_ready, "PostgreSQL is ready")

    def numbers(self, table: str) -> set[int]:
        """Have it look over a table and its index, and read it."""
        self.query(f"SELECT bt_index_check('{table}_pkey', true)")
        wrong = self.query(f"SELECT * FROM verify_heapam('{table}')")
        assert not wrong.strip(), wrong
        return set(map(int, self.query(f"SELECT * FROM {table}").split()))

    def query(self, text: str) -> str:
        """Run a query.

        :param text: the query.
        :return: the rows.
        """
        return self.run(*self.client, f"--command={text}")

    @property
    def programs(self) -> Path:
        """Where the server's own programs are; Debian keeps them apart, for each version."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return found[-1].parent if found else Path(needs.program("postgres")).parent


class RedisDatabase(Database):
    """Redis, with an append-only file and dumps."""

    text = "SADD kept NUMBER\nECHO doneNUMBER"
    tables = ("append-only file", "dump")
    _loads_file = "yes"

    @property
    def client(self) -> tuple[str, ...]:
        """The writer's client."""
        return ("redis-cli", "-s", str(self.socket))

    @property
    def section(self) -> str:
        """The participant that holds it, by its recipe."""
        return f'[session:redis]\nrecipe = redis\nenvironment = "REDIS_OPTIONS=-s {self.socket}"\n'

    def create(self) -> None:
        """Make an empty database on the disks that are mounted, and start it."""
        self.make(self.first / "data")
        self.start()

    def end(self) -> None:
        """End the server; the next start goes by the append-only file again."""
        super().end()
        self._loads_file = "yes"

    def start(self) -> None:
        """Start it on the data that is there, repairing nothing."""
        self.socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.first / "data"),
            "appendonly": self._loads_file,
            "appendfsync": "always",
            "aof-load-truncated": "no",
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.spawn(needs.program("redis-server"), *words)
        eventually(self.socket.exists, "Redis has opened its socket")
        eventually(lambda: self.ask("PING") == "PONG", "Redis has loaded its data")

    def numbers(self, table: str) -> set[int]:
        """Have it load one of its two files by itself, and read what came of that."""
        if table == "dump":
            self.run("redis-check-rdb", self.first / "data" / "dump.rdb")
            self.end()
            self._loads_file = "no"
            self.start()
        return set(map(int, self.ask("SMEMBERS", "kept").split()))

    def ask(self, *words: str) -> str:
        """Give a command.

        :param words: the command.
        :return: the answer.
        """
        return self.run(*self.client, *words).strip()


class SQLiteDatabase(Database):
    """SQLite, with a write-ahead log; it has no server."""

    text = "INSERT INTO kept VALUES (NUMBER); SELECT 'doneNUMBER';"

    @property
    def client(self) -> tuple[str, ...]:
        """The writer's client, which waits its turn."""
        words = ("-batch", "-bail", "-noheader", "-cmd", ".timeout 600000")
        return (needs.program("sqlite3"), *words, str(self.file))

    @property
    def file(self) -> Path:
        """The database."""
        return self.first / "data" / "database"

    @property
    def section(self) -> str:
        """The participant that holds it, by its recipe."""
        return f"[session:sqlite]\nrecipe = sqlite\nenvironment = DATABASE={self.file}\n"

    def create(self) -> None:
        """Make an empty database on the disks that are mounted."""
        self.make(self.first / "data")
        self.query("PRAGMA journal_mode = WAL")
        self.query("CREATE TABLE kept (number INTEGER PRIMARY KEY)")

    def start(self) -> None:
        """Do nothing: there is no server."""

    def numbers(self, table: str) -> set[int]:
        """Have it look over all of itself, and read the table."""
        said = self.query("PRAGMA integrity_check")
        assert said.strip() == "ok", said
        return set(map(int, self.query(f"SELECT number FROM {table}").split()))

    def query(self, text: str) -> str:
        """Run a query.

        :param text: the query.
        :return: the rows.
        """
        return self.run(*self.client, text)

    def end(self) -> None:
        """Do nothing: there is no server."""
