"""Tests for the command ``xohook`` in each state that the agent may be in, and in odd locales."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.integration.agent import Agent
from tests.integration.asking import AskedTestCase

SESSION = "freeze_input = a\nfreeze_expect = b\nthaw_input = a\nthaw_expect = b"
ASCII: dict[str, Any] = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


class StateTests(AskedTestCase):
    """No state of the agent is answered with a traceback, and JSON is asked for in vain nowhere."""

    def error(self, subcommand: str, configuration: Path, **variables: str) -> str:
        """Ask for JSON, which is one object with ``error``, with exit 1."""
        said = self.ask(subcommand, "--json", "-c", str(configuration), status=1, **variables)
        document = json.loads(said)
        self.assertEqual(list(document), ["error"])
        error: str = document["error"]
        return error

    def test_absent(self) -> None:
        """Where the agent is down, --json prints an object with the reason."""
        agent = Agent(Path(self.mktemp()).resolve())
        for subcommand in ("status", "thaw"):
            self.assertIn("there is no control socket", self.error(subcommand, agent.configuration))
            self.assertIn(
                "there is no control socket",
                self.ask(subcommand, "-c", str(agent.configuration), status=1),
            )

    def test_starting(self) -> None:
        """A socket that nobody listens on, as that of an agent that starts, is told in words."""
        agent = Agent(Path(self.mktemp()).resolve())
        agent.runtime_directory.mkdir()
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(os.fspath(agent.control))
        for subcommand in ("status", "thaw"):
            self.assertIn("nobody listens", self.error(subcommand, agent.configuration))

    def test_stopped(self) -> None:
        """An agent that is stopped is told to be silent."""
        agent = self.agent_with()
        agent.kill(signal.SIGSTOP)
        for subcommand in ("status", "thaw"):
            self.assertIn("does not answer", self.error(subcommand, agent.configuration))
        agent.kill(signal.SIGCONT)

    def test_no_configuration(self) -> None:
        """Every subcommand tells in JSON that there is no such file."""
        missing = Path(self.mktemp()).absolute()
        for subcommand in ("status", "thaw", "setup"):
            self.assertIn(str(missing), self.error(subcommand, missing))

    def test_another_version(self) -> None:
        """What an agent of another version answers is no traceback, whatever it is."""
        result: Any
        for result in ({"version": "9.9", "state": "new"}, {}, [], None, 1, {"version": []}):
            agent = Agent(Path(self.mktemp()).resolve())
            agent.runtime_directory.mkdir()
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(os.fspath(agent.control))
                listening.listen()
                serving = threading.Thread(target=serve, args=(listening, result), daemon=True)
                serving.start()
                for subcommand in ("status", "thaw"):
                    self.assertIn("is not understood", self.error(subcommand, agent.configuration))
                    self.ask(subcommand, "-c", str(agent.configuration), status=1)
                listening.shutdown(socket.SHUT_RDWR)
            serving.join()

    def test_module(self) -> None:
        """``python -m xohook`` is the command."""
        done = subprocess.run(
            [sys.executable, "-m", "xohook", "--version"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertTrue(done.stdout.startswith("xohook, version "), done.stdout)


def serve(listening: socket.socket, result: Any) -> None:
    """Answer every request with the same result, until the socket is shut down."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                answer = {"jsonrpc": "2.0", "id": json.loads(line)["id"], "result": result}
                connection.sendall(json.dumps(answer).encode() + b"\n")


class LocaleTests(AskedTestCase):
    """A locale without the characters that are to be told."""

    def configuration(self, *lines: str) -> str:
        """Write a configuration with these lines."""
        file = Path(self.mktemp()).absolute()
        directory = f"{file}.state"
        own = (
            "[xohook]",
            f"state_directory = {directory}",
            "runtime_directory = /dev/shm/xohook-test-not-made",
        )
        file.write_text("\n".join((*own, *lines)), encoding="utf-8")
        return str(file)

    def test_check(self) -> None:
        """A program whose name the locale cannot write is an error in words."""
        for section in (
            "[command:it]\nfreeze = größer",
            "[command:it]\nfreeze = /usr/bin/größer",
            "[command:it]\nfreeze = true\ndirectory = /größer",
            "[scripts:it]\ndirectory = /größer",
            "[filesystem:it]\nmount = /größer",
            "[session:it]\ncommand = größer\n" + SESSION,
        ):
            said = self.ask("check", "-c", self.configuration(section), status=1, **ASCII)
            self.assertIn("LC_ALL=C.UTF-8", said)
            self.assertIn("the encoding of this locale (ascii)", said)

    def test_setup(self) -> None:
        """A name that the locale cannot write is printed, escaped where it must be."""
        said = self.ask("setup", "-c", self.configuration("vm = größer"), **ASCII)
        self.assertIn("vm=gr%C3%B6%C3%9Fer", said)

    def test_mistake(self) -> None:
        """A mistake in the configuration with such characters is told."""
        said = self.ask("check", "-c", self.configuration("größer = 1"), status=1, **ASCII)
        self.assertIn("unknown option", said)
