"""What is exchanged while the agent or a command works: no link put in its place is followed."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.control.socket import close_control, open_control
from xohook.errors import StartError
from xohook.host.files import create_private, write_private

USER, GROUP = 47_301, 47_302

TRIES = 10_000
"""How often the socket is opened while it is being exchanged. An agent that followed links gave the
file away once in some 3,000 tries."""

RACER = """
import os, stat, sys
path, target, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.setgroups([])
os.setgid(user)
os.setuid(user)
link = f"{path}.link"
os.symlink(target, link)
print("ready", flush=True)
while True:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.rename(link, path)
            os.symlink(target, link)
            os.unlink(path)
    except OSError:
        pass
"""


class ExchangedTestCase(SynchronousTestCase):
    """A file that nobody is to get, and a directory beside it."""

    def setUp(self) -> None:
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.top = Path(held.name)
        self.top.chmod(0o755)
        self.precious = self.top / "precious"
        self.precious.write_text("precious")
        self.precious.chmod(0o600)
        self.directory = self.top / "directory"
        self.directory.mkdir(mode=0o755)
        self.path = self.directory / "control.sock"

    def assert_precious(self) -> None:
        """See that the file is nobody else's, as it was."""
        found = self.precious.stat()
        self.assertEqual((stat.S_IMODE(found.st_mode), found.st_gid), (0o600, os.getegid()))


class ControlTests(ExchangedTestCase):
    """The control socket, with a group that is to reach it."""

    def test_racer(self) -> None:
        """A user who exchanges the socket in a directory of their own gets no file of root's."""
        needs.root()
        os.chown(self.directory, USER, USER)
        racer = subprocess.Popen(
            [sys.executable, "-c", RACER, self.path, self.precious, str(USER)],
            stdout=subprocess.PIPE,
        )
        self.addCleanup(racer.wait)
        self.addCleanup(racer.send_signal, signal.SIGKILL)
        assert racer.stdout is not None
        self.addCleanup(racer.stdout.close)
        self.assertEqual(racer.stdout.readline(), b"ready\n")
        for _ in range(TRIES):
            with contextlib.suppress(StartError):
                close_control(open_control(self.path, GROUP), self.path)
            self.assert_precious()

    def test_users_directory(self) -> None:
        """A directory of another user's, or one that others may write to, is refused."""
        needs.root()
        os.chown(self.directory, USER, USER)
        text = str(self.assertRaises(StartError, open_control, self.path, None))
        self.assertIn(f"{self.directory} belongs to user {USER}", text)
        self.assertIn(f"'chown 0 {self.directory}'", text)
        os.chown(self.directory, 0, GROUP)
        self.directory.chmod(0o770)
        text = str(self.assertRaises(StartError, open_control, self.path, None))
        self.assertIn(f"'chmod go-w {self.directory}'", text)
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_shared_directory(self) -> None:
        """A sticky directory as ``/tmp`` is taken."""
        self.directory.chmod(0o1777)
        close_control(open_control(self.path, None), self.path)

    def test_anothers_lock(self) -> None:
        """A lock file that another user has put there first is refused, and not waited for."""
        needs.root()
        lock = self.directory / "control.sock.lock"
        lock.touch()
        os.chown(lock, USER, USER)
        text = str(self.assertRaises(StartError, open_control, self.path, None))
        self.assertIn(f"control.sock.lock beside it belongs to user {USER}", text)

    def test_link_before_chown(self) -> None:
        """A link that is there by the time that the group gets the socket is not followed."""
        chown = os.chown

        def exchange(path: object, uid: int, gid: int) -> None:
            restored.restore()
            self.path.unlink()
            self.path.symlink_to(self.precious)
            chown(str(path), uid, gid)

        restored = self.patch(os, "chown", exchange)
        opened = open_control(self.path, os.getegid())
        self.addCleanup(opened.close)
        self.assertTrue(self.path.is_symlink())
        self.assert_precious()

    def test_directory_before_close(self) -> None:
        """At its end the agent removes nothing in a directory that has taken the place of its."""
        opened = open_control(self.path, None)
        self.directory.rename(self.top / "moved")
        self.directory.mkdir()
        (self.top / "moved" / "control.sock").rename(self.path)
        close_control(opened, self.path)
        self.assertTrue(self.path.is_socket())


class FilesTests(ExchangedTestCase):
    """Private files, which root makes for an agent of another user too."""

    def exchange(self) -> Path:
        """Put a link to another directory in the place of the directory, at the next fsync."""
        elsewhere = self.top / "elsewhere"
        elsewhere.mkdir()
        fsync = os.fsync

        def exchanged(descriptor: int) -> None:
            restored.restore()
            self.directory.rename(self.top / "moved")
            self.directory.symlink_to(elsewhere)
            fsync(descriptor)

        restored = self.patch(os, "fsync", exchanged)
        return elsewhere

    def test_create(self) -> None:
        """A file that is made comes into the directory that was judged, or nowhere."""
        elsewhere = self.exchange()
        self.assertTrue(create_private(self.directory / "secret", b"secret"))
        self.assertEqual([each.name for each in (self.top / "moved").iterdir()], ["secret"])
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_write(self) -> None:
        """So does one that is written anew."""
        elsewhere = self.exchange()
        write_private(self.directory / "secret", b"secret", lasting=True)
        self.assertEqual([each.name for each in (self.top / "moved").iterdir()], ["secret"])
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_users_link(self) -> None:
        """What root makes for a user goes into no directory but that user's."""
        needs.root()
        os.chown(self.top, USER, USER)
        link = self.top / "link"
        link.symlink_to(self.directory)
        os.chown(link, USER, USER, follow_symlinks=False)
        self.assertRaises(StartError, create_private, link / "secret", b"secret", USER)
        self.assertEqual(list(self.directory.iterdir()), [])
