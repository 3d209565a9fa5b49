"""The programs on the pages in ``docs/apps``, run as the page says, with the real agent."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import COMMAND, eventually, free_port
from tests.integration.app_pages import (
    A_WHILE,
    ExampleTestCase,
    commands_on,
    installation_on,
    usage_on,
)
from tests.integration.footprint import children
from tests.integration.hook_client import PATIENCE
from tests.integration.wheels import temporary_directory, wheel

#: The variable that the shell has the client's wheel in.
CLIENT = "$WHEEL"


def words(pid: int) -> list[bytes]:
    """Read the command line of a process.

    :param pid: its number.
    :return: its words.
    """
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


class ExampleTests:
    """What every one of the programs does; mixed into the classes of those."""

    #: What the page says that its command prints.
    answer = "kept"

    def test_page(self: ExampleTestCase) -> None:  # type: ignore[misc]
        """The commands of the page do what it says: the answer comes, in a hold after the thaw."""
        eventually(self.address.exists, "the program listens")
        out, _ = self.ask().communicate(timeout=PATIENCE)
        self.assertEqual(out.strip(), self.answer)  # type: ignore[attr-defined]
        self.assertEqual(self.agent.get("/sync").status, 200)
        asking = self.ask()
        self.assertRaises(subprocess.TimeoutExpired, asking.wait, A_WHILE)
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        out, _ = asking.communicate(timeout=PATIENCE)
        self.assertEqual(out.strip(), self.second)  # type: ignore[attr-defined]

    def test_says_registered(self: ExampleTestCase) -> None:  # type: ignore[misc]
        """It says that it is registered, loses the agent, and is registered again."""
        told = self.log.read_text
        eventually(lambda: "registered" in told(), "it says that it is registered")
        self.assertNotIn("again", told())
        self.agent.restart()
        eventually(lambda: "registered again" in told(), "it says so again")
        self.assertLess(told().index("lost the agent"), told().index("registered again"))

    @property
    def second(self) -> str:
        """What is answered the second time."""
        return self.answer

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

    page, app, program = "asyncio", "journal", "journal.py"
    file_name, socket_name = "journal.txt", "journal.sock"

    def prepare(self) -> None:
        needs.program("socat")


@functools.cache
def installed(page: str) -> Path:
    """Run the commands of a page that install the client, once, with the wheel of this tree.

    :param page: its name, without ``.rst``.
    :return: the directory in which they were run.
    """
    directory = temporary_directory()
    options = "--quiet --no-index --no-deps"
    command = installation_on(page).replace("python3", sys.executable)
    command = command.replace("pip install xohook-client", f"pip install {options} {CLIENT}")
    assert CLIENT in command, command
    environment = {**os.environ, "PYTHONPATH": "", CLIENT[1:]: str(wheel("xohook-client"))}
    subprocess.run(["sh", "-ec", command], cwd=directory, env=environment, check=True)
    return directory


class InstalledClientTests(AsyncioTests):
    """``asyncio.rst`` in the environment that its commands make."""

    def here(self, command: str) -> str:
        return command.replace("venv/bin/python", f"{installed(self.page)}/venv/bin/python")

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": ""}


class InstallationTests(SynchronousTestCase):
    """How the client is installed."""

    def test_pages(self) -> None:
        """The index and each page of a Python program install the client in the same way."""
        for page in ("asyncio", "python-web", "twisted"):
            install = installation_on(page).removesuffix(" twisted")
            self.assertEqual(install, installation_on("index"), page)
            self.assertIn("twisted" if page == "twisted" else "", installation_on(page))
            self.assertEqual(commands_on(page)[0], installation_on(page))


class TwistedTests(ExampleTests, ExampleTestCase):
    """``twisted.rst``."""

    page, app, program = "twisted", "words", "words.py"
    file_name, socket_name = "words.json", "words.sock"
    answer = "1"

    def prepare(self) -> None:
        needs.program("socat")

    @property
    def second(self) -> str:
        return "2"

    def kept(self) -> list[str]:
        counts: dict[str, int] = json.loads(self.file.read_text())
        return list(counts)


class NodeTests(ExampleTests, ExampleTestCase):
    """``node.rst``."""

    page, app, program = "node", "lines", "lines.js"
    file_name, socket_name = "lines.txt", "lines.sock"

    def prepare(self) -> None:
        needs.program("node")
        needs.program("socat")


class WebTests(ExampleTests, ExampleTestCase):
    """``python-web.rst``."""

    page, app, program = "python-web", "notes", "notes.py"
    # It listens on a port; its file is there as soon as it runs.
    file_name = socket_name = "notes.sqlite"

    def prepare(self) -> None:
        needs.program("curl")
        self.port = free_port()

    def here(self, command: str) -> str:
        return super().here(command).replace("8080", str(self.port))

    def ask(self) -> subprocess.Popen[str]:
        self.connect()
        return super().ask()

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

    page, app, program = "bash", "jobs", "jobs.sh"
    file_name = "sizes"

    def prepare(self) -> None:
        needs.program("flock")
        # The command as it is installed, whether or not it is here.
        command = self.directory / "bin" / "xohook"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{COMMAND}" "$@"\n')
        command.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.directory}/bin:{os.environ['PATH']}"
        return {**super().environment, "PATH": path}

    def here(self, command: str) -> str:
        for place in ("/usr/local/bin/", "/srv/jobs"):
            command = command.replace(place, f"{self.directory}{place}")
        return command

    def command(self) -> str:
        *installation, command = usage_on(self.page)[0].splitlines()
        (self.directory / "usr/local/bin").mkdir(parents=True)
        subprocess.run(
            self.here("\n".join(installation)), shell=True, cwd=self.directory, check=True
        )
        return command

    @property
    def jobs(self) -> Path:
        """The directory of the jobs."""
        return self.directory / "srv" / "jobs"

    def put(self, name: str) -> None:
        """Put a job there as the page does, which calls it ``hello``."""
        command = self.here(usage_on(self.page)[1].replace("hello", name))
        subprocess.run(command, shell=True, cwd=self.directory, check=True)

    def done(self, *names: str) -> None:
        """Wait until exactly these jobs are done."""
        eventually(lambda: self.names() == list(names), f"{names} are done")

    def names(self) -> list[str]:
        """Tell which jobs are done."""
        return sorted(path.name for path in (self.jobs / "done").iterdir())

    def test_window(self) -> None:
        """No job is done in the hold, and those that came are done after it."""
        self.put("a")
        self.done("a")
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertTrue((self.jobs / "paused").exists())
        self.put("b")
        self.assertEqual(self.names(), ["a"])
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.assertFalse((self.jobs / "paused").exists())
        self.done("a", "b")

    def test_register_killed(self) -> None:
        """Where ``xohook register`` is killed in a hold, all of it ends, and is not left paused."""
        self.assertEqual(self.agent.get("/sync").status, 200)
        [register] = [pid for pid in children(self.process.pid) if b"register" in words(pid)]
        os.kill(register, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.assertFalse((self.jobs / "paused").exists())
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
