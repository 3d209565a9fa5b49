"""systemd's part in socket activation, played by a test: it holds sockets and passes them in."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

PATIENCE = 30.0
"""Seconds to wait for a program that has just been started."""

# The process that asks for the files becomes the program, as the number in LISTEN_PID demands. The
# first file that it gets is 4 and the first that the program looks for is 3, so that no number is
# overwritten before it was copied.
LAUNCHER = """
import os, socket, sys
place, *command = sys.argv[1:]
systemd = socket.socket(socket.AF_UNIX)
systemd.connect(place)
names, files, _, _ = socket.recv_fds(systemd, 4096, 100)
systemd.close()
for number, file in enumerate(files, 3):
    os.dup2(file, number)
os.closerange(3 + len(files), 200)
told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(files))}
os.execvpe(command[0], command, {**os.environ, **told, "LISTEN_FDNAMES": names.decode()})
"""


class Systemd:
    """Passes files in to what it launches.

    :param test: the test, with which it ends.
    :param files: the descriptors; they stay open here.
    """

    def __init__(self, test: SynchronousTestCase, files: Sequence[int]) -> None:
        self._files = list(files)
        self._asked = socket.socket(socket.AF_UNIX)
        test.addCleanup(self._asked.close)
        self._asked.settimeout(PATIENCE)
        # Not mktemp(): a UNIX socket's path has room for 107 bytes (unix(7)).
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        test.addCleanup(held.cleanup)
        place = str(Path(held.name) / "systemd")
        self._asked.bind(place)
        self._asked.listen()
        self.launcher = (sys.executable, "-I", "-S", "-c", LAUNCHER, place)

    def pass_in(self) -> None:
        """Pass the files in to the program that was launched, named ``file0`` and so on."""
        asking, _ = self._asked.accept()
        with asking:
            names = ":".join(f"file{number}" for number in range(len(self._files)))
            socket.send_fds(asking, [names.encode()], self._files)


def environment() -> dict[str, str]:
    """Tell what a program needs to import what the test itself can.

    :return: the environment.
    """
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
