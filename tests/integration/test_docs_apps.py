"""The programs on the pages in ``docs/apps``, run as they stand there with the real agent."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import COMMAND, Agent, eventually, free_port
from tests.integration.footprint import children
from tests.integration.hook_client import PATIENCE

PAGES = Path(__file__).resolve().parents[2] / "docs" / "apps"

#: Seconds after which an app that does not answer is taken to wait. One that is only slow passes.
A_WHILE = 0.3


def program_on(page: str) -> str:
    """Read the program of a page.

    :param page: its name, without ``.rst``.
    :return: the text of its one code block.
    """
    text = (PAGES / f"{page}.rst").read_text()
    [block] = re.findall(r"^\.\. code-block:: \w+\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    return textwrap.dedent(block)


def words(pid: int) -> list[bytes]:
    """Read the command line of a process.

    :param pid: its number.
    :return: its words.
    """
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


class ExampleTestCase(SynchronousTestCase):
    """A program of a page, with an agent of its own that it has to take part with."""

    page: str
    app: str
    suffix: str

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        self.agent = Agent.for_test(self, sections=f"[app:{self.app}]\n")
        self.program = self.directory / f"program{self.suffix}"
        self.program.write_text(program_on(self.page))
        self.program.chmod(0o755)
        self.file = self.directory / "file"
        self.connections: list[socket.socket] = []
        # The path of a socket has to be short.
        self.address = self.agent.runtime_directory.parent / "app.sock"
        self.process = subprocess.Popen(
            self.command(),
            cwd=self.directory,
            env={**self.agent.environment, "XOHOOK_CONTROL": str(self.agent.control)},
        )
        self.addCleanup(self.end)
        self.registered(1)

    def end(self) -> None:
        """End the program."""
        for connection in self.connections:
            connection.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()

    def command(self) -> list[str]:
        """Give the command line of the program."""
        return [sys.executable, str(self.program), str(self.file), str(self.address)]

    def registered(self, count: int) -> None:
        """Wait until it has registered so many times."""
        self.agent.wait_for_log(rf"app {self.app} \(.*\) registered", count)

    # What is asked of the program, over a connection; others do it otherwise.

    def send(self, text: str) -> socket.socket:
        """Ask the program to keep a text, and wait for nothing."""
        connection = socket.socket(socket.AF_UNIX)
        self.connections.append(connection)
        connection.settimeout(PATIENCE)
        eventually(self.address.exists, "the program listens")
        connection.connect(str(self.address))
        connection.sendall(f"{text}\n".encode())
        return connection

    def acknowledged(self, connection: socket.socket) -> None:
        """Wait until the program says that it has kept the text."""
        connection.settimeout(PATIENCE)
        self.assertTrue(connection.recv(4096))

    def waits(self, connection: socket.socket) -> None:
        """See that the program does not answer for a while."""
        connection.settimeout(A_WHILE)
        with self.assertRaises(TimeoutError):
            connection.recv(1)

    def kept(self) -> list[str]:
        """Tell which texts the program's files hold, as somebody who copies the disk sees it."""
        return self.file.read_text().split()

    def keep(self, text: str) -> None:
        """Have the program keep a text."""
        self.acknowledged(self.send(text))


class ExampleTests:
    """What every one of the programs does; mixed into the classes of those."""

    def test_window(self: ExampleTestCase) -> None:  # type: ignore[misc]
        """All that was acknowledged is on the disk in the hold; what comes then waits for it."""
        self.keep("first")
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.kept(), ["first"])
        second = self.send("second")
        self.waits(second)
        self.assertEqual(self.kept(), ["first"])
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.acknowledged(second)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(sorted(self.kept()), ["first", "second"])
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.agent.wait_for_outcomes("synced", "synced")

    def test_agent_killed(self: ExampleTestCase) -> None:  # type: ignore[misc]
        """It goes on by itself when the agent dies in a hold, and registers with the next one."""
        self.assertEqual(self.agent.get("/sync").status, 200)
        first = self.send("first")
        self.waits(first)
        self.agent.kill(signal.SIGKILL)
        self.agent.wait()
        self.acknowledged(first)
        self.agent.start()
        self.registered(2)
        self.assertEqual(self.agent.get("/post-sync").status, 500)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.kept(), ["first"])
        self.assertEqual(self.agent.get("/post-sync").status, 200)


class AsyncioTests(ExampleTests, ExampleTestCase):
    """``asyncio.rst``."""

    page, app, suffix = "asyncio", "journal", ".py"


class TwistedTests(ExampleTests, ExampleTestCase):
    """``twisted.rst``."""

    page, app, suffix = "twisted", "words", ".py"

    def command(self) -> list[str]:
        return [sys.executable, str(self.program), str(self.file), f"unix:{self.address}"]

    def kept(self) -> list[str]:
        counts: dict[str, int] = json.loads(self.file.read_text())
        return list(counts)


class NodeTests(ExampleTests, ExampleTestCase):
    """``node.rst``."""

    page, app, suffix = "node", "lines", ".js"

    def command(self) -> list[str]:
        return [needs.program("node"), str(self.program), str(self.file), str(self.address)]


class WebTests(ExampleTests, ExampleTestCase):
    """``python-web.rst``."""

    page, app, suffix = "python-web", "notes", ".py"

    def command(self) -> list[str]:
        self.port = free_port()
        return [sys.executable, str(self.program), str(self.file), str(self.port)]

    def send(self, text: str) -> socket.socket:
        connection = self.connect()
        connection.sendall(f"POST / HTTP/1.0\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        return connection

    def connect(self) -> socket.socket:
        """Open a connection; the program registers a moment before it listens."""

        def opened() -> bool:
            try:
                self.connections.append(socket.create_connection(("127.0.0.1", self.port)))
            except ConnectionRefusedError:
                return False
            return True

        eventually(opened, "the program listens")
        return self.connections[-1]

    def acknowledged(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self.assertIn(b" 201 ", connection.recv(4096))

    def kept(self) -> list[str]:
        # A copy of the one file alone: there is nothing in the log beside it.
        copy = self.directory / "copy"
        copy.write_bytes(self.file.read_bytes())
        with sqlite3.connect(copy) as database:
            return [text for (text,) in database.execute("SELECT text FROM notes")]

    def test_read(self) -> None:
        """It tells what it keeps."""
        self.keep("first")
        connection = self.connect()
        connection.settimeout(PATIENCE)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(connection.makefile("rb").read().endswith(b"\r\n\r\nfirst\n"))


class BashTests(ExampleTestCase):
    """``bash.rst``."""

    page, app, suffix = "bash", "jobs", ".sh"

    def command(self) -> list[str]:
        needs.program("flock")
        # The command as it is installed, whether or not it is here.
        command = self.directory / "bin" / "xohook"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{COMMAND}" "$@"\n')
        command.chmod(0o755)
        path = f"{command.parent}:{os.environ['PATH']}"
        return ["env", f"PATH={path}", str(self.program), "work", str(self.directory)]

    def put(self, name: str) -> None:
        """Put a job there, whole."""
        (self.directory / name).write_text("12345")
        (self.directory / name).rename(self.directory / "new" / name)

    def done(self, *names: str) -> None:
        """Wait until exactly these jobs are done."""
        eventually(lambda: self.names() == list(names), f"{names} are done")

    def names(self) -> list[str]:
        """Tell which jobs are done."""
        return sorted(path.name for path in (self.directory / "done").iterdir())

    def test_window(self) -> None:
        """No job is done in the hold, and those that came are done after it."""
        self.put("a")
        self.done("a")
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertTrue((self.directory / "paused").exists())
        self.put("b")
        self.assertEqual(self.names(), ["a"])
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.assertFalse((self.directory / "paused").exists())
        self.done("a", "b")

    def test_register_killed(self) -> None:
        """Where ``xohook register`` is killed in a hold, all of it ends, and is not left paused."""
        self.assertEqual(self.agent.get("/sync").status, 200)
        [register] = [pid for pid in children(self.process.pid) if b"register" in words(pid)]
        os.kill(register, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.assertFalse((self.directory / "paused").exists())
        self.assertEqual(self.agent.get("/post-sync").status, 500)
        self.agent.wait_for_outcomes("broken")

    def test_agent_killed(self) -> None:
        """It goes on by itself when the agent dies in a hold, and registers with the next one."""
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.put("a")
        self.agent.kill(signal.SIGKILL)
        self.agent.wait()
        self.done("a")
        self.agent.start()
        self.registered(2)
        self.assertEqual(self.agent.get("/post-sync").status, 500)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.agent.get("/post-sync").status, 200)
