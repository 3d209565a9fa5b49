"""Who listens on a port, as far as procfs tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xohook.text import printable

# proc(5), net/tcp: the state of a listening socket.
_LISTEN = "0A"


def holders(port: int, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """Name the processes that listen on a TCP port.

    :param port: the port.
    :param proc: where procfs is mounted.
    :return: each as ``NAME (process PID)``; only root sees those of other users.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    return tuple(
        f"{_name(process)} (process {process.name})"
        for process in proc.iterdir()
        if process.name.isdecimal() and sockets.intersection(_links(process / "fd"))
    )


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _links(directory: Path) -> Iterator[str]:
    try:
        entries = list(directory.iterdir())
    except OSError:
        # Another user's process, or one that has ended meanwhile.
        return
    for entry in entries:
        try:
            yield str(entry.readlink())
        except OSError:
            continue


def _name(process: Path) -> str:
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a program"
    return printable(name)
