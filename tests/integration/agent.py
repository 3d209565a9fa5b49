"""The real agent, started as an administrator starts it and ended whatever happens.

Everything here blocks: the agent is another process, and a test that waits for it has nothing else
to do. Requests that are to be under way together go out with :meth:`Connection.start` on
connections of their own, and are waited for afterwards.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from tests import shortened
from tests.integration.footprint import children, states, writers
from tests.integration.hook_client import PATIENCE, Answer, Connection, bearer
from xohook.host import endpoints

if TYPE_CHECKING:
    # The standard library has it from Python 3.11 on.
    from typing_extensions import Self

#: Seconds between two looks at something that gives no sign of its own.
GLANCE = 0.01

#: Seconds for which the log waits until an agent is idle.
SETTLES = 5.0

#: The command ``xohook``, whether or not it is installed as a script.
COMMAND = "from xohook.cli import main; main()"

#: How many ports are reserved at once: more than any one test uses.
RESERVATIONS = 64

_reservations: deque[socket.socket] = deque()


def eventually(true: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until something is so.

    :param true: looks whether it is.
    :param what: what is waited for, in words.
    :param patience: how long to wait, in seconds.
    :raises AssertionError: where it is not so even then.
    """
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {patience:g} s: {what}")
        time.sleep(GLANCE)


def free_port() -> int:
    """Reserve a TCP port that nobody listens on.

    The reservation is a bound socket with SO_REUSEADDR that does not listen. The kernel gives its
    port to nobody who asks for any port, and lets a program with SO_REUSEADDR listen on it
    (socket(7)). Connections to it are refused until then.

    :return: the port; it stays reserved until :data:`RESERVATIONS` others have been reserved.
    """
    _reservations.append(endpoints.bind(0))
    if len(_reservations) > RESERVATIONS:
        _reservations.popleft().close()
    port: int = _reservations[-1].getsockname()[1]
    return port


@atexit.register
def _release_ports() -> None:
    for reservation in _reservations:
        reservation.close()


def accepts(port: int) -> bool:
    """Look whether somebody accepts connections.

    :param port: the TCP port on 127.0.0.1.
    :return: whether a connection came about; it is closed at once.
    """
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        return True
    return False


def end_descendant(descriptor: int) -> None:
    """Kill a process that may have ended.

    :param descriptor: the process's descriptor, closed afterwards.
    """
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)


class Agent:
    """One agent with a configuration, a state and a runtime directory of its own.

    :param directory: an absolute path in which all of it is made.
    :param options: further lines of the ``[xohook]`` section.
    :param sections: further sections, the participants.
    """

    #: What runs twistd: a program and its arguments before it; nothing unless a test says so.
    launcher: tuple[str, ...] = ()

    #: What twistd is told before the name of its plugin.
    twistd_options: tuple[str, ...] = ("-n", "--pidfile=")

    def __init__(self, directory: Path, options: str = "", sections: str = "") -> None:
        self.port = free_port()
        self.directory = directory
        self.configuration = directory / "xohook.ini"
        self.state_directory = directory / "state"
        # A path of its own, for a test's directory is too deep for the control socket in it.
        self._runtime = tempfile.TemporaryDirectory(prefix="xohook-")
        self.runtime_directory = Path(self._runtime.name) / "run"
        self.log_path = directory / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._descendants = contextlib.ExitStack()
        directory.mkdir(parents=True, exist_ok=True)
        self.configure(options, sections)

    @classmethod
    def for_test(cls, test: SynchronousTestCase, options: str = "", sections: str = "") -> Self:
        """Start an agent that ends with the test.

        :param test: the test.
        :param options: further lines of the ``[xohook]`` section.
        :param sections: further sections, the participants.
        :return: the agent; it accepts connections.
        """
        agent = cls(Path(test.mktemp()).resolve(), options, sections)
        test.addCleanup(agent.stop)
        agent.start()
        return agent

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def configure(self, options: str = "", sections: str = "") -> None:
        """Write the configuration anew; the agent reads it when it starts next.

        :param options: further lines of the ``[xohook]`` section.
        :param sections: further sections, the participants.
        """
        lines = (
            "[xohook]",
            f"listen = tcp:{self.port}:interface=127.0.0.1",
            f"state_directory = {self.state_directory}",
            f"runtime_directory = {self.runtime_directory}",
            options,
            sections,
        )
        self.configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def control(self) -> Path:
        """The path of the control socket."""
        return self.runtime_directory / "control.sock"

    @property
    def pid(self) -> int:
        """The number of the agent's process."""
        return self._started.pid

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise AssertionError("the agent has not been started")
        return self._process

    @property
    def log(self) -> str:
        """All that the agent has logged so far, over its restarts too."""
        self._settle()
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def _settle(self) -> None:
        """Wait until the agent has nothing to do, and its writer has written what it logged.

        The agent may log a request after it has answered, and writes its log by way of a process.
        An agent that is never idle is waited for :data:`SETTLES`, and so is a writer that is
        stopped.
        """
        deadline = time.monotonic() + SETTLES
        while not self._is_settled() and time.monotonic() < deadline:
            time.sleep(GLANCE)

    def _is_settled(self) -> bool:
        # In this order: the agent gives its writer work, and not the other way round.
        if self.ended or "R" in states(self.pid):
            return self.ended
        with contextlib.suppress(OSError):
            return not any(states(writer) & {"R", "T"} for writer in writers(self.pid, "output"))
        return self.ended

    @property
    def secret(self) -> str:
        """The secret that the agent made."""
        return (self.state_directory / "secret").read_text(encoding="utf-8").strip()

    def start(self) -> None:
        """Start the agent and wait until it accepts connections.

        :raises AssertionError: where it ends instead; its log is the text.
        """
        self.spawn()
        eventually(lambda: self.ended or accepts(self.port), "the agent accepts connections")
        if self.ended:
            raise AssertionError(f"the agent did not stay up:\n{shortened(self.log)}")

    def spawn(self) -> None:
        """Start the agent and wait for nothing."""
        if not self.ended:
            raise AssertionError("the agent is running already")
        twistd = Path(sys.executable).with_name("twistd")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.launcher, twistd, *self.twistd_options, "xohook", "-c", self.configuration],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def environment(self) -> dict[str, str]:
        """The test's environment, in which Python finds what the test itself found."""
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    @property
    def ended(self) -> bool:
        """Whether the agent's process has ended."""
        return self._process is None or self._process.poll() is not None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the agent a signal.

        :param number: the signal; the agent's end is not waited for.
        """
        self._remember_descendants()
        self._started.send_signal(number)

    def wait(self) -> int:
        """Wait for the agent's end.

        :return: its exit status, or the negative number of the signal that ended it.
        """
        return self._started.wait(PATIENCE)

    def stop(self) -> None:
        """End the agent with SIGTERM, or with SIGKILL where that does not do; it may have ended.

        Programs that it ran and left behind end too.
        """
        if self._process is None:
            return
        self._remember_descendants()
        # A test may have stopped it with SIGSTOP.
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None
            self._descendants.close()

    def _remember_descendants(self) -> None:
        """Take hold of what the agent runs now, so that it can be ended once the agent is gone."""
        if self.ended:
            return
        pids = [self.pid]
        for pid in pids:
            # Any of them may end while they are listed.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for child in children(pid):
                    # Unlike its number, this never comes to mean another process (pidfd_open(2)).
                    descriptor = os.pidfd_open(child)
                    self._descendants.callback(end_descendant, descriptor)
                    pids.append(child)

    def restart(self) -> None:
        """End the agent in an orderly way and start it again."""
        self.stop()
        self.start()

    def connect(self) -> Connection:
        """Open a TLS connection to the agent.

        :return: the connection; whoever asked for it closes it.
        """
        return Connection(self.port)

    def get(self, target: str) -> Answer:
        """Send an authenticated GET on a connection of its own.

        :param target: the path and query string.
        :return: the answer.
        """
        with self.connect() as connection:
            return connection.get(target, self.credentials)

    @property
    def credentials(self) -> dict[str, str]:
        """The header with the secret that the agent made."""
        return bearer(self.secret)

    def wait_for_log(self, pattern: str, count: int = 1) -> None:
        """Wait until the log says something.

        :param pattern: a regular expression.
        :param count: how often it has to be there.
        :raises AssertionError: where the log does not come to say it.
        """
        found = re.compile(pattern)
        try:
            eventually(lambda: len(found.findall(self.log)) >= count, f"the log says {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it says:\n{shortened(self.log)}") from None

    @property
    def outcomes(self) -> list[str]:
        """The outcome of each window that has ended, in order, from the log."""
        return re.findall(r"window \S+ ([a-z]+)$", self.log, re.MULTILINE)

    def wait_for_outcomes(self, *expected: str) -> None:
        """Wait until as many windows have ended, and see how they did.

        :param expected: the outcome of each, in order.
        :raises AssertionError: where they ended otherwise, or did not end.
        """
        eventually(lambda: len(self.outcomes) >= len(expected), f"windows ended {expected}")
        if self.outcomes != list(expected):
            raise AssertionError(f"the windows ended {self.outcomes}, not {list(expected)}")

    def setup(self) -> dict[str, Any]:
        """Ask ``xohook setup --json`` what to paste into Xen Orchestra.

        :return: what it printed.
        """
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "setup", "--json", "-c", self.configuration],
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            timeout=PATIENCE,
        )
        printed: dict[str, Any] = json.loads(done.stdout)
        return printed

    @property
    def tag(self) -> str:
        """The tag that ``xohook setup`` gives the VM."""
        tag: str = self.setup()["tag"]
        return tag
