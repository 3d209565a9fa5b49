"""Lets system calls of running processes fail, by strace(1)."""

from __future__ import annotations

import contextlib
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests import needs

#: Seconds in which strace attaches to a process, and leaves it.
PATIENCE = 10.0


class Fault:
    """A system call that fails in some processes, and in those that they start, until the end.

    :param pids: the processes.
    :param call: the system call.
    :param error: the name of the error.
    :param when: which calls of a thread fail: ``3`` the third, ``3+`` that and all after it.
    :param trace: a file for what strace writes.
    """

    def __init__(self, pids: Sequence[int], call: str, error: str, when: str, trace: Path) -> None:
        self._trace = trace
        attach = [word for pid in pids for word in ("-p", str(pid))]
        inject = f"inject={call}:error={error}:when={when}"
        self._strace = subprocess.Popen(  # noqa: S603 - the words are made here.
            [
                needs.program("strace"),
                "-f",
                "-o",
                trace,
                "-e",
                f"trace={call}",
                "-e",
                inject,
                *attach,
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._wait_until_attached(len(pids))

    @property
    def pid(self) -> int:
        """The number of strace's process."""
        return self._strace.pid

    def end(self) -> int:
        """Let the processes go.

        :return: how many calls have failed.
        """
        self._strace.terminate()
        try:
            self._strace.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # The kernel lets its processes go.
            self._strace.kill()
            self._strace.wait()
        if self._strace.stderr is not None:
            self._strace.stderr.close()
        with contextlib.suppress(OSError):
            return self._trace.read_text(errors="replace").count("(INJECTED)")
        return 0

    def _wait_until_attached(self, processes: int) -> None:
        # It says so of each, or why not.
        told = b""
        deadline = time.monotonic() + PATIENCE
        assert self._strace.stderr is not None
        while told.count(b"strace: ") < processes and time.monotonic() < deadline:
            if select.select([self._strace.stderr], [], [], 0.1)[0]:
                part = self._strace.stderr.read1(65536)  # type: ignore[attr-defined]
                if not part:
                    return
                told += part
