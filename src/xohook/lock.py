"""One agent a runtime directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from xohook.errors import StartError


def lock(directory: Path) -> None:
    """Keep a runtime directory to this process, and to its children by fork, until all have ended.

    :param directory: the runtime directory.
    :raises StartError: where another agent has it.
    """
    path = directory / "lock"
    try:
        # The descriptor is never closed: the lock ends with the process (flock(2)).
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(
            f"another agent is running with the runtime directory {directory}: stop it, or"
            " give this one a runtime_directory of its own"
        ) from None
    except OSError as error:
        raise StartError(f"cannot lock {path}: {error.strerror}") from error


def is_held(directory: Path) -> bool:
    """Tell whether an agent has a runtime directory, without making anything.

    :param directory: the runtime directory; it need not be there.
    :return: whether one has, as far as the caller may see.
    """
    try:
        with (directory / "lock").open("rb") as seen:
            # Closing the file, at once, releases it again.
            fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
