"""Prints a line for each sample, and at the end whether anything grew; exits 1 where it did."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from soak.growth import Sample, growth
from tests.integration.agent import Agent, eventually
from tests.integration.footprint import Footprint
from tests.integration.hook_client import Connection, insecure_context

#: How many samples are taken; 10,000 windows give one every 500.
SAMPLES = 20

PARTICIPANT = "[command:quick]\nfreeze = true\nthaw = true\n"


def size(directory: Path) -> int:
    """Add up the sizes of a directory's files.

    :param directory: the directory.
    :return: the bytes.
    """
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def sample(agent: Agent, windows: int, files: int | None) -> Sample:
    """Look at the agent once it is at rest.

    :param agent: the agent.
    :param windows: how many windows there have been.
    :param files: how many files were open when it was at rest before, None at first.
    :return: what it takes up.
    """

    def at_rest() -> bool:
        taken = Footprint.of(agent.pid)
        return taken.children == 0 and (files is None or taken.files <= files)

    # The agent sees a closed connection a moment after the client closed it. What does not come to
    # rest is counted as it is, and found to have grown.
    with contextlib.suppress(AssertionError):
        eventually(at_rest, "the agent is at rest", patience=5)
    return Sample(
        windows,
        Footprint.of(agent.pid),
        size(agent.state_directory),
        size(agent.runtime_directory),
    )


def main() -> int:
    """Run the windows.

    :return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument(
        "--windows", type=int, default=10_000, help="how many (default 10000, at least 20)"
    )
    windows = parser.parse_args().windows
    if windows < SAMPLES:
        parser.error(f"--windows {windows}: at least {SAMPLES} are needed")

    answered: Counter[tuple[int, int]] = Counter()
    samples: list[Sample] = []
    context = insecure_context()
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="xohook-soak-") as directory,
        Agent(Path(directory), sections=PARTICIPANT) as agent,
    ):
        headers = agent.credentials
        for number in range(1, windows + 1):
            with Connection(agent.port, context=context) as connection:
                sync = connection.get("/sync", headers)
                post_sync = connection.get("/post-sync", headers)
            answered[sync.status, post_sync.status] += 1
            if number % (windows // SAMPLES) == 0:
                files = samples[0].footprint.files if samples else None
                samples.append(sample(agent, number, files))
                print(samples[-1], flush=True)

    found = growth(samples)
    for (first, second), count in answered.items():
        print(f"{count} of {windows} windows were answered {first} and {second}.")
        if (first, second) != (200, 200):
            found.append(f"{count} windows were not answered 200 and 200.")
    for sentence in found:
        print(sentence)
    if not found:
        print(f"Nothing grew in {windows} windows and {time.monotonic() - begin:.0f} s.")
    return 1 if found else 0


sys.exit(main())
