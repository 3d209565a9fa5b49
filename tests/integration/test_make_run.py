"""Tests for the end of ``make run``, on a terminal of its own."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent
from tests.integration.hook_client import PATIENCE

ROOT = Path(__file__).parents[2]
CONTROL_C = b"\x03"


class RunTests(SynchronousTestCase):
    """``make run`` as a person ends it."""

    def test_control_c(self) -> None:
        """Control-C ends it without a word of make's, and with status 0."""
        make = needs.program("make")
        agent = Agent(Path(self.mktemp()).resolve())
        tools = agent.directory / "bin"
        tools.mkdir()
        python = Path(sys.executable)
        for name, words in (
            ("xohook", f"{python} -m xohook"),
            ("twistd", f"{python.with_name('twistd')}"),
        ):
            (tools / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (tools / name).chmod(0o755)
        arguments = [
            *("make", "--directory", str(ROOT), "--old-file=.venv/with-agent", "run"),
            *(f"BIN={tools}", f"CONFIG={agent.configuration}"),
        ]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(make, arguments, agent.environment)
        self.addCleanup(os.close, terminal)
        said = read(terminal, until=b"answers on")
        os.write(terminal, CONTROL_C)
        said += read(terminal)
        _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0, said)
        self.assertIn(b"Server Shut Down", said)
        self.assertNotIn(b"make: ***", said)


def read(terminal: int, until: bytes | None = None) -> bytes:
    """Read what is written to a terminal, until something is said or nobody is left to say it."""
    said = b""
    deadline = time.monotonic() + PATIENCE
    while until is None or until not in said:
        left = deadline - time.monotonic()
        if left < 0 or not select.select([terminal], [], [], left)[0]:
            raise AssertionError(f"{until!r} is not said: {said!r}")
        try:
            said += os.read(terminal, 4096)
        except OSError:
            # Linux says EIO where the other side is closed (pty(7)).
            break
    return said
