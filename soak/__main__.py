"""Prints a line for each sample, and at the end whether anything grew; exits 1 where it did.

``python -m soak interleavings`` runs the interleavings alone, with a seed, or one step of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from soak import interleavings, restarts, windows


def main() -> int:
    """Run the windows, then the restarts, then the interleavings.

    :return: the exit status.
    """
    if sys.argv[1:2] == ["interleavings"]:
        return interleavings.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument(
        "--windows",
        type=int,
        default=10_000,
        help=f"how many (default 10000, at least {windows.SAMPLES})",
    )
    parser.add_argument(
        "--restarts",
        type=int,
        default=100,
        help=f"how often the agent is killed (default 100, at least {restarts.LEAST})",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=interleavings.STEPS,
        help=f"how many of the interleavings (default {interleavings.STEPS})",
    )
    asked = parser.parse_args()
    for what, count, least in (
        ("windows", asked.windows, windows.SAMPLES),
        ("restarts", asked.restarts, restarts.LEAST),
        ("steps", asked.steps, 1),
    ):
        if count < least:
            parser.error(f"--{what} {count}: at least {least} are needed")

    with tempfile.TemporaryDirectory(prefix="xohook-soak-") as name:
        found = windows.soak(Path(name) / "windows", asked.windows)
        print()
        found += restarts.soak(Path(name) / "restarts", asked.restarts)
        print()
        found += interleavings.soak_if_possible(Path(name) / "interleavings", asked.steps)
    for sentence in found:
        print(sentence)
    if not found:
        print("Nothing grew, and nothing stayed frozen.")
    return 1 if found else 0


sys.exit(main())
