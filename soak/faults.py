"""Lets system calls of running processes fail, by strace(1)."""

from __future__ import annotations

import contextlib
import re
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests import needs
from xohook.host.pids import process_state

#: Seconds in which strace attaches to a process, and leaves it.
PATIENCE = 10.0

#: Seconds in which a process that is not stopped gets a signal.
DELIVERY = 1.0


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
        self._pids = pids
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
        self._wait_for_signals()
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

    def _wait_for_signals(self) -> None:
        """Wait until the processes have the signals that they were sent.

        One that stands still before strace, for a signal to be delivered, loses it when strace
        leaves it (ptrace(2), PTRACE_DETACH).
        """
        deadline = time.monotonic() + DELIVERY
        while time.monotonic() < deadline and any(map(_is_signalled, self._pids)):
            time.sleep(0.001)

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


def _is_signalled(pid: int) -> bool:
    if process_state(pid) == "t":
        return True
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return False
    # Of the thread, and of the whole process (proc(5)).
    pending = re.findall(r"^S(?:ig|hd)Pnd:\s+([0-9a-f]+)$", status, re.MULTILINE)
    return any(int(each, 16) for each in pending)
