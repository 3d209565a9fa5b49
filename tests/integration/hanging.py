"""A directory that hangs whoever touches it, as one on a file server does that is gone."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from tests import needs
from tests.integration.disks import run

_FUSE = Path("/dev/fuse")
_libc = ctypes.CDLL(None, use_errno=True)


class HungMount:
    """A FUSE filesystem whose server never reads a request (fuse(4)).

    Whoever touches it waits, until SIGKILL or until this is closed.

    :param mount: the directory to mount it on; made where it is missing.
    :raises unittest.SkipTest: where there can be none.
    """

    def __init__(self, mount: Path) -> None:
        needs.root()
        needs.device(_FUSE)
        mount.mkdir(parents=True, exist_ok=True)
        self._mount = mount
        self._server = os.open(_FUSE, os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._server},rootmode=40755,user_id=0,group_id=0,allow_other"
        done = _libc.mount(b"hung", os.fsencode(mount), b"fuse", 0, options.encode())
        if done != 0:
            problem = ctypes.get_errno()
            os.close(self._server)
            raise OSError(problem, os.strerror(problem), str(mount))

    def close(self) -> None:
        """End it: whoever waits for it hears an error."""
        os.close(self._server)
        run("umount", "--lazy", self._mount)
