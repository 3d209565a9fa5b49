"""One agent a runtime directory."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from xohook.errors import StartError
from xohook.host.pids import start_time

TURN_WAITS = 5.0
"""Seconds for which a start waits for others that look at the lock at the same moment."""

_DEAD = ("Z", "X", "x")
"""The states of a process that has ended (proc(5))."""


class Lock:
    """The lock of a runtime directory, held until this process and its forks have ended.

    :param descriptor: the lock's file, locked (flock(2)). It is never closed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def sign(self) -> None:
        """Write into the file who holds the lock: this process."""
        pid = os.getpid()
        # Short enough to be written at once, and a file of zeros or of an old version names nobody.
        os.pwrite(self._descriptor, f"{pid} {start_time(pid)}\n".ljust(32).encode(), 0)

    def let_look(self) -> None:
        """Let others look at the file."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def lock(directory: Path) -> Lock:
    """Keep a runtime directory to this process, and to its children by fork, until all have ended.

    A process that cannot end, because a thread of it is stuck on a frozen filesystem, keeps its
    lock even after SIGKILL. Its lock's file is replaced.

    :param directory: the runtime directory.
    :return: the lock.
    :raises StartError: where another agent has it.
    """
    path = directory / "lock"
    deadline = time.monotonic() + TURN_WAITS
    try:
        while (taken := _try(path)) is None:
            if time.monotonic() > deadline:
                raise StartError(f"several agents are starting with {path}: start one of them")
            time.sleep(0.01)
    except OSError as error:
        raise StartError(f"cannot lock {path}: {error.strerror}") from error
    return taken


def is_held(directory: Path) -> bool:
    """Tell whether an agent has a runtime directory, without making anything.

    :param directory: the runtime directory; it need not be there.
    :return: whether :func:`lock` would refuse it to another agent, as far as the caller may see.
    """
    path = directory / "lock"
    try:
        with path.open("rb") as seen:
            try:
                # Closing the file, at once, releases it again.
                fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return not _is_left(_holders(seen.fileno(), path))
    except OSError:
        pass
    return False


def _try(path: Path) -> Lock | None:
    """Take the lock if nobody else is about to.

    :return: the lock, None where it is worth another try.
    """
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        # Whoever looks at the file, or replaces it, has this other lock meanwhile, which does not
        # conflict with flock(2) and ends when the process closes the file (fcntl(2)).
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(opened, path):
            return None
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _refuse_living(opened, path)
            return Lock(_replace(path))
        taken, opened = Lock(opened), -1
        # Before others look: they would take it from whoever had signed it before and is dead.
        taken.sign()
        taken.let_look()
        return taken
    except BlockingIOError:
        return None
    finally:
        if opened >= 0:
            os.close(opened)


def _is_at(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def _replace(path: Path) -> int:
    """Put a file in place that this process has locked."""
    draft = path.with_name(f"lock.{os.getpid()}")
    opened = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    Lock(opened).sign()
    draft.replace(path)
    return opened


def _refuse_living(opened: int, path: Path) -> None:
    """See that whoever holds the lock can do nothing any more.

    :raises StartError: where it may be an agent that runs.
    """
    holders = _holders(opened, path)
    if _is_left(holders):
        return
    who = f" (process {holders[0]})" if holders else ""
    raise StartError(
        f"another agent{who} is running with the runtime directory {path.parent}: stop it, or"
        " give this one a runtime_directory of its own"
    )


def _holders(opened: int, path: Path) -> list[int]:
    """Tell which processes have the lock, as far as this one may see."""
    pid = _signed_by(opened)
    return [pid] if pid is not None else _who_has_open(path)


def _is_left(holders: list[int]) -> bool:
    """Tell whether the lock's holders are known, and none of them will act again."""
    return bool(holders) and all(_cannot_act(each) for each in holders)


def _signed_by(opened: int) -> int | None:
    """Tell which process has signed the lock's file; None where that one is no more."""
    try:
        pid, started = map(int, os.pread(opened, 64, 0).split())
    except ValueError:
        return None
    # A process that has ended but for a stuck thread has no start time by the other function.
    return pid if _started(pid) == started else None


def _started(pid: int) -> int | None:
    stat = _stat(Path(f"/proc/{pid}"))
    return int(stat[19]) if stat else None


def _stat(process: Path) -> list[str]:
    """Read the state of a process or thread, and what follows it (proc(5))."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _who_has_open(path: Path) -> list[int]:
    """List the processes that have the lock's file open, as far as this one may see."""
    # A look at the link alone: a look at what is open could hang on another filesystem.
    name = os.path.join(path.parent.resolve(), path.name)  # noqa: PTH118 - the file itself may be gone.
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for each in process.glob("task/*/fd/*"):
                with suppress(OSError):
                    if os.readlink(each) == name:  # noqa: PTH115 - for each of thousands.
                        found.add(int(process.name))
    return sorted(found - {os.getpid()})


def _cannot_act(pid: int) -> bool:
    """Tell whether no thread of a process will run again, but for what the kernel is at for it."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return True
    return all(_is_done(thread) for thread in threads)


def _is_done(thread: Path) -> bool:
    try:
        status = (thread / "status").read_text(errors="replace")
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields["State"][0] in _DEAD:
        return True
    # Bit N-1 stands for signal N (proc(5)).
    killed = 1 << (signal.SIGKILL - 1)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return bool(pending & killed)
