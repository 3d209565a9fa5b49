"""The writer of the stamp, where a test has no process: it does what it is asked for at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred, succeed


def writer_of(path: Path) -> Callable[..., Deferred[str]]:
    """Make what takes the orders of :class:`xohook.state.disk.Disk`.

    :param path: the stamp.
    :return: takes an order, and gives what went wrong.
    """

    def ask(word: str, *content: bytes) -> Deferred[str]:
        try:
            if word == "lift":
                path.unlink(missing_ok=True)
            for data in content:
                path.write_bytes(data)
                path.chmod(0o600)
        except OSError as error:
            return succeed(error.strerror or "")
        return succeed("")

    return ask
