"""One agent a runtime directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from xohook.errors import StartError


class Lock:
    """Holds a runtime directory for this process, and its children by fork, until all have ended.

    :param directory: the runtime directory.
    :raises StartError: where another agent has it.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"another agent is running with the runtime directory {directory}: stop it, or"
                " give this one a runtime_directory of its own"
            ) from None
        except OSError as error:
            raise StartError(f"cannot lock {path}: {error.strerror}") from error
