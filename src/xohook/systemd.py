"""What systemd is told: sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


def notify(state: str, environ: Mapping[str, str]) -> None:
    """Tell systemd of the agent's state, where it is listening.

    :param state: an assignment of sd_notify(3), for instance ``READY=1``.
    :param environ: the environment, whose ``NOTIFY_SOCKET`` names systemd's socket.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    # Whoever set the variable may have gone; then there is nobody left to tell.
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.sendto(state.encode(), address)
