"""The users that programs run as, looked up while looking up is still safe."""

from __future__ import annotations

import os
import pwd

import attrs


@attrs.frozen
class Account:
    """A user that the configuration names, looked up once when that is read.

    :param name: the login name.
    :param uid: the user's number.
    :param gid: the primary group's number.
    :param groups: the numbers of all groups, the primary one included.
    :param home: the home directory.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def look_up(name: str) -> Account:
    """Find a user and all of its groups in the system's databases.

    :param name: the login name.
    :return: the user.
    :raises KeyError: where there is no such user.
    """
    try:
        found = pwd.getpwnam(name)
    except UnicodeEncodeError:
        # A name that the system's encoding cannot even write is nobody's.
        raise KeyError(name) from None
    groups = os.getgrouplist(found.pw_name, found.pw_gid)
    return Account(found.pw_name, found.pw_uid, found.pw_gid, tuple(groups), found.pw_dir)


def own() -> Account:
    """Find the user that the agent itself runs as.

    :return: the user; one that the system's databases do not know is named by its number.
    """
    uid, gid, groups = os.geteuid(), os.getegid(), tuple(os.getgroups())
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, gid, groups, "/")
    return Account(found.pw_name, uid, gid, groups, found.pw_dir)
