"""Real processes, none of which outlives its test."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from xohook.host.accounts import Account
from xohook.host.pids import start_time
from xohook.processes.process import Ended, IProcessReactor, Program, Run

reactor = cast(IProcessReactor, global_reactor)

PATH = "/usr/local/bin:/usr/bin:/bin"


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be reaped does not."""
    return start_time(pid) is not None


class ProcessTestCase(TestCase):
    """Runs programs, and leaves none behind."""

    def make(self) -> Run:
        run = Run(reactor)
        self.addCleanup(self.clear, run)
        return run

    async def clear(self, run: Run) -> None:
        run.end()
        await run.when_gone()

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
        account: Account | None = None,
    ) -> Run:
        run = self.make()
        whole = {"PATH": PATH, **(environment or {})}
        run.begin(Program(arguments, whole, directory, account))
        return run

    async def shell(self, script: str) -> Ended:
        return await self.start("sh", "-c", script).when_ended()

    async def until_written(self, path: Path) -> str:
        while not (path.exists() and path.read_text().endswith("\n")):
            await deferLater(reactor, 0.01)
        return path.read_text().strip()

    def path(self, name: str, text: str = "", mode: int = 0o755) -> Path:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        path = directory / name
        if text:
            path.write_text(text)
            path.chmod(mode)
        return path

    def end_later(self, pid: int) -> None:
        descriptor = os.pidfd_open(pid)

        def end() -> None:
            if lives(pid):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)

        self.addCleanup(end)
