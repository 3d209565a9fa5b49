"""Judges from samples whether something grows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import attrs

from tests.integration.footprint import Footprint

#: Memory, in kB, by which the last quarter may lie above the second. CPython takes memory in arenas
#: of 1 MiB, and one may be begun at any time; but 250 bytes lost in each of 10,000 windows come to
#: more between the middles of the two quarters.
TOLERANCE = 1_200


@attrs.frozen
class Sample:
    """What a process took up at one moment.

    :param after: what there had been until then: ``500 windows``.
    :param footprint: the process.
    :param counted: what else is counted, by what it is called.
    """

    after: str
    footprint: Footprint
    counted: Mapping[str, int]

    def __str__(self) -> str:
        taken = self.footprint
        counts = {
            "files": taken.files,
            "children": taken.children,
            "threads": taken.threads,
            "kB resident": taken.resident,
            **self.counted,
        }
        return f"{self.after:>15}: " + ", ".join(f"{n} {what}" for what, n in counts.items())


def growth(samples: Sequence[Sample]) -> list[str]:
    """Tell what grew.

    What is counted may not be more at the end than after the first stretch, when all that is opened
    once has been opened. Memory is compared by the means of two quarters, the first one left out.

    :param samples: at least four, in order and at even distances.
    :return: a sentence for each thing that grew.
    """
    first, last = samples[0], samples[-1]
    counted = {
        "open files": (first.footprint.files, last.footprint.files),
        "child processes": (first.footprint.children, last.footprint.children),
        "threads": (first.footprint.threads, last.footprint.threads),
        **{what: (first.counted[what], last.counted[what]) for what in first.counted},
    }
    found = [
        f"The {what} grew from {before} to {after}."
        for what, (before, after) in counted.items()
        if after > before
    ]
    quarter = len(samples) // 4
    before_mean = fmean(sample.footprint.resident for sample in samples[quarter : 2 * quarter])
    after_mean = fmean(sample.footprint.resident for sample in samples[-quarter:])
    if after_mean - before_mean > TOLERANCE:
        found.append(
            f"The resident memory grew from {before_mean:.0f} kB in the second quarter "
            f"to {after_mean:.0f} kB in the last."
        )
    return found
