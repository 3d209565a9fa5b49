"""A program of this project that talks over its standard input and output."""

from __future__ import annotations

import subprocess
import sys
from typing import IO


class Program:
    """It runs until the end of the context.

    :param words: the name of its module, and its arguments.
    """

    def __init__(self, *words: object) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the words are the callers' own.
            [sys.executable, "-m", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Tell it something.

        :param line: what.
        """
        print(line, file=_end(self._process.stdin), flush=True)

    def hear(self) -> str:
        """Wait for what it says.

        :return: its next line.
        :raises AssertionError: where it has ended instead.
        """
        said = _end(self._process.stdout).readline()
        if not said:
            raise AssertionError(f"{self._process.args!r} has ended")
        return said

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()
        _end(self._process.stdin).close()
        _end(self._process.stdout).close()


def _end(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
