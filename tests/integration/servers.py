"""Database servers of a test's own, each in a folder of its own with its socket there alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import eventually

_SECONDS_TO_END = 20


class Server:
    """A server, ended with its test.

    :param test: the test.
    :param user: the user to run it as where the test is root's, and the server refuses that one.
    """

    def __init__(self, test: SynchronousTestCase, user: str | None = None) -> None:
        own = os.geteuid()
        account = needs.user(user) if user is not None and own == 0 else pwd.getpwuid(own)
        # The names of sockets may have 107 characters (unix(7)), and a test's own folder has more.
        self.folder = Path(tempfile.mkdtemp(prefix="xohook-test-"))
        test.addCleanup(shutil.rmtree, self.folder)
        self.user = account.pw_name
        self._process: subprocess.Popen[bytes] | None = None
        self._test = test
        os.chown(self.folder, account.pw_uid, account.pw_gid)

    def run(self, *arguments: str | Path) -> str:
        """Run a program as the server's user.

        :param arguments: the program and its arguments.
        :return: what it says.
        :raises AssertionError: where it fails.
        """
        ended = subprocess.run(
            arguments, user=self.user, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{arguments}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def spawn(self, *arguments: str | Path) -> None:
        """Start the server.

        :param arguments: its program and arguments.
        """
        log = (self.folder / "log").open("wb")
        self._process = subprocess.Popen(
            arguments, user=self.user, cwd=self.folder, stdout=log, stderr=log
        )
        log.close()
        self._test.addCleanup(self.end)

    def end(self) -> None:
        """End the server, in good order where it can."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class MariaDB(Server):
    """A MariaDB with a table ``lasting`` (InnoDB) and a table ``plain`` (Aria).

    :param test: the test.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        program = needs.program("mariadbd")
        super().__init__(test, "mysql")
        data, self.socket = self.folder / "data", self.folder / "socket"
        self.run(
            needs.program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )
        self.spawn(
            program,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={self.socket}",
            "--skip-networking",
            "--innodb-flush-method=fsync",
        )
        eventually(self.socket.exists, "MariaDB has opened its socket")
        self.query("CREATE DATABASE ledger")
        for name, engine in (("lasting", "InnoDB"), ("plain", "Aria")):
            self.query(f"CREATE TABLE ledger.{name} (it INT) ENGINE={engine}")

    @property
    def client(self) -> tuple[str, ...]:
        """The client's words that lead to this server."""
        return ("mariadb", "--no-defaults", "--user=root", f"--socket={self.socket}")

    def query(self, text: str) -> str:
        """Run a query.

        :param text: the query.
        :return: the rows, without their names.
        """
        return self.run(*self.client, "--batch", "--skip-column-names", f"--execute={text}")


class Redis(Server):
    """A Redis that writes both an append-only file and dumps.

    :param test: the test.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        program = needs.program("redis-server")
        super().__init__(test)
        self.socket = self.folder / "socket"
        words = ("--port", "0", "--unixsocket", str(self.socket), "--appendonly", "yes")
        self.spawn(program, *words, "--dir", str(self.folder))
        eventually(self.socket.exists, "Redis has opened its socket")

    def ask(self, *words: str) -> str:
        """Give a command.

        :param words: the command.
        :return: the answer.
        """
        return self.run("redis-cli", "-s", self.socket, *words).strip()


class PostgreSQL(Server):
    """A PostgreSQL whose superuser is the user that it runs as.

    :param test: the test.
    """

    def __init__(self, test: SynchronousTestCase) -> None:
        programs = self._programs()
        super().__init__(test, "postgres")
        data = self.folder / "data"
        self.run(programs / "initdb", "--auth=trust", "--no-sync", f"--pgdata={data}")
        self.spawn(programs / "postgres", "-D", data, "-c", "listen_addresses=", "-k", self.folder)
        ready = (str(programs / "pg_isready"), "--quiet", "--host", str(self.folder))
        eventually(
            lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL is ready"
        )

    def query(self, text: str) -> str:
        """Run a query.

        :param text: the query.
        :return: the rows.
        """
        words = ("psql", "-X", "-At", "-h", self.folder, "-d", "postgres", "-c", text)
        return self.run(*words).strip()

    @staticmethod
    def _programs() -> Path:
        # Debian keeps a server's own programs apart, for each version.
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return found[-1].parent if found else Path(needs.program("postgres")).parent
