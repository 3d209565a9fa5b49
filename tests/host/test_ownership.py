"""Tests for :mod:`xohook.host.ownership`: whom a path, a directory and a file are trusted from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.errors import StartError
from xohook.host import ownership

OTHER = 47_101


class JudgedTestCase(SynchronousTestCase):
    """A directory of one's own with a file in it."""

    def setUp(self) -> None:
        self.uid = os.geteuid()
        self.top = Path(self.mktemp()).absolute()
        self.directory = self.top / "parent" / "directory"
        self.directory.mkdir(mode=0o755, parents=True)
        self.file = self.directory / "file"
        self.file.write_text("content")
        self.file.chmod(0o600)
        for each in self.directory.parents[:2]:
            each.chmod(0o755)

    def read(self) -> bytes:
        return ownership.read(self.file, self.uid)[0]

    def refused(self) -> str:
        return str(self.assertRaises(StartError, self.read))


class PathTests(JudgedTestCase):
    """The way to a file."""

    def test_good(self) -> None:
        """A file that nobody else can change is read."""
        self.assertEqual(self.read(), b"content")

    def test_open_parent(self) -> None:
        """A parent that others may write to is refused, with the command that repairs it."""
        parent = self.directory.parent
        for mode in (0o757, 0o777):
            parent.chmod(mode)
            text = self.refused()
            self.assertIn(f"Others may write to {parent} (mode {mode:04o})", text)
            self.assertIn(f"'chmod go-w {parent}'", text)

    def test_sticky_parent(self) -> None:
        """In a sticky parent others cannot exchange what is one's own."""
        self.directory.parent.chmod(0o1777)
        self.assertEqual(self.read(), b"content")

    def test_sticky_directory(self) -> None:
        """The directory itself has to be closed to others' files all the same."""
        self.directory.chmod(0o1777)
        held = self.assertRaises(StartError, ownership.open_directory, self.directory, self.uid)
        self.assertIn(f"Others may write to {self.directory}", str(held))

    def test_anothers_parent(self) -> None:
        """A parent of another user's is refused, for that user can rename what is in it."""
        needs.root()
        parent = self.directory.parent
        os.chown(parent, OTHER, OTHER)
        text = self.refused()
        self.assertIn(f"{parent} belongs to user {OTHER}", text)
        self.assertIn(f"'chown 0 {parent}'", text)

    def test_private_group(self) -> None:
        """A parent that its owner's private group may write to is taken, another group's is not."""
        needs.root()
        parent = self.directory.parent
        parent.chmod(0o775)
        self.assertEqual(self.read(), b"content")
        os.chown(parent, 0, OTHER)
        self.assertIn("(mode 0775)", self.refused())

    def test_link(self) -> None:
        """One's own link is followed, relative or not; another user's is refused."""
        for target in (self.directory, Path("../parent/./directory"), Path("parent/directory")):
            link = self.top / "link"
            if target.parts[0] == "..":
                link = self.directory.parent / "link"
            link.symlink_to(target)
            self.assertEqual(ownership.read(link / "file", self.uid)[0], b"content")
            if self.uid == 0:
                os.chown(link, OTHER, OTHER, follow_symlinks=False)
                error = self.assertRaises(StartError, ownership.read, link / "file", 0)
                self.assertIn(f"{link} is a symbolic link of user {OTHER}", str(error))
            link.unlink()

    def test_loop(self) -> None:
        """Links that lead in a circle are told, and end the search."""
        link = self.top / "link"
        link.symlink_to("link")
        error = self.assertRaises(OSError, ownership.read, link, self.uid)
        self.assertIn("Too many levels of symbolic links", str(error))

    def test_link_is_judged(self) -> None:
        """Where a link leads to is judged like any other way."""
        self.directory.parent.chmod(0o757)
        link = self.top / "link"
        link.symlink_to(self.directory)
        error = self.assertRaises(StartError, ownership.read, link / "file", self.uid)
        self.assertIn(f"Others may write to {self.directory.parent}", str(error))

    def test_nothing_left_open(self) -> None:
        """Neither success nor refusal leaves a descriptor open."""
        before = len(list(Path("/proc/self/fd").iterdir()))
        self.read()
        self.directory.parent.chmod(0o757)
        self.refused()
        self.assertEqual(len(list(Path("/proc/self/fd").iterdir())), before)


class FileTests(JudgedTestCase):
    """The file itself."""

    def test_others_write(self) -> None:
        """A file that its group or others may write to is refused."""
        for mode in (0o620, 0o602):
            self.file.chmod(mode)
            text = self.refused()
            self.assertIn(f"Others may write to {self.file} (mode {mode:04o})", text)
            self.assertIn(f"'chmod go-w {self.file}'", text)

    def test_anothers(self) -> None:
        """A file of another user's is refused, root's is taken, but not by root for that user."""
        needs.root()
        os.chown(self.file, OTHER, OTHER)
        text = self.refused()
        self.assertIn(f"{self.file} belongs to user {OTHER}, and the agent is user 0", text)
        self.assertIn(f"'chown 0 {self.file}'", text)
        for each in (self.directory, self.directory.parent, self.top):
            os.chown(each, OTHER, OTHER)
        os.chown(self.file, 0, 0)
        with self.assertRaisesRegex(
            StartError, f"belongs to user 0, and the agent is user {OTHER}"
        ):
            ownership.read(self.file, OTHER)
        self.patch(os, "geteuid", lambda: OTHER)
        self.assertEqual(ownership.read(self.file, OTHER)[0], b"content")

    def test_no_file(self) -> None:
        """What is no regular file is named, and never waited for."""
        self.file.unlink()
        os.mkfifo(self.file, 0o600)
        self.assertIn(f"{self.file} is a FIFO, and must be a regular file", self.refused())
        given = self.assertRaises(StartError, ownership.read_given, self.file)
        self.assertIn("is a FIFO", str(given))
        self.file.unlink()
        self.file.mkdir()
        self.assertRaises(IsADirectoryError, self.read)

    def test_device(self) -> None:
        """A device is not even opened."""
        needs.root()
        self.file.unlink()
        os.mknod(self.file, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        self.assertIn(f"{self.file} is a device", self.refused())

    def test_too_long(self) -> None:
        """A file of a size that the agent never writes is refused, and not read to its end."""
        os.truncate(self.file, ownership.LONGEST)
        self.assertEqual(len(self.read()), ownership.LONGEST)
        os.truncate(self.file, 2**40)
        self.assertIn(f"{self.file} is longer than 4 MiB", self.refused())

    def test_given(self) -> None:
        """The administrator's file may be anybody's, but not open to everybody's writing."""
        self.file.chmod(0o660)
        self.assertEqual(ownership.read_given(self.file)[0], b"content")
        self.file.chmod(0o602)
        error = self.assertRaises(StartError, ownership.read_given, self.file)
        self.assertIn(f"'chmod o-w {self.file}'", str(error))


class UserTests(JudgedTestCase):
    """Whom a command acts for."""

    def test_owner(self) -> None:
        """Run by root it acts for the directory's owner, run by a user for that user."""
        needs.root()
        os.chown(self.directory, OTHER, OTHER)
        self.assertEqual(ownership.user_of(self.directory, 0), OTHER)
        self.assertEqual(ownership.user_of(self.directory, 7), 7)
        self.assertEqual(ownership.user_of(self.directory / "missing", 0), 0)
