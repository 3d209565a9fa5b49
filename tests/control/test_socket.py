"""Tests for :mod:`xohook.control.socket`."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.control.socket import Peer, close_control, let_reach, open_control, peer_of
from xohook.errors import StartError
from xohook.host.endpoints import LONGEST_PATH

USER, OTHER, GROUP = 47_101, 47_102, 47_103


def as_user(uid: int, groups: Sequence[int], act: Callable[[], str]) -> str:
    """Do something in a child process of another user.

    :param uid: the user, whose primary group has the same number.
    :param groups: the other groups that it is in.
    :param act: what to do.
    :return: what that returned, or the text of the error that it raised.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            said = act()
        except BaseException as error:  # noqa: BLE001 - a child must not go on as a second trial
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


class ControlSocketTestCase(SynchronousTestCase):
    """A directory whose name is short enough for a socket in it (unix(7)), open to all."""

    def setUp(self) -> None:
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.directory = Path(held.name)
        self.directory.chmod(0o755)
        self.path = self.directory / "control.sock"

    def open(self, group: int | None = None) -> socket.socket:
        opened = open_control(self.path, group)
        self.addCleanup(opened.close)
        return opened

    def refused(self, path: Path | None = None, group: int | None = None) -> str:
        return str(self.assertRaises(StartError, open_control, path or self.path, group))

    def connect(self) -> str:
        """Connect, and tell what came of it."""
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            return errno.errorcode.get(client.connect_ex(str(self.path)), "connected")

    def listen(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Listen there as anybody might."""
        bound = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(bound.close)
        bound.bind(str(self.path))
        if kind == socket.SOCK_STREAM:
            bound.listen(0)
        return bound


class OpenTests(ControlSocketTestCase):
    """Who may connect, from the first moment on."""

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    def test_own(self) -> None:
        """Without a group it is the owner's alone. It listens, without blocking or inheritance."""
        opened = self.open()
        self.assertEqual(self.mode(), 0o600)
        self.assertEqual(self.connect(), "connected")
        self.assertFalse(opened.getblocking() or opened.get_inheritable())

    def test_group(self) -> None:
        """With a group it is that group's as well."""
        self.open(os.getegid())
        self.assertEqual((self.mode(), self.path.stat().st_gid), (0o660, os.getegid()))

    def test_first_moment(self) -> None:
        """Before the group has it, it has mode 0600, and nobody is let in, the owner included."""
        seen: list[object] = []
        chown = os.chown

        def see(path: Path, uid: int, gid: int) -> None:
            seen.extend((self.mode(), self.connect()))
            chown(path, uid, gid)

        self.patch(os, "chown", see)
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.open(os.getegid())
        self.assertEqual(seen, [0o600, "ECONNREFUSED"])
        self.assertEqual(os.umask(0), 0)

    def test_users(self) -> None:
        """The kernel keeps other users out, unless they are in the group."""
        needs.root()
        self.open()
        self.assertEqual(as_user(USER, [GROUP], self.connect), "EACCES")
        self.path.unlink()
        self.open(GROUP)
        self.assertEqual(as_user(USER, [GROUP], self.connect), "connected")
        self.assertEqual(as_user(OTHER, [], self.connect), "EACCES")

    def test_foreign_group(self) -> None:
        """A group that the agent's user cannot give is refused, and nothing is left."""
        needs.root()
        os.chown(self.directory, USER, USER)
        text = as_user(USER, [], lambda: f"opened {open_control(self.path, GROUP)}")
        self.assertIn(f"to the group {GROUP}: Operation not permitted", text)
        self.assertIn("name another one in control_group", text)
        self.assertFalse(self.path.exists())

    def test_no_directory(self) -> None:
        """A directory that is missing is told."""
        text = self.refused(self.directory / "missing" / "control.sock")
        self.assertIn("missing/control.sock: No such file or directory", text)
        self.assertIn("another path in control", text)

    def test_no_right(self) -> None:
        """A directory that the agent's user cannot write to is told, with that user."""
        needs.root()
        text = as_user(USER, [], lambda: f"opened {open_control(self.path, None)}")
        self.assertIn("Permission denied", text)
        self.assertIn(f"see that the directory {self.directory} is there and user {USER}", text)

    def test_too_long(self) -> None:
        """A path has to fit into the address of a socket, to the last byte."""
        length = LONGEST_PATH - len(os.fsencode(self.directory)) - 1
        self.path = self.directory / ("x" * length)
        self.open()
        self.assertEqual(self.connect(), "connected")
        text = self.refused(self.directory / ("x" * (length - 1) + "é"))
        self.assertIn("room for 107 bytes; name a shorter one in control", text)


class WhatIsThereTests(ControlSocketTestCase):
    """A dead agent's socket gives way, and nothing else does."""

    def test_dead(self) -> None:
        """A socket that nobody listens on is replaced."""
        self.listen().close()
        self.assertEqual(self.connect(), "ECONNREFUSED")
        self.open()
        self.assertEqual(self.connect(), "connected")

    def test_live(self) -> None:
        """A socket that somebody listens on is refused, and left as it is."""
        live = self.open()
        inode = self.path.stat().st_ino
        self.assertIn(f"somebody listens on the control socket {self.path}", self.refused())
        self.assertEqual(self.path.stat().st_ino, inode)
        live.accept()[0].close()

    def test_busy(self) -> None:
        """One that is too busy to accept is alive."""
        self.listen()
        waiting = socket.socket(socket.AF_UNIX)
        self.addCleanup(waiting.close)
        waiting.connect(str(self.path))
        self.assertEqual(self.connect(), "EAGAIN")
        self.assertIn("somebody listens", self.refused())

    def test_another_kind(self) -> None:
        """A socket of another kind is refused, and left as it is."""
        self.listen(socket.SOCK_DGRAM)
        self.assertIn("cannot tell whether somebody listens", self.refused())
        self.assertTrue(self.path.is_socket())

    def test_no_socket(self) -> None:
        """A file, a directory and a link are refused, and left as they are."""
        self.path.write_text("precious")
        self.assertIn("what is there is not a socket", self.refused())
        self.assertEqual(self.path.read_text(), "precious")
        self.path.unlink()
        self.path.mkdir()
        self.assertIn("what is there is not a socket", self.refused())
        self.path.rmdir()
        self.listen().close()
        target = self.path.rename(self.directory / "target")
        self.path.symlink_to(target)
        self.assertIn("what is there is not a socket", self.refused())
        self.assertTrue(self.path.is_symlink() and target.is_socket())

    def test_meanwhile(self) -> None:
        """Who comes while another one is opening it is refused."""
        with (self.directory / "control.sock.lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.assertIn("another agent is opening the control socket", self.refused())
        self.open()

    def test_at_every_step(self) -> None:
        """Of two that find a dead agent's socket, the second is refused at every step of the first.

        At the first step the path is about to be removed, at the second one the new socket is
        bound and does not listen yet.
        """
        self.listen().close()
        steps: list[str] = []

        def intrude(owner: object, name: str) -> None:
            step = getattr(owner, name)

            def intruded(*arguments: object, **more: object) -> None:
                restored.restore()
                steps.append(f"{name}: {self.refused()}")
                step(*arguments, **more)

            restored = self.patch(owner, name, intruded)

        intrude(os, "unlink")
        intrude(os, "chown")
        self.open(os.getegid())
        why = f"another agent is opening the control socket {self.path}"
        self.assertEqual(
            [step.partition(" at ")[0] for step in steps],
            [
                f"unlink: {why}",
                f"chown: {why}",
            ],
        )
        self.assertEqual(self.connect(), "connected")


class CloseTests(ControlSocketTestCase):
    """The path goes with the socket, unless it has become another's."""

    def test_removed(self) -> None:
        """Closing removes the path, and there is room for the next agent."""
        close_control(self.open(), self.path)
        self.assertFalse(self.path.exists())
        self.open()

    def test_replaced(self) -> None:
        """What another one has put there stays."""
        first = self.open()
        # Kept, so that its number is not given to the next one.
        self.path.rename(self.directory / "moved")
        self.open()
        close_control(first, self.path)
        self.assertEqual(self.connect(), "connected")

    def test_missing(self) -> None:
        """A path that is gone already is no error."""
        opened = self.open()
        self.path.unlink()
        close_control(opened, self.path)
        self.assertEqual(opened.fileno(), -1)

    def test_from_elsewhere(self) -> None:
        """A socket that somebody else has opened is closed, and its path stays."""
        close_control(self.listen(), self.path)
        self.assertEqual(self.connect(), "ECONNREFUSED")


class LetReachTests(ControlSocketTestCase):
    """Others pass through the agent's own directory, and no more."""

    def reach(self, mode: int) -> int:
        self.directory.chmod(mode)
        let_reach(self.directory)
        return stat.S_IMODE(self.directory.stat().st_mode)

    def test_own(self) -> None:
        """The right to pass is added, and nothing is taken away."""
        self.assertEqual([oct(self.reach(mode)) for mode in (0o700, 0o750)], ["0o711", "0o751"])

    def test_reached(self) -> None:
        """Only with it does the group reach the socket; the directory stays unlisted."""
        needs.root()
        self.open(GROUP)
        self.directory.chmod(0o700)
        self.assertEqual(as_user(USER, [GROUP], self.connect), "EACCES")
        let_reach(self.directory)
        self.assertEqual(as_user(USER, [GROUP], self.connect), "connected")
        said = as_user(USER, [GROUP], lambda: str(os.listdir(self.directory)))  # noqa: PTH208 - one call, one error
        self.assertIn("PermissionError", said)

    def test_another_users(self) -> None:
        """Another user's directory is refused, and left as it is."""
        needs.root()
        os.chown(self.directory, USER, USER)
        self.directory.chmod(0o700)
        error = self.assertRaises(StartError, let_reach, self.directory)
        self.assertIn(f"{self.directory} belongs to user {USER}", str(error))
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)

    def test_missing(self) -> None:
        """A directory that is gone is told."""
        error = self.assertRaises(StartError, let_reach, self.directory / "missing")
        self.assertIn("missing: No such file or directory", str(error))


class PeerTests(ControlSocketTestCase):
    """The kernel tells who connected."""

    def test_own(self) -> None:
        """It is this process."""
        one_end, other_end = socket.socketpair()
        with one_end, other_end:
            self.assertEqual(peer_of(one_end), Peer(uid=os.geteuid(), pid=os.getpid()))

    def test_another(self) -> None:
        """It is another process of another user, whatever its number, even when it has ended."""
        needs.root()
        opened = self.open()
        self.path.chmod(0o666)
        highest = 2**32 - 2
        for uid in (USER, highest):
            pid = as_user(uid, [], lambda: f"{os.getpid() if self.connect() else 0}")
            with opened.accept()[0] as accepted:
                self.assertEqual(peer_of(accepted), Peer(uid=uid, pid=int(pid)))
