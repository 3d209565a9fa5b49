"""Another user's program listens where the agent's socket should be."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests import needs
from tests.integration.agent import eventually
from tests.integration.hook_client import PATIENCE
from xohook.cli.agent import Connection, UnreachableError
from xohook.client import AsyncRegistration, Registration
from xohook.txclient import Registration as TwistedRegistration

#: Listens on a path, accepts one connection, and prints the first bytes that arrive.
LISTENER = """
import os, socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listening.listen()
print("ready", flush=True)
print(listening.accept()[0].recv(1000), flush=True)
"""


class StrangerTests(TestCase):
    """A client trusts root, its own user, and the owner of a directory that is not shared."""

    def setUp(self) -> None:
        needs.root()
        self.user = needs.user("nobody").pw_uid
        self.directory = Path(tempfile.mkdtemp(prefix="xohook-")).resolve()
        self.addCleanup(shutil.rmtree, self.directory)
        self.control = self.directory / "control.sock"
        self.calls: list[object] = []

    def listen(self, mode: int, owner: int = 0) -> subprocess.Popen[str]:
        """Have a user listen in the directory."""
        self.directory.chmod(mode)
        shutil.chown(self.directory, owner)
        process = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-c", LISTENER, self.control],
            user=self.user,
            group=self.user,
            extra_groups=(),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def assert_refused(self, process: subprocess.Popen[str], problem: str) -> None:
        """See that the listener got nothing, and that the client says why."""
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), "b''\n")
        self.assertIn(f"user {self.user} listens there", problem)

    def registration(self) -> Registration:
        return Registration(
            "orders", freeze=self.calls.append, thaw=self.calls.append, control=self.control
        )

    def test_threads(self) -> None:
        """The plain style sends nothing to another user in a sticky directory."""
        process = self.listen(0o1777)
        with self.registration() as registration:
            eventually(lambda: "listens there" in registration.problem, "it says why")
            self.assert_refused(process, registration.problem)

    def test_asyncio(self) -> None:
        """Nor does the style for asyncio."""
        process = self.listen(0o1777)

        async def call(event: object) -> None:
            self.calls.append(event)

        async def register() -> str:
            async with AsyncRegistration(
                "orders", freeze=call, thaw=call, control=self.control
            ) as registration:
                while registration.problem == "the agent has not answered yet":
                    await asyncio.sleep(0.01)
                return registration.problem

        self.assert_refused(process, asyncio.run(asyncio.wait_for(register(), PATIENCE)))

    async def test_twisted(self) -> None:
        """Nor does the style for Twisted."""
        process = self.listen(0o1777)
        clock: Any = reactor
        call = self.calls.append
        registration = TwistedRegistration(
            clock, "orders", freeze=call, thaw=call, control=self.control
        )
        registration.startService()
        try:
            while registration.problem == "the agent has not answered yet":
                await self.tick(clock)
            self.assert_refused(process, registration.problem)
        finally:
            await registration.stopService()

    async def tick(self, clock: Any) -> None:
        """Let the reactor run."""
        await deferLater(clock, 0.01)

    def test_command(self) -> None:
        """Nor do ``xohook status`` and ``xohook thaw``."""
        process = self.listen(0o1777)
        with self.assertRaises(UnreachableError) as caught:
            Connection(self.control)
        self.assert_refused(process, str(caught.exception))

    def test_owner(self) -> None:
        """The agent's user is trusted where the directory is that user's alone."""
        process = self.listen(0o755, self.user)
        with self.registration():
            assert process.stdout is not None
            self.assertIn('"register"', process.stdout.readline())
