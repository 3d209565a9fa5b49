"""The users that programs run as."""

from __future__ import annotations

import os
import pwd

from twisted.trial.unittest import SynchronousTestCase

from xohook.host.accounts import look_up, own


class LookUpTests(SynchronousTestCase):
    """Finding a user by name."""

    def test_found(self) -> None:
        """A user is found with its numbers, its home and all of its groups."""
        entry = pwd.getpwuid(0)
        found = look_up(entry.pw_name)
        self.assertEqual((found.name, found.uid, found.gid), (entry.pw_name, 0, entry.pw_gid))
        self.assertEqual(found.home, entry.pw_dir)
        self.assertEqual(found.groups, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))

    def test_unknown(self) -> None:
        """Whom the system does not know, or cannot even write, is nobody."""
        for name in ["no-such-user", "\udc00\ud800"]:
            with self.assertRaises(KeyError, msg=name):
                look_up(name)


class OwnTests(SynchronousTestCase):
    """Finding the agent's own user."""

    def test_known(self) -> None:
        """The agent's own user is the one that this process runs as."""
        found = own()
        self.assertEqual((found.uid, found.gid), (os.geteuid(), os.getegid()))
        self.assertEqual(found.groups, tuple(os.getgroups()))

    def test_nameless(self) -> None:
        """A user that the system's databases do not know is named by its number."""
        taken = {entry.pw_uid for entry in pwd.getpwall()}
        nobody = next(uid for uid in range(60_000, 65_000) if uid not in taken)
        self.patch(os, "geteuid", lambda: nobody)
        found = own()
        self.assertEqual((found.name, found.uid, found.home), (str(nobody), nobody, "/"))
