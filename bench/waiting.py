"""Processes that wait in the kernel until something is let go, and tell when they got on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

#: Opens a file, and each time it is told to, says so and does what waits for the file: a write
#: waits for its filesystem, a lock for whoever holds it. The monotonic clock is every process's.
_PROGRAM = """
import fcntl, os, sys, time
deed, path = sys.argv[1:]
file = os.open(path, os.O_RDWR | os.O_CREAT)
print("open", flush=True)
for _ in sys.stdin:
    print("waiting", flush=True)
    if deed == "write":
        os.pwrite(file, b"x", 0)
    else:
        fcntl.flock(file, fcntl.LOCK_EX)
    moment = time.monotonic()
    fcntl.flock(file, fcntl.LOCK_UN)
    print(moment, flush=True)
"""


class Waiter:
    """One such process; a context manager.

    :param deed: ``write`` or ``lock``.
    :param path: the file, on what will be frozen or held.
    """

    def __init__(self, deed: str, path: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the program stands above.
            [sys.executable, "-c", _PROGRAM, deed, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()

    def wait(self) -> None:
        """Have it wait from now on."""
        print(file=_end(self._process.stdin), flush=True)
        self._hear()

    def moment(self) -> float:
        """Wait until it has got on.

        :return: when that was, in seconds of the monotonic clock.
        """
        return float(self._hear())

    def close(self) -> None:
        """End it; on a frozen filesystem it ends with the thaw."""
        self._process.kill()
        _end(self._process.stdin).close()
        _end(self._process.stdout).close()
        self._process.wait()

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _hear(self) -> str:
        said = _end(self._process.stdout).readline()
        if not said:
            raise AssertionError("a process that was to wait has ended")
        return said


def _end(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
