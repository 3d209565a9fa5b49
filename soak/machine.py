"""What the interleavings happen to: an agent, two filesystems, a lock, programs and an app."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock, ioctl
from pathlib import Path
from typing import Any

from soak.scenario import HOLD_LIMIT
from soak.watcher import Watcher
from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.control_client import CallFailedError, ControlClient
from tests.integration.disks import LET_GO, Disk, make_image, run
from tests.integration.footprint import children
from tests.integration.holds import Lock, filesystem, guards
from xohook.host.pids import process_state
from xohook.processes.guards.freezer import FITHAW

#: Seconds that the machine has after a step until all is let go.
PATIENCE = 30.0

#: Seconds after which the filesystems are thawed whatever goes on: longer than any soak.
LONGEST = 7 * 24 * 3600

FREEZE_BUDGET = 12.0

_OPTIONS = f"hold_limit = {HOLD_LIMIT}s\nfreeze_budget = {FREEZE_BUDGET}s\n"

#: Files that an agent may open once and for good, after its first step.
FILES = 4

#: Twice what a loaded machine needs; a guard that is stopped is replaced after half of it.
_TIMEOUTS = ("freeze_timeout = 6s", "thaw_timeout = 5s")

_NOTE = """#!/bin/sh
echo "${{0##*/}} $XOHOOK_PHASE $XOHOOK_WINDOW" >>'{journal}'
"""

_PR_SET_CHILD_SUBREAPER = 36
"""From ``linux/prctl.h``: orphans become children of this process (prctl(2))."""


def adopt_orphans() -> None:
    """Become the parent of what the agent leaves behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class _Agent(Agent):
    """It ends when the soak is killed."""

    launcher = ("setpriv", "--pdeathsig", "KILL")


class Machine:
    """All of it; made once, and used for step after step.

    :param directory: a directory for it, on no filesystem that is frozen.
    :param stack: ends all of it.
    """

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._stack = stack
        directory.mkdir(parents=True)
        self.disks = {
            kind: self._make_disk(directory / kind, kind, stack) for kind in ("ext4", "xfs")
        }
        self.lock = Lock(directory / "lock")
        self.journal = directory / "journal"
        self.journal.touch()
        self.agent = _Agent(directory / "agent", _OPTIONS, self._sections(directory))
        self.agent.start()
        stack.callback(self._end)
        self.credentials = {**self.agent.credentials, "Accept": "application/json"}
        self.watcher = Watcher(self.agent.control)
        self._app: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []
        self._own = {os.getpid(), *_descendants(os.getpid())} - self._of_agent()
        self.log_begin = 0
        self._files: tuple[int, int] | None = None
        self.greet()

    def _make_disk(self, directory: Path, kind: str, stack: ExitStack) -> Disk:
        directory.mkdir()
        disk = Disk(make_image(directory / "image", kind), directory / "mount", LONGEST)
        stack.callback(disk.close)
        return disk

    def _sections(self, directory: Path) -> str:
        scripts = directory / "scripts"
        scripts.mkdir()
        note = _NOTE.format(journal=self.journal)
        for program in (directory / "pair", scripts / "one", scripts / "two"):
            program.write_text(note)
            program.chmod(0o755)
        timeouts = "\n".join(_TIMEOUTS)
        return "\n".join(
            (
                *(filesystem(disk, kind, *_TIMEOUTS) for kind, disk in self.disks.items()),
                self.lock.section(*_TIMEOUTS),
                f"[command:pair]\nfreeze = {directory}/pair\nthaw = {directory}/pair\n{timeouts}",
                f"[scripts:both]\ndirectory = {scripts}\n{timeouts}",
                f"[app:soak]\n{timeouts}",
            )
        )

    # The agent.

    def greet(self) -> None:
        """Follow an agent that has just started, with the app registered."""
        eventually(self._subscribed, "the agent's control socket answers", PATIENCE)
        self.revive_app()

    def _subscribed(self) -> bool:
        with contextlib.suppress(OSError):
            self.watcher.begin()
            return True
        return False

    def restart(self) -> None:
        """Start an agent that has ended."""
        self.agent.wait()
        self.agent.start()
        self.greet()

    def ask(self, method: str) -> Any:
        """Call a method of the agent's.

        :param method: the method.
        :return: its result; None where the agent does not answer.
        """
        with contextlib.suppress(OSError, CallFailedError), ControlClient(self.agent.control) as it:
            it.socket.settimeout(PATIENCE)
            return it.call(method)
        return None

    @property
    def log(self) -> str:
        """What the agent has logged in this step."""
        with self.agent.log_path.open("rb") as log:
            log.seek(self.log_begin)
            return log.read().decode(errors="replace")

    def begin_step(self) -> None:
        """Forget the earlier steps."""
        self.log_begin = self.agent.log_path.stat().st_size
        self.watcher.forget()

    # Its processes.

    def guards(self, program: str = "") -> list[int]:
        """Find the agent's guards.

        :param program: ``freezer`` or ``session``; both where it is not given.
        :return: their numbers, in order.
        """
        with contextlib.suppress(OSError):
            return sorted(guards(self.agent, program))
        return []

    def clients(self) -> list[int]:
        """Find the session's client.

        :return: its number, if there is one.
        """
        found: list[int] = []
        for guard in self.guards("session"):
            with contextlib.suppress(OSError):
                found += children(guard)
        return found

    @property
    def app(self) -> int:
        """The app's number."""
        return 0 if self._app is None else self._app.pid

    def revive_app(self) -> None:
        """Start the app where it has ended."""
        if self._app is not None and self._app.poll() is None:
            return
        self.end_app()
        self._app = subprocess.Popen(  # noqa: S603 - the words are made here.
            [sys.executable, "-m", "soak.app", self.agent.control, self.journal],
            stdin=subprocess.PIPE,
            env=self.agent.environment,
        )
        self._own.add(self._app.pid)

    def end_app(self) -> None:
        """Kill the app, which may have ended."""
        if self._app is not None:
            self._own.discard(self._app.pid)
            self._app.kill()
            self._app.wait()
            if self._app.stdin is not None:
                self._app.stdin.close()
            self._app = None

    def stop(self, pid: int) -> None:
        """Stop a process until :meth:`resume`.

        :param pid: its number.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._stopped.append(pid)

    def resume(self) -> None:
        """Let all go on that was stopped."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    @property
    def agent_is_stopped(self) -> bool:
        """Whether the agent has been stopped."""
        return self.agent.pid in self._stopped

    def leftovers(self) -> list[int]:
        """Find what is not there at rest: guards, programs, and what a dead agent left behind.

        :return: the numbers of the processes.
        """
        found = []
        for pid in _children(os.getpid()):
            if pid in self._own or (not self.agent.ended and pid == self.agent.pid):
                continue
            if process_state(pid) in "ZXx":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            else:
                found.append(pid)
        if not self.agent.ended:
            found += children(self.agent.pid)
        return found

    def left_open(self) -> str:
        """Look whether the agent has more files open than after the first step of its life.

        :return: how many; empty where it has not.
        """
        pid, count = self.agent.pid, len(list(Path(f"/proc/{self.agent.pid}/fd").iterdir()))
        if self._files is None or self._files[0] != pid:
            self._files = (pid, count)
        before = self._files[1]
        return f"{count} open files, {before} before" if count > before + FILES else ""

    def adopt(self, pid: int) -> None:
        """Count a process of the soak's own as no leftover.

        :param pid: its number.
        """
        self._own.add(pid)

    def disown(self, pid: int) -> None:
        """Count it no more.

        :param pid: its number.
        """
        self._own.discard(pid)

    def _of_agent(self) -> set[int]:
        return {self.agent.pid, *_descendants(self.agent.pid)}

    @property
    def has_stamp(self) -> bool:
        """Whether the state directory says that a window is open."""
        return (self.agent.state_directory / "stamp.json").exists()

    # Filesystems and the lock.

    def thaw(self, kind: str) -> bool:
        """Thaw a filesystem as somebody else on the machine.

        :param kind: which.
        :return: whether it was frozen.
        """
        directory = os.open(self.disks[kind].mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            ioctl(directory, FITHAW, 0)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(directory)

    def unmount(self, kind: str) -> None:
        """Unmount a filesystem lazily, if it is mounted.

        :param kind: which.
        """
        mount = self.disks[kind].mount
        if os.path.ismount(mount):
            run("umount", "--lazy", mount)

    def mount(self, kind: str) -> bool:
        """Mount it where it was, if it is not.

        :param kind: which.
        :return: whether it is mounted now.
        """
        disk = self.disks[kind]
        if os.path.ismount(disk.mount):
            return True
        done = subprocess.run(  # noqa: S603 - the words are made here.
            [needs.program("mount"), "-o", "loop", disk.image, disk.mount],
            check=False,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        return done.returncode == 0

    def lock_is_held(self) -> bool:
        """Tell whether somebody holds the lock.

        :return: whether somebody does.
        """
        file = os.open(self.lock.path, os.O_RDONLY)
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
        else:
            flock(file, LOCK_UN)
            return False
        finally:
            os.close(file)

    def written(self) -> str:
        """Write to the filesystems, in processes of their own.

        :return: what could not be written to; empty where all could.
        """
        writes = {kind: disk.begin_write() for kind, disk in self.disks.items()}
        deadline = time.monotonic() + LET_GO
        failed = []
        for kind, write in writes.items():
            self.adopt(write.pid)
            try:
                if write.wait(max(0.1, deadline - time.monotonic())) != 0:
                    failed.append(f"{kind} cannot be written to")
            except subprocess.TimeoutExpired:
                failed.append(f"{kind} is frozen")
                self.thaw(kind)
                write.kill()
                write.wait()
            self.disown(write.pid)
        return ", ".join(failed)

    def _end(self) -> None:
        self.resume()
        self.watcher.end()
        self.end_app()
        for kind in self.disks:
            with contextlib.suppress(OSError, AssertionError):
                self.mount(kind)
        try:
            self.agent.stop()
        finally:
            for pid in self.leftovers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for kind in self.disks:
                with contextlib.suppress(OSError):
                    self.thaw(kind)


def _children(pid: int) -> list[int]:
    threads = (Path("/proc") / str(pid) / "task").iterdir()
    found: list[int] = []
    for thread in threads:
        with contextlib.suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found


def _descendants(pid: int) -> list[int]:
    found = _children(pid)
    for each in found:
        with contextlib.suppress(OSError):
            found += _children(each)
    return found
