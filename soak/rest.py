"""Processes that come to rest, and what they take up then."""

from __future__ import annotations

import contextlib

from tests.integration.agent import eventually
from tests.integration.footprint import Footprint

#: Seconds that a process has to come to rest.
PATIENCE = 5.0


def footprint_at_rest(pid: int, files: int | None) -> Footprint:
    """Look at a process once it is at rest.

    It notices a closed connection a moment after that was closed. What does not come to rest is
    taken as it is, and will be found to have grown.

    :param pid: its number.
    :param files: how many files were open when it was at rest before; None at first.
    :return: what it takes up.
    """

    def at_rest() -> bool:
        taken = Footprint.of(pid)
        return taken.children == 0 and (files is None or taken.files <= files)

    with contextlib.suppress(AssertionError):
        eventually(at_rest, "the process is at rest", patience=PATIENCE)
    return Footprint.of(pid)
