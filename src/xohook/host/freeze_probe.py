"""Which filesystems are frozen now, found out without freezing or thawing any."""

from __future__ import annotations

import os
import resource
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 1.0
"""Seconds after which a filesystem that has not answered counts as frozen: one that is not needs
less than a millisecond, and a loaded disk is not asked at all."""

_POLL = 0.005


def frozen_mounts(points: Sequence[Path], patience: float = PATIENCE) -> list[Path]:
    """Tell which filesystems are frozen; this blocks, so it is for the command line only.

    For each a child process removes a file that does not exist. unlink(2) asks for write access to
    the mount before it looks the name up (``mnt_want_write`` in linux/fs/namei.c,
    ``do_unlinkat``), so it waits while the filesystem is frozen, and changes nothing otherwise. A
    child that waits holds none of this process's files, and ends at the thaw.

    :param points: the mount points, of filesystems that can be frozen.
    :param patience: seconds to wait for all of them together.
    :return: those that are frozen, in their order.
    """
    name = f".xohook-{secrets.token_hex(8)}-does-not-exist"
    waiting = {}
    for point in points:
        pid = os.fork()
        if pid == 0:
            _remove(point / name)
        waiting[pid] = point
    deadline = time.monotonic() + patience
    while waiting:
        for pid in tuple(waiting):
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                del waiting[pid]
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL if waiting else 0)
    return list(waiting.values())


def _remove(path: Path) -> None:
    """Try to remove a file, and end this process."""
    try:
        # A terminal that closes, or a signal to its foreground, is none of its concern.
        os.setsid()
        os.closerange(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        path.unlink()
    finally:
        os._exit(0)
