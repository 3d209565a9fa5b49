"""Prints what windows and apps cost, and how soon all is let go by a thaw or after a death."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from bench import apps, deaths, thaws, windows

#: The runtime directory is on tmpfs wherever an agent runs for good (``/run``), so it is here; and
#: the images of disks are, so that no other disk's slowness is measured.
MEMORY = "/dev/shm"  # noqa: S108 - a fresh directory is made in it.


def main() -> None:
    """Measure all there is to measure, and print a table of each."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="windows to measure (default 300)")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="xohook-bench-", dir=MEMORY) as name:
        directory = Path(name)
        windows.report(directory / "windows", count)
        print()
        apps.report(directory / "apps")
        print()
        if os.geteuid() != 0:
            print("Filesystems are frozen by root alone: thaws and deaths are left out.")
            return
        thaws.report(directory / "thaws")
        print()
        deaths.report(directory / "deaths")


main()
