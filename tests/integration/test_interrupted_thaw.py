"""A window that is interrupted at any step on the way back: everything is thawed, once."""

from __future__ import annotations

from tests.integration.interrupted_case import InterruptedTestCase


class InterruptedTests(InterruptedTestCase):
    """The agent dies, is started again, and everything is as it should be."""

    def test_from_the_hold(self) -> None:
        """On the way back: the next start thaws those that the agent did not come to."""
        journals = self.walk("/post-sync", "/sync")
        for journal in journals:
            self.assert_thawed_once(journal)
        came_to = {sum(line.endswith(" synced") for line in journal) for journal in journals}
        self.assertEqual(came_to, {0, 1, 2, 3, 4})
