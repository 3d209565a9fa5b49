"""The ``/post-sync`` that are still expected."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xohook.strays import LIFETIME, MOST, Stray, Strays


class StraysTests(SynchronousTestCase):
    """Expecting, forgetting and taking."""

    def test_ten_minutes(self) -> None:
        """One is expected for ten minutes, and no longer."""
        self.assertEqual(LIFETIME, 10 * 60)
        strays = Strays()
        strays.expect("w1", True, 5.0)
        self.assertEqual(strays.present(604.5), (Stray("w1", True, 605.0),))
        self.assertEqual(strays.present(605.0), ())
        self.assertIsNone(strays.take(605.0))

    def test_first_expected_first(self) -> None:
        """The one that was expected first is taken first, and each once."""
        strays = Strays((Stray("w0", True, 100.0),))
        strays.expect("w1", False, 1.0)
        strays.expect("w1", True, 1.0)
        taken = [strays.take(2.0) for _ in range(4)]
        self.assertEqual(
            [stray and (stray.window, stray.answered) for stray in taken],
            [("w0", True), ("w1", False), ("w1", True), None],
        )

    def test_old_one_is_not_taken(self) -> None:
        """One whose time is up makes way for the one behind it."""
        strays = Strays((Stray("w0", True, 100.0), Stray("w1", False, 200.0)))
        self.assertEqual(strays.take(100.0), Stray("w1", False, 200.0))

    def test_most(self) -> None:
        """Of more than are kept the last ones are."""
        strays = Strays()
        for number in range(MOST + 2):
            strays.expect(f"w{number}", False, 0.0)
        present = strays.present(0.0)
        self.assertEqual((len(present), present[0].window), (MOST, "w2"))

    def test_none(self) -> None:
        """With none expected there is none to take."""
        self.assertEqual((Strays().present(0.0), Strays().take(0.0)), ((), None))
