"""The directories that the agent keeps its things in."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.errors import StartError
from xohook.host.directories import judge, prepare, runtime_directory, state_directory

NO_LOGINS = Path("/proc/self/no-logins")


class StateDirectoryTests(SynchronousTestCase):
    """Where what outlives a boot is kept."""

    def test_order(self) -> None:
        """The variable of systemd wins over root's place, XDG's over the home's."""
        for environ, uid, expected in [
            ({"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": "/c"}, 0, "/a"),
            ({"STATE_DIRECTORY": "/a", "HOME": "/h"}, 7, "/a"),
            ({"XDG_STATE_HOME": "/c", "HOME": "/h"}, 0, "/var/lib/xohook"),
            ({"XDG_STATE_HOME": "/c", "HOME": "/h"}, 7, "/c/xohook"),
            ({"HOME": "/h"}, 7, "/h/.local/state/xohook"),
            ({}, 7, "/var/lib/xohook-7"),
        ]:
            self.assertEqual(state_directory(environ, uid), Path(expected))

    def test_not_absolute(self) -> None:
        """Values that are empty or relative are as good as none."""
        environ = {"STATE_DIRECTORY": "", "XDG_STATE_HOME": "c", "HOME": "h"}
        self.assertEqual(state_directory(environ, 7), Path("/var/lib/xohook-7"))


class RuntimeDirectoryTests(SynchronousTestCase):
    """Where what ends with the boot is kept."""

    def test_order(self) -> None:
        """The variable of systemd wins over root's place, XDG's over the home."""
        for environ, uid, expected in [
            ({"RUNTIME_DIRECTORY": "/a:/b", "XDG_RUNTIME_DIR": "/c"}, 0, "/a"),
            ({"XDG_RUNTIME_DIR": "/c"}, 0, "/run/xohook"),
            ({"XDG_RUNTIME_DIR": "/c"}, 7, "/c/xohook"),
            ({"XDG_RUNTIME_DIR": "c"}, 7, "/run/xohook-7"),
            ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, 7, "/s/xohook/run"),
            ({"HOME": "/h"}, 7, "/h/.local/state/xohook/run"),
            ({"HOME": "/h", "STATE_DIRECTORY": "/a"}, 7, "/h/.local/state/xohook/run"),
            ({}, 7, "/run/xohook-7"),
        ]:
            self.assertEqual(runtime_directory(environ, uid, NO_LOGINS), Path(expected))

    def test_login(self) -> None:
        """What a login has made for the user is found without the variable; another's is not."""
        logins = Path(self.mktemp()).absolute()
        uid = os.geteuid() or 7
        own = logins / str(uid)
        own.mkdir(parents=True)
        if os.geteuid() == 0:
            self.assertEqual(runtime_directory({}, uid, logins), Path("/run/xohook-7"))
            os.chown(own, uid, uid)
        self.assertEqual(runtime_directory({"HOME": "/h"}, uid, logins), own / "xohook")


class PrepareTests(SynchronousTestCase):
    """Making a directory ready."""

    def setUp(self) -> None:
        self.top = Path(self.mktemp()).absolute()
        self.top.mkdir(mode=0o755)
        self.directory = self.top / "a/b"
        self.uid = os.geteuid()

    def refused(self, uid: int) -> str:
        """Have the directory refused, and tell the words."""
        with self.assertRaises(StartError) as caught:
            prepare(self.directory, uid)
        self.assertIn(str(self.directory), str(caught.exception))
        return str(caught.exception)

    def test_made(self) -> None:
        """A directory that is not there is made with its parents, for its owner alone."""
        prepare(self.directory, self.uid)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)

    def test_parents(self) -> None:
        """Its parents that are missing are never open to others' writing, whatever the umask."""
        for mask, mode in ((0o000, 0o755), (0o022, 0o755), (0o077, 0o700)):
            self.directory = self.top / f"{mask:o}/a/b"
            before = os.umask(mask)
            try:
                prepare(self.directory, self.uid)
            finally:
                os.umask(before)
            modes = [each.stat().st_mode & 0o777 for each in self.directory.parents[:2]]
            self.assertEqual(modes, [mode, mode])
            self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)

    def test_name_too_long(self) -> None:
        """A name that no filesystem takes is refused."""
        self.directory = self.top / ("x" * 300)
        self.assertIn("cannot be made: File name too long", self.refused(self.uid))

    def test_there_already(self) -> None:
        """A directory that others may only read is taken as it is."""
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o755)
        prepare(self.directory, self.uid)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o755)

    def test_own_link(self) -> None:
        """A symbolic link of one's own to such a directory is followed."""
        (self.top / "elsewhere").mkdir(mode=0o700)
        self.directory.parent.mkdir()
        self.directory.symlink_to(self.top / "elsewhere")
        prepare(self.directory, self.uid)

    def test_file(self) -> None:
        """A file in its place is refused."""
        self.directory.parent.mkdir()
        self.directory.touch()
        self.assertIn("is not a directory", self.refused(self.uid))

    def test_file_above(self) -> None:
        """A file in a parent's place is refused."""
        self.directory.parent.touch()
        self.assertIn("cannot be made: Not a directory", self.refused(self.uid))

    def test_others_write(self) -> None:
        """A directory that the group or others may write to is refused."""
        self.directory.mkdir(parents=True)
        for mode in (0o770, 0o702):
            self.directory.chmod(mode)
            self.assertIn(f"(mode {mode:04o})", self.refused(self.uid))

    def test_anothers(self) -> None:
        """A directory of another user's is refused to root, too, with the command for it."""
        needs.root()
        self.directory.mkdir(mode=0o700, parents=True)
        os.chown(self.directory, 1234, 1234)
        text = self.refused(0)
        self.assertIn(f"{self.directory} belongs to user 1234, and the agent is user 0", text)
        self.assertIn(f"'chown 0 {self.directory}'", text)

    def test_roots(self) -> None:
        """A user who cannot write to root's directory is told so."""
        needs.root()
        self.directory.mkdir(mode=0o700, parents=True)
        text = self.refused(1234)
        self.assertIn("belongs to root, and the agent is user 1234", text)
        self.assertIn(f"'chown 1234 {self.directory}'", text)

    def test_judged_only(self) -> None:
        """A directory that is only judged is not made, and judged alike where it is there."""
        judge(self.directory, self.uid)
        self.assertFalse(self.directory.parent.exists())
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o770)
        self.assertIn(
            "(mode 0770)", str(self.assertRaises(StartError, judge, self.directory, self.uid))
        )

    def test_anothers_link(self) -> None:
        """A symbolic link that another user made is refused, even to a directory of one's own."""
        needs.root()
        (self.top / "elsewhere").mkdir(mode=0o700)
        self.directory.parent.mkdir()
        self.directory.symlink_to(self.top / "elsewhere")
        os.chown(self.directory, 1234, 1234, follow_symlinks=False)
        self.assertIn("symbolic link of user 1234", self.refused(0))
