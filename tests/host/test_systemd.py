"""Tests for :mod:`xohook.host.systemd`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.activating import PATIENCE, Systemd, environment
from xohook.errors import StartError
from xohook.host.systemd import Inherited, inherited, notify

PROBE = """
import json, os
from xohook.errors import StartError
from xohook.host.systemd import inherited
try:
    found = inherited(os.environ, os.getpid())
except StartError as error:
    print(json.dumps(str(error)))
else:
    every = [*found.hook, *filter(None, [found.control])]
    print(json.dumps({
        "hook": [each.getsockname()[:2] for each in found.hook],
        "control": found.control and found.control.getsockname(),
        "numbers": sorted(each.fileno() for each in every),
        "blocking": [each.getblocking() for each in every],
        "inherited on": [each.get_inheritable() for each in every],
        "left": [name for name in os.environ if name.startswith("LISTEN_")],
    }))
"""


class NotifyTests(SynchronousTestCase):
    """systemd is told over the socket that it named, where it named one."""

    def setUp(self) -> None:
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.settimeout(0)
        self.addCleanup(self.systemd.close)
        # Not mktemp(): a UNIX socket's path has room for 107 bytes (unix(7)).
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.path = Path(held.name) / "notify"

    def test_path(self) -> None:
        """A path names a socket in the file system."""
        self.systemd.bind(str(self.path))
        notify("READY=1", {"NOTIFY_SOCKET": str(self.path)})
        self.assertEqual(self.systemd.recv(100), b"READY=1")

    def test_abstract(self) -> None:
        """A name that begins with @ is one of the abstract namespace."""
        name = f"xohook-test-{os.getpid()}"
        self.systemd.bind(f"\0{name}")
        notify("STOPPING=1", {"NOTIFY_SOCKET": f"@{name}"})
        self.assertEqual(self.systemd.recv(100), b"STOPPING=1")

    def test_no_systemd(self) -> None:
        """Elsewhere nobody is told."""
        self.systemd.bind(str(self.path))
        notify("READY=1", {})
        notify("READY=1", {"NOTIFY_SOCKET": ""})
        self.assertRaises(BlockingIOError, self.systemd.recv, 100)

    def test_gone(self) -> None:
        """A socket that nobody listens on any more stops nobody."""
        self.systemd.bind(str(self.path))
        self.systemd.close()
        notify("READY=1", {"NOTIFY_SOCKET": str(self.path)})
        self.path.unlink()
        notify("READY=1", {"NOTIFY_SOCKET": str(self.path)})


class InheritedTests(SynchronousTestCase):
    """Sockets are taken over from systemd, and nothing else is."""

    def setUp(self) -> None:
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.directory = Path(held.name)

    def tcp(self, host: str, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Listen on a port of one address."""
        listening = socket.create_server((host, 0), family=family)
        self.addCleanup(listening.close)
        return listening

    def unix(self, name: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Bind a socket to a path; it does not listen yet."""
        bound = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(bound.close)
        bound.bind(str(self.directory / name))
        return bound

    def take(self, *files: socket.socket | int) -> Any:
        """Pass them in to a process, and tell what it took over."""
        numbers = [each if isinstance(each, int) else each.fileno() for each in files]
        systemd = Systemd(self, numbers)
        return self.printed([*systemd.launcher, sys.executable, "-c", PROBE], systemd.pass_in)

    def printed(self, command: list[str], meanwhile: Callable[[], None] = lambda: None) -> Any:
        """Run the probe, and read what it prints."""
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
            meanwhile()
            printed, _ = process.communicate(timeout=PATIENCE)
        return json.loads(printed)

    def test_sorted(self) -> None:
        """TCP sockets are the hook's, the UNIX socket is the control socket."""
        control = self.unix("control.sock")
        control.listen()
        first, second = self.tcp("127.0.0.1"), self.tcp("::1", socket.AF_INET6)
        expected = {
            "hook": [list(first.getsockname()), list(second.getsockname()[:2])],
            "control": control.getsockname(),
            "numbers": [3, 4, 5],
            "blocking": [False] * 3,
            "inherited on": [False] * 3,
            "left": [],
        }
        self.assertEqual(self.take(first, control, second), expected)

    def test_two_control_sockets(self) -> None:
        """There is one control socket; a second one is refused, and both are named."""
        first, second = self.unix("a"), self.unix("b")
        first.listen()
        second.listen()
        text = self.take(first, second)
        paths = f"{first.getsockname()}, {second.getsockname()}"
        self.assertIn(f"systemd passes in 2 UNIX sockets ({paths})", text)

    def test_no_listening_stream(self) -> None:
        """What is no listening stream socket is refused by its name."""
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(datagrams.close)
        one_end, other_end = socket.socketpair()
        self.addCleanup(one_end.close)
        self.addCleanup(other_end.close)
        unfit = (datagrams, one_end, self.unix("silent"), self.unix("log", socket.SOCK_DGRAM))
        for each in unfit:
            text = self.take(self.tcp("127.0.0.1"), each)
            self.assertIn("systemd passes in 'file1' (descriptor 4): not a listening stream", text)

    def test_no_socket(self) -> None:
        """A file that is no socket is refused, and so is a number that is no file."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        text = self.take(reading)
        self.assertIn("'file0' (descriptor 3): Socket operation on non-socket", text)
        told = "import os; os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        text = self.printed([sys.executable, "-c", told + PROBE])
        self.assertIn("'unknown' (descriptor 3): Bad file descriptor", text)


class InheritedVariablesTests(SynchronousTestCase):
    """The variables of sd_listen_fds(3)."""

    def test_not_there(self) -> None:
        """Without them nothing is inherited."""
        for environ in ({}, {"LISTEN_PID": "7"}, {"LISTEN_PID": "", "LISTEN_FDS": "1"}):
            before = dict(environ)
            self.assertEqual(inherited(environ, 7), Inherited())
            self.assertEqual(environ, before)

    def test_not_for_this_process(self) -> None:
        """What is meant for another process is left alone."""
        environ = {"LISTEN_PID": "8", "LISTEN_FDS": "nonsense", "LISTEN_FDNAMES": "a"}
        before = dict(environ)
        self.assertEqual(inherited(environ, 7), Inherited())
        self.assertEqual(environ, before)

    def test_nonsense(self) -> None:
        """Values that make no sense are refused by their variable."""
        for value in ("x", "-7", "0", "7x", "\u0667", "1" * 5000):
            for variable in ("LISTEN_PID", "LISTEN_FDS"):
                environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", variable: value}
                error = self.assertRaises(StartError, inherited, environ, 7)
                self.assertIn(f"{variable}={value!r} in the environment", str(error))

    def test_names(self) -> None:
        """There are as many names as files, or none."""
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b:c"}
        error = self.assertRaises(StartError, inherited, environ, 7)
        self.assertIn("LISTEN_FDNAMES='a:b:c' in the environment names 3 files", str(error))
