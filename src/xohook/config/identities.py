"""The users and groups that an option may name: a further converter for each, as in ``values``."""

from __future__ import annotations

import grp
import os

from xohook.config.values import RefusedError
from xohook.host.accounts import Account, look_up


def user(text: str) -> Account:
    """Read a user.

    :param text: a login name.
    :return: the user.
    :raises RefusedError: where there is no such user.
    """
    try:
        return look_up(text)
    except KeyError:
        raise RefusedError(
            f"there is no user {text!r}", "a login name that 'getent passwd' lists"
        ) from None


def account(text: str) -> Account | None:
    """Read the user that a program runs as.

    :param text: a login name.
    :return: the user; None where it is the agent's own already and the agent is not root.
    :raises RefusedError: where there is no such user, or the agent may not become it.
    """
    found = user(text)
    own = os.geteuid()
    if own == 0:
        return found
    if found.uid != own:
        raise RefusedError(
            f"only root may run programs as {text!r}, and the agent is user {own}",
            "run the agent as root, or leave this out",
        )
    return None


def group(text: str) -> int:
    """Read a group.

    :param text: the group's name.
    :return: its number.
    :raises RefusedError: where there is no such group.
    """
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, UnicodeEncodeError):
        # What the system's encoding cannot even write is no group's name.
        raise RefusedError(
            f"there is no group {text!r}",
            "a name that 'getent group' lists; 'groupadd --system NAME' makes one",
        ) from None
