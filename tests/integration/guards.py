"""The guards' programs, run by a test as the agent runs them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.integration.hook_client import PATIENCE
from xohook.participants.targets import fresh_at
from xohook.processes import guards
from xohook.processes.guards import freezer

_ROOT = Path(guards.__file__).parents[3]
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from xohook.processes.guards.{} import main; main()"
)


class Guard:
    """A guard that a test talks to.

    :param program: the name of its module in :mod:`xohook.processes.guards`.
    :param first: the first line of its orders.
    :param launcher: a program that runs it, and its arguments.
    """

    def __init__(self, program: str, first: str, launcher: tuple[str, ...] = ()) -> None:
        self._number = 0
        self.agent, theirs = socket.socketpair()
        arguments = [
            *launcher,
            sys.executable,
            "-I",
            "-S",
            "-B",
            "-c",
            _START.format(program),
            str(_ROOT),
        ]
        self._process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
            pass_fds=[freezer.DESCRIPTORS],
            # The guard finds the agent's socket by this number.
            preexec_fn=lambda: os.dup2(theirs.fileno(), freezer.DESCRIPTORS),
            bufsize=0,
        )
        theirs.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.input, self.output = self._process.stdin, self._process.stdout
        self._pending = b""
        self.order(first)

    @classmethod
    def of_filesystems(cls, test: SynchronousTestCase | TestCase, *mounts: Path) -> Guard:
        """Start a guard of filesystems that ends with the test.

        :param test: the test.
        :param mounts: the mount points.
        :return: the guard.
        """
        guard = cls("freezer", f"open {' '.join(fresh_at(str(mount)) for mount in mounts)}")
        test.addCleanup(guard.end)
        return guard

    @classmethod
    def of_session(
        cls,
        test: SynchronousTestCase | TestCase,
        *arguments: str,
        thaw_input: str = "",
        user: int | None = None,
        launcher: tuple[str, ...] = (),
    ) -> Guard:
        """Start a guard of a session that ends with the test.

        :param test: the test.
        :param arguments: the client and its arguments.
        :param thaw_input: what the guard writes to it before it lets go.
        :param user: the user that the client runs as, None for the test's.
        :param launcher: a program that runs the guard, and its arguments.
        :return: the guard.
        """
        first: dict[str, Any] = {
            "arguments": arguments,
            "environment": {"PATH": "/usr/bin:/bin"},
            "directory": "/",
            "account": user and (user, user, []),
            "thaw_input": thaw_input,
        }
        guard = cls("session", f"start {json.dumps(first)}", launcher)
        test.addCleanup(guard.end)
        return guard

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def order(self, line: str) -> int:
        """Give an order.

        :param line: the order.
        :return: its number.
        """
        self._number += 1
        self.input.write(f"{self._number} {line}\n".encode())
        return self._number

    def send(self, text: str) -> None:
        """Have a guard of a session write to its client.

        :param text: the text.
        """
        self.order(f"send {json.dumps(text)}")

    def until(self, seconds: float) -> None:
        """Set the guard's own deadline.

        :param seconds: how far from now.
        """
        self.order(f"until {time.monotonic() + seconds}")

    def line(self) -> str:
        """Wait for what it says next.

        :return: the line; empty where it has said all.
        :raises AssertionError: where it says nothing for long.
        """
        while b"\n" not in self._pending:
            if not select.select([self.output], [], [], PATIENCE)[0]:
                raise AssertionError("the guard says nothing")
            part = self.output.read(65536)
            if not part:
                return ""
            self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def lines(self) -> list[str]:
        """Read all that it says to its end.

        :return: the lines.
        """
        return list(iter(self.line, ""))

    def close(self) -> None:
        """Close its standard input, as the agent's end does."""
        self.input.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal.

        :param number: the signal.
        """
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end.

        :return: its exit status, or the negative number of the signal that ended it.
        """
        return self._process.wait(PATIENCE)

    def end(self) -> None:
        """Have it let go and end; it may have ended."""
        self._process.send_signal(signal.SIGCONT)
        self.input.close()
        self.output.close()
        self.agent.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
