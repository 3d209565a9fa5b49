"""What the soak calls growth."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from soak.growth import TOLERANCE, Sample, growth
from tests.integration.footprint import Footprint

QUIET = Sample(
    windows=500,
    footprint=Footprint(resident=50_000, proportional=40_000, files=12, threads=1, children=0),
    state=3_000,
    runtime=100,
)


def resident(kilobytes: int) -> Sample:
    """Make a sample that differs in its memory alone."""
    return attrs.evolve(QUIET, footprint=attrs.evolve(QUIET.footprint, resident=kilobytes))


class GrowthTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """Samples that are all alike hold no growth."""
        self.assertEqual(growth([QUIET] * 8), [])

    def test_one_file(self) -> None:
        """One more open file at the end is growth."""
        more = attrs.evolve(QUIET, footprint=attrs.evolve(QUIET.footprint, files=13))

        self.assertEqual(
            growth([QUIET, QUIET, QUIET, more]), ["The open files grew from 12 to 13."]
        )

    def test_one_child(self) -> None:
        """One child left at the end is growth."""
        more = attrs.evolve(QUIET, footprint=attrs.evolve(QUIET.footprint, children=1))

        self.assertEqual(
            growth([QUIET, QUIET, QUIET, more]), ["The child processes grew from 0 to 1."]
        )

    def test_directories(self) -> None:
        """A byte more in either directory is growth."""
        more = attrs.evolve(QUIET, state=3_001, runtime=101)

        self.assertEqual(
            growth([QUIET, QUIET, QUIET, more]),
            [
                "The bytes in the state directory grew from 3000 to 3001.",
                "The bytes in the runtime directory grew from 100 to 101.",
            ],
        )

    def test_memory_within_tolerance(self) -> None:
        """Memory may vary by the tolerance."""
        early, late = resident(50_000), resident(50_000 + TOLERANCE)

        self.assertEqual(growth([early] * 6 + [late] * 2), [])

    def test_memory_beyond_tolerance(self) -> None:
        """Memory beyond the tolerance is growth, told by the means of the two quarters."""
        early, late = resident(50_000), resident(50_001 + TOLERANCE)

        (sentence,) = growth([early] * 6 + [late] * 2)
        self.assertEqual(
            sentence,
            "The resident memory grew from 50000 kB in the second quarter "
            f"to {50_001 + TOLERANCE} kB in the last.",
        )

    def test_memory_of_the_first_quarter(self) -> None:
        """What the process takes once, while it warms up, is no growth."""
        self.assertEqual(growth([resident(30_000)] * 2 + [QUIET] * 6), [])
