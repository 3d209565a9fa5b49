"""Window after window, while nothing of what the agent takes up may grow."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from soak.growth import Sample, growth
from soak.rest import footprint_at_rest
from tests.integration.agent import Agent
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
    footprint = footprint_at_rest(agent.pid, files)
    counted = {
        "bytes in the state directory": size(agent.state_directory),
        "bytes in the runtime directory": size(agent.runtime_directory),
    }
    return Sample(f"{windows} windows", footprint, counted)


def soak(directory: Path, windows: int) -> list[str]:
    """Run the windows, and print a line for each sample.

    :param directory: a directory for the agent.
    :param windows: how many, at least :data:`SAMPLES`.
    :return: a sentence for each thing that went wrong.
    """
    answered: Counter[tuple[int, int]] = Counter()
    samples: list[Sample] = []
    context = insecure_context()
    begin = time.monotonic()
    with Agent(directory, sections=PARTICIPANT) as agent:
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
    print(f"{windows} windows took {time.monotonic() - begin:.0f} s.")
    return found
