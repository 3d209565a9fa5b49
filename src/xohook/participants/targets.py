"""How the agent names filesystems to their guard, and the guard to the agent."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import attrs

from xohook.errors import ParticipantError
from xohook.host.mounts import Mount
from xohook.processes.guards.freezer import DESCRIPTORS


@attrs.frozen
class Identity:
    """A filesystem that a guard has opened, as the guard's own mount table had it.

    :param point: where it is mounted.
    :param device: the numbers of its device, ``8:1`` for instance; empty where a record of an older
        release does not have them.
    :param kind: its kind, ``ext4`` for instance.
    :param source: what is mounted, a device's file for instance.
    """

    point: str
    device: str = ""
    kind: str = ""
    source: str = ""

    @classmethod
    def from_guard(cls, described: str) -> Identity:
        """Read what a guard describes.

        :param described: as :meth:`xohook.processes.guards.mounted.Mounted.describe` has it.
        :return: the filesystem.
        """
        device, _, kind, point, source = described.split(",")
        return cls(_text(point), device, kind, _text(source))


def fresh(mount: Mount) -> str:
    """Name a filesystem for the guard that is to freeze it.

    :param mount: the mount.
    :return: the target.
    """
    return f"fresh,{_digits(str(mount.point))},{mount.device},{mount.id}"


def fresh_at(point: str) -> str:
    """Name whatever is mounted on a path for the guard that is to freeze it.

    :param point: the path.
    :return: the target.
    """
    return f"fresh,{_digits(point)},,0"


def found(identity: Identity, mount: Mount | None) -> str:
    """Name a filesystem that may be frozen for the guard that is to thaw it.

    :param identity: the filesystem.
    :param mount: a mount of it that a path leads to; None where there is none.
    :return: the target.
    """
    if mount is not None:
        return f"found,{_digits(str(mount.point))},{identity.device}"
    if not identity.device:
        return f"found,{_digits(identity.point)},"
    return f"device,{_digits(identity.source)},{identity.kind},{identity.device}"


def passed_in(identities: Sequence[Identity]) -> list[str]:
    """Name filesystems by descriptors that a guard has from the agent.

    :param identities: the filesystems; their descriptors begin with
        :data:`~xohook.processes.guards.freezer.DESCRIPTORS`.
    :return: the targets.
    """
    return [f"fd,{DESCRIPTORS + index},{each.device}" for index, each in enumerate(identities)]


def receive(agent: socket.socket, count: int) -> list[int]:
    """Receive the descriptors that a guard has passed.

    :param agent: the agent's end, non-blocking.
    :param count: how many have been passed.
    :return: the descriptors; no program that the agent runs inherits them.
    :raises ParticipantError: where this process cannot have so many files.
    """
    descriptors: list[int] = []
    try:
        while len(descriptors) < count:
            _, some, _, _ = socket.recv_fds(agent, 1, count, socket.MSG_CMSG_CLOEXEC)
            descriptors += some
    except OSError as error:
        for each in descriptors:
            os.close(each)
        raise ParticipantError(
            f"the agent cannot open {count} more files: raise LimitNOFILE of its unit"
        ) from error
    return descriptors


def _digits(text: str) -> str:
    return os.fsencode(text).hex()


def _text(digits: str) -> str:
    return os.fsdecode(bytes.fromhex(digits))
