"""Tests for :mod:`xohook.systemd`."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.systemd import notify


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
