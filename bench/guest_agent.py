"""QEMU's guest agent (``qemu-ga``), which can freeze and thaw as well."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from threading import Timer
from typing import Any

from tests.integration.agent import eventually
from tests.integration.disks import Disk
from tests.integration.hook_client import PATIENCE

PROGRAM = "qemu-ga"
PACKAGE = "qemu-guest-agent"

#: Seconds after which what it froze is thawed, whatever became of it.
LONGEST = 10.0

#: It thaws whatever is mounted where it can see it, and here shall see one disk beside ``/``.
_ALONE = """
mount=$1; shift
findmnt --raw --noheadings --output TARGET --types ext2,ext3,ext4,xfs,btrfs |
while read -r point; do
    case $point in / | "$mount") ;; *) umount --lazy "$point" ;; esac
done
exec "$@"
"""


def is_installed() -> bool:
    """Tell whether it can be started.

    :return: whether it can.
    """
    return shutil.which(PROGRAM) is not None


class GuestAgent:
    """The guest agent in the foreground, on a socket of its own; a context manager.

    :param directory: where its files are made.
    :param disk: the one disk that it freezes.
    :raises AssertionError: where it would freeze more than what it is told to.
    """

    def __init__(self, directory: Path, disk: Disk) -> None:
        directory.mkdir(parents=True)
        self._disk = disk
        path = directory / "socket"
        # Without a list of mount points it would freeze ``/``, and with that the whole machine.
        words = ["--method=unix-listen", f"--path={path}", "--block-rpcs=guest-fsfreeze-freeze"]
        words += [f"--pidfile={directory / 'pid'}", f"--statedir={directory}"]
        words += [f"--logfile={directory / 'log'}"]
        alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ALONE, "sh"]
        self._process = subprocess.Popen(  # noqa: S603 - the words are made here.
            [*alone, disk.mount, PROGRAM, *words]
        )
        eventually(lambda: self._process.poll() is not None or path.exists(), "qemu-ga listens")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._answers = self._socket.makefile("rb")

    def freeze(self) -> None:
        """Freeze the disk; it is thawed after :data:`LONGEST` seconds whatever comes.

        :raises AssertionError: where it does not freeze just that.
        """
        self._timer = Timer(LONGEST, subprocess.run, [["fsfreeze", "-u", self._disk.mount]])
        self._timer.start()
        mounts = {"mountpoints": [str(self._disk.mount)]}
        frozen = self._ask("guest-fsfreeze-freeze-list", mounts)
        if frozen != 1:
            raise AssertionError(f"qemu-ga froze {frozen} filesystems, not 1")

    def thaw(self) -> None:
        """Thaw the disk."""
        self._ask("guest-fsfreeze-thaw", {})
        self._timer.cancel()

    def close(self) -> None:
        """End it."""
        self._answers.close()
        self._socket.close()
        self._process.terminate()
        self._process.wait(PATIENCE)

    def __enter__(self) -> GuestAgent:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _ask(self, command: str, arguments: dict[str, Any]) -> Any:
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = json.loads(self._answers.readline())
        if "return" not in answer:
            raise AssertionError(f"{command}: {answer}")
        return answer["return"]
