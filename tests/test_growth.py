"""What the soak calls growth."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from soak.growth import TOLERANCE, Sample, growth
from tests.integration.footprint import Footprint

QUIET = Sample(
    after="500 windows",
    footprint=Footprint(resident=50_000, proportional=40_000, files=12, threads=1, children=0),
    counted={"bytes of state": 3_000, "tasks": 5},
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

    def test_counted(self) -> None:
        """One more at the end of anything else that is counted is growth."""
        more = attrs.evolve(QUIET, counted={"bytes of state": 3_001, "tasks": 6})

        self.assertEqual(
            growth([QUIET, QUIET, QUIET, more]),
            ["The bytes of state grew from 3000 to 3001.", "The tasks grew from 5 to 6."],
        )

    def test_fewer(self) -> None:
        """What is fewer at the end is no growth."""
        fewer = attrs.evolve(QUIET, counted={"bytes of state": 0, "tasks": 0})

        self.assertEqual(growth([QUIET, QUIET, QUIET, fewer]), [])

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


class SampleTests(SynchronousTestCase):
    def test_text(self) -> None:
        """A sample tells what is counted, and after what."""
        self.assertEqual(
            str(QUIET),
            "    500 windows: 12 files, 0 children, 1 threads, 50000 kB resident, "
            "3000 bytes of state, 5 tasks",
        )
