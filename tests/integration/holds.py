"""What an agent holds in a test: filesystems, and a lock that is easily looked at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.disks import LET_GO, Disk
from tests.integration.footprint import children
from xohook.host.pids import start_time


class Lock:
    """A file lock (flock(1)), held by a session whose client is a shell.

    :param path: the file; made here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def section(self, *options: str) -> str:
        """Write the section of the session.

        :param options: further options.
        :return: the section.
        """
        return "\n".join(
            (
                "[session:lock]",
                "command = sh",
                f"freeze_input = exec 9<'{self.path}'; flock 9; echo frozen",
                "freeze_expect = frozen",
                "thaw_input = flock --unlock 9; echo thawed",
                "thaw_expect = thawed",
                *options,
                "",
            )
        )

    @property
    def is_held(self) -> bool:
        """Whether somebody holds it."""
        done = subprocess.run(
            [needs.program("flock"), "--nonblock", self.path, "true"], check=False, timeout=LET_GO
        )
        return done.returncode != 0

    def hold(self) -> subprocess.Popen[bytes]:
        """Hold it, as another program on the machine would.

        :return: the process, which holds it until it is killed.
        """
        holder = subprocess.Popen(["flock", "--no-fork", self.path, "sleep", "600"])
        eventually(lambda: self.is_held, "the lock is held")
        return holder

    def assert_let_go(self) -> None:
        """See that nobody holds it, soon.

        :raises AssertionError: where somebody does.
        """
        eventually(lambda: not self.is_held, "the lock is free", LET_GO)


def filesystem(disk: Disk, name: str, *options: str) -> str:
    """Write the section of a filesystem.

    :param disk: the filesystem.
    :param name: the participant's name.
    :param options: further options.
    :return: the section.
    """
    return "\n".join((f"[filesystem:{name}]", f"mount = {disk.mount}", *options, ""))


def guards(agent: Agent, program: str = "") -> list[int]:
    """Find an agent's guards.

    :param agent: the agent.
    :param program: ``freezer`` or ``session``; both where it is not given.
    :return: the numbers of their processes.
    """
    word = f"xohook.processes.guards.{program}".encode()
    found = []
    for pid in children(agent.pid):
        with contextlib.suppress(OSError):
            if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def kill(*pids: int) -> None:
    """Kill processes, all at once: none of them sees the end of another.

    :param pids: their numbers; one may have ended.
    """
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def assert_ended(*pids: int) -> None:
    """See that processes have ended, soon.

    :param pids: their numbers.
    :raises AssertionError: where one has not.
    """
    eventually(lambda: all(start_time(pid) is None for pid in pids), f"{pids} have ended", LET_GO)
