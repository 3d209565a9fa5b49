"""A real agent and connections to its control socket, which end with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.control_client import CallFailedError, ControlClient

#: Connections in all, and those of them that are for root and the agent's own user alone.
MOST, RESERVED = 2048, 32

#: Bytes of a message to the agent.
LONGEST = 65536

#: Users and groups of every Linux system: those of Debian's base-passwd.
DAEMON, NOBODY = (1, 1), (65534, 65534)


@contextlib.contextmanager
def acting_as(user: tuple[int, int], *groups: int) -> Iterator[None]:
    """Be another user for a moment, as far as files and sockets are concerned.

    :param user: the uid, and the gid.
    :param groups: further groups.
    """
    uid, gid = user
    before = os.getgroups()
    os.setgroups([gid, *groups])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class ControlTestCase(SynchronousTestCase):
    """A real agent, and connections to its control socket that end with the test."""

    def agent(self, options: str = "", sections: str = "") -> Agent:
        """Start an agent that ends with the test, and wait until its reactor runs."""
        agent = Agent.for_test(self, options, sections)
        self.assert_hook_answers(agent)
        return agent

    def assert_hook_answers(self, agent: Agent) -> None:
        """See that it answers: the hook accepts connections a moment before the control socket."""
        self.assertEqual(agent.get("/nowhere").status, 404)

    def connect(self, agent: Agent, path: Path | None = None) -> ControlClient:
        """Open a connection."""
        client = ControlClient(path or agent.control)
        self.addCleanup(client.close)
        return client

    def refused(self, client: ControlClient, method: str, **params: Any) -> CallFailedError:
        """Make a call that fails."""
        with self.assertRaises(CallFailedError) as caught:
            client.call(method, **params)
        error: CallFailedError = caught.exception
        return error

    def assert_served(self, agent: Agent) -> None:
        """See that others are served, over the control socket and over HTTPS."""
        with ControlClient(agent.control) as other:
            other.call("status")
        self.assertEqual(agent.get("/nowhere").status, 404)

    def assert_well(self, agent: Agent) -> None:
        """See that others are served, and that nothing came to light that should not be."""
        self.assert_served(agent)
        self.assertNotIn("Traceback", agent.log)
        self.assertNotIn("a fault of xohook itself", agent.log)


class Reachable:
    """A directory that every user reaches, for a control socket."""

    @staticmethod
    @contextlib.contextmanager
    def path() -> Iterator[Path]:
        """Make the directory for as long as it is needed.

        :return: a path in it.
        """
        directory = Path(tempfile.mkdtemp(prefix="xohook-"))
        directory.chmod(0o755)
        try:
            yield directory / "control.sock"
        finally:
            shutil.rmtree(directory)
