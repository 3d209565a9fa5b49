"""Tests for what ``xohook check`` says of apps and their socket."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from pathlib import Path

from tests.integration.command import CommandTestCase


class CheckAppsTestCase(CommandTestCase):
    """Runs ``xohook check`` as a user who can give the socket to two groups."""

    def setUp(self) -> None:
        super().setUp()
        self.uid = os.geteuid()
        self.someone = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, self.uid))
        self.name = self.someone.pw_name
        own = os.getgrouplist(self.name, self.someone.pw_gid)
        self.group = grp.getgrgid(self.someone.pw_gid).gr_name
        other = next(entry for entry in grp.getgrall() if entry.gr_gid not in own)
        self.other = other.gr_name
        self.patch(os, "getgroups", lambda: [self.someone.pw_gid, other.gr_gid])

    def check(self, *lines: str, options: tuple[str, ...] = (), good: bool = True) -> str:
        """Run it on a configuration of these sections, with options of the agent's own."""
        self.configure(*options, sections="\n".join(lines))
        return self.run_command("check", good=good).output


class SocketTests(CheckAppsTestCase):
    """The place of the control socket, and its group."""

    def setUp(self) -> None:
        super().setUp()
        # Not mktemp(): a UNIX socket's path has room for 107 bytes (unix(7)).
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.place = Path(held.name)
        self.control = self.place / "control"
        self.option = f"control = {self.control}"

    def test_runtime_directory(self) -> None:
        """A socket in a runtime directory that is still to be made is right."""
        said = self.check()
        self.assertIn("ok       control = /dev/shm/xohook-test-not-made/control.sock", said)

    def test_path(self) -> None:
        """A socket at a path of its own is right where it can be made, and it is not made."""
        self.assertIn(f"ok       {self.option}\n", self.check(options=(self.option,)))
        self.assertFalse(self.control.exists())

    def test_no_socket(self) -> None:
        """Where there is to be none nothing is said of it."""
        self.assertNotIn("control =", self.check(options=("control = no",)))

    def test_no_directory(self) -> None:
        """A directory that is not there, or is none, is an error: it is not made."""
        said = self.check(options=(f"{self.option}/x",), good=False)
        self.assertIn(f"error    {self.option}/x: {self.control}: No such file", said)
        self.control.write_text("")
        said = self.check(options=(f"{self.option}/x",), good=False)
        self.assertIn(f"{self.option}/x: nothing can be made in {self.control}; name", said)

    def test_open_directory(self) -> None:
        """A directory that others may write to is an error, unless it is sticky like /tmp."""
        self.place.chmod(0o777)
        said = self.check(options=(self.option,), good=False)
        self.assertIn(f"error    {self.option}: Others may write to {self.place} (mode 0777)", said)
        self.assertIn(f"chmod go-w {self.place}", said)
        self.place.chmod(0o1777)
        self.assertIn(f"ok       {self.option}\n", self.check(options=(self.option,)))

    def test_closed_directory(self) -> None:
        """A directory that the group's members may not enter is an error."""
        options = (self.option, f"control_group = {self.other}")
        self.place.chmod(0o700)
        said = self.check(options=options, good=False)
        self.assertIn(f"error    {self.option}: members of control_group may not enter", said)
        self.place.chmod(0o711)
        self.assertIn(f"ok       {self.option}\n", self.check(options=options))

    def test_frozen(self) -> None:
        """A path on a filesystem that a participant freezes is an error."""
        freezer = ("[command:disk]", f"freeze = fsfreeze -f {self.place}", "thaw = true")
        said = self.check(*freezer, options=(self.option,), good=False)
        self.assertIn(f"error    {self.option}: it lies on the filesystem of {self.place}", said)

    def test_in_the_way(self) -> None:
        """A file at the socket's path is an error."""
        self.control.write_text("")
        said = self.check(options=(self.option,), good=False)
        self.assertIn(f"error    {self.option}: what is there is no socket; move it away", said)

    def test_group_of_others(self) -> None:
        """An agent that is not root cannot give the socket to a group that it is not in."""
        group = f"control_group = {self.group}"
        self.assertIn("ok       control = ", self.check(options=(group,)))
        # Root can give it to any group.
        self.patch(os, "geteuid", lambda: self.uid or 12345)
        self.patch(os, "getegid", lambda: 12345)
        self.patch(os, "getgroups", lambda: [12345])
        said = self.check(options=(group,), good=False)
        self.assertIn(f"error    {group}: the agent's user is not in it", said)
        self.patch(os, "getgroups", lambda: [self.someone.pw_gid])
        self.assertIn("ok       control = ", self.check(options=(group,)))


class AppTests(CheckAppsTestCase):
    """What the configuration says of apps."""

    def test_good(self) -> None:
        """Each app is named with what is asked of it."""
        said = self.check("[app:a]", "[app:b]", "required = no", "user = root")
        self.assertIn("ok       [app:a]: has to register\n", said)
        self.assertIn("ok       [app:b]: may register, as root\n", said)

    def test_no_group(self) -> None:
        """A user who cannot connect is an error, or a warning where the app may be missing."""
        section = "[app:a]", f"user = {self.name}"
        said = self.check(*section, good=False)
        problem = f"[app:a] user = {self.name}: cannot connect to the control socket, which only"
        self.assertIn(f"error    {problem}", said)
        self.assertIn(f"warning  {problem}", self.check(*section, "required = no"))

    def test_group(self) -> None:
        """A member of the group may connect; anybody else is told how to become one."""
        section = "[app:a]", f"user = {self.name}"
        said = self.check(*section, options=(f"control_group = {self.group}",))
        self.assertIn(f"ok       [app:a]: has to register, as {self.name}\n", said)
        said = self.check(*section, options=(f"control_group = {self.other}",), good=False)
        self.assertIn(f"run: usermod -aG {self.other} {self.name}, and start the app again", said)

    def test_own_user(self) -> None:
        """The agent's own user needs no group."""
        # Root needs no group either way.
        uid = self.uid or self.someone.pw_uid
        self.patch(os, "geteuid", lambda: uid)
        name = pwd.getpwuid(uid).pw_name
        said = self.check("[app:a]", f"user = {name}")
        self.assertIn(f"ok       [app:a]: has to register, as {name}\n", said)

    def test_no_socket(self) -> None:
        """An app that has to register and cannot is an error; one that may, a warning."""
        options = ("control = no",)
        said = self.check("[app:a]", options=options, good=False)
        self.assertIn("error    [app:a] required = yes: with control = no, no app can", said)
        said = self.check("[app:a]", "required = no", options=options)
        self.assertIn("warning  [app:a] required = no: with control = no, no app can", said)

    def test_order(self) -> None:
        """An app that is ordered after a filesystem is warned of, by the default order too."""
        filesystem = "[filesystem:x]", "mount = /proc", "order = 10"
        said = self.check(*filesystem, "[app:a]", "[app:b]", "order = 5", good=False)
        self.assertIn("warning  [app:a] order = 20: it is frozen after [filesystem:x] (10)", said)
        self.assertNotIn("[app:b] order", said)
