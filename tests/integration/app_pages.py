"""The pages in ``docs/apps``: their programs, run with the page's commands and a real agent."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent, eventually
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


def commands_on(page: str) -> list[str]:
    """Read the shell commands of a page.

    :param page: its name, without ``.rst``.
    :return: the text of each literal block, in order.
    """
    text = (PAGES / f"{page}.rst").read_text()
    blocks: list[str] = re.findall(r"::\n\n((?: +.*\n|\n)+)", text)
    return [textwrap.dedent(block).strip() for block in blocks]


def installation_on(page: str) -> str:
    """Read the shell commands of a page that install the client.

    :param page: its name, without ``.rst``.
    :return: the text of the first literal block that runs pip.
    """
    return next(each for each in commands_on(page) if "pip install" in each)


def usage_on(page: str) -> list[str]:
    """Read the shell commands of a page that run its program.

    :param page: its name, without ``.rst``.
    :return: the text of each literal block that does not run pip, in order.
    """
    return [each for each in commands_on(page) if "pip install" not in each]


class ExampleTestCase(SynchronousTestCase):
    """A program of a page, with an agent of its own that it has to take part with."""

    page: str
    app: str
    #: The names that the page gives the program, its file and its socket.
    program: str
    file_name: str
    socket_name: str = ""

    def setUp(self) -> None:
        self.agent = Agent.for_test(self, sections=f"[app:{self.app}]\n")
        # The path of a socket has to be short.
        self.directory = self.agent.runtime_directory.parent / "app"
        self.directory.mkdir()
        (self.directory / self.program).write_text(program_on(self.page))
        self.file = self.directory / self.file_name
        self.address = self.directory / self.socket_name
        self.connections: list[socket.socket] = []
        self.log = self.directory / "log"
        self.prepare()
        self.process = self.spawn(self.command())
        self.addCleanup(self.end)
        self.registered(1)

    def prepare(self) -> None:
        """See that what the page needs is there."""

    def spawn(self, command: str) -> subprocess.Popen[str]:
        """Run the page's command that starts the program, in place of a terminal's shell."""
        with self.log.open("a") as log:
            return subprocess.Popen(
                ["sh", "-c", f"exec {self.here(command)}"],
                cwd=self.directory,
                env=self.environment,
                text=True,
                stdout=log,
                stderr=log,
            )

    @property
    def environment(self) -> dict[str, str]:
        """What the program finds the agent by."""
        return {**self.agent.environment, "XOHOOK_CONTROL": str(self.agent.control)}

    def here(self, command: str) -> str:
        """Put what the test has in the place of what is installed."""
        return command.replace("venv/bin/python", sys.executable)

    def ask(self) -> subprocess.Popen[str]:
        """Run the page's command that asks the program for something; it prints the answer."""
        [_, command, *_] = usage_on(self.page)
        asking = subprocess.Popen(
            self.here(command),
            shell=True,
            cwd=self.directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(self.close, asking)
        return asking

    def close(self, process: subprocess.Popen[str]) -> None:
        """End a process, if the test did not."""
        process.kill()
        process.communicate()

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

    def command(self) -> str:
        """Give the page's command that starts the program."""
        return usage_on(self.page)[0]

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
