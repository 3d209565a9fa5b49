"""An application that notes what it is asked for: ``python -m soak.app CONTROL JOURNAL``.

It registers as ``soak``, and ends when its standard input does.
"""

from __future__ import annotations

import logging
import os
import sys

from xohook.client import Freeze, Registration, Thaw


def main() -> None:
    """Register, and stay until standard input ends."""
    control, journal = sys.argv[1:]
    # Each restart of the agent is a warning; errors are still told.
    logging.disable(logging.WARNING)
    notes = os.open(journal, os.O_WRONLY | os.O_APPEND)

    def freeze(asked: Freeze) -> None:
        os.write(notes, f"app freeze {asked.window}\n".encode())

    def thaw(asked: Thaw) -> None:
        os.write(notes, f"app thaw {asked.window}\n".encode())

    with Registration("soak", freeze=freeze, thaw=thaw, control=control):
        sys.stdin.read()


if __name__ == "__main__":
    main()
