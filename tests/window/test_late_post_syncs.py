"""The ``/post-sync`` that are still expected."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xohook.window.late_post_syncs import (
    LIFETIME,
    MOST,
    LatePostSync,
    LatePostSyncs,
    Whose,
    is_same,
    may_be_same,
    whose,
)

A, B = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"


class SourceTests(SynchronousTestCase):
    """Whether two requests are one requester's."""

    def test_is_same(self) -> None:
        """An address is the same in any form; all who have none come through one socket."""
        self.assertTrue(is_same(A, A))
        self.assertTrue(is_same(A, f"::ffff:{A}"))
        self.assertTrue(is_same(A6, "2001:DB8:0::1"))
        self.assertTrue(is_same("a local socket", "a local socket"))
        self.assertFalse(is_same(A, B))
        self.assertFalse(is_same(A, A6))
        self.assertFalse(is_same(A, "a local socket"))

    def test_may_be_same(self) -> None:
        """Only two addresses of one family are surely two requesters'."""
        for source, other in ((A, A), (A, A6), (A6, B), (A, ""), ("a local socket", A6)):
            self.assertTrue(may_be_same(source, other), (source, other))
            self.assertTrue(may_be_same(other, source), (source, other))
        for source, other in ((A, B), (A6, B6), (A, f"::ffff:{B}")):
            self.assertFalse(may_be_same(source, other), (source, other))


class WhoseTests(SynchronousTestCase):
    """Whose a ``/post-sync`` is that comes while a window is open."""

    def assert_whose(self, owing: list[str], expected: list[str], meant: Whose) -> None:
        """Judge one from A where the window is owed, and others are expected, from these."""
        late_post_syncs = LatePostSyncs(
            tuple(LatePostSync("w", True, 600.0, source) for source in expected)
        )
        self.assertIs(whose(A, owing, late_post_syncs.possible(A, 0.0)), meant, (owing, expected))

    def test_present(self) -> None:
        """It is the window's where its address owes one and no expected one can be its."""
        for owing, expected in (([A], []), ([B, A], [B]), ([A6, A], []), ([A], [B, B])):
            self.assert_whose(owing, expected, Whose.PRESENT)

    def test_earlier(self) -> None:
        """It is not the window's where nothing owed can be its, and something expected can."""
        for owing, expected in (([], []), ([], [A]), ([B], [A]), ([B], [A6]), ([B], [B, ""])):
            self.assert_whose(owing, expected, Whose.EARLIER)

    def test_unclear(self) -> None:
        """Anything else is not clear."""
        for owing, expected in (
            ([A], [A]),
            ([A], [A6]),
            ([A], [""]),
            ([A6], []),
            ([B], []),
            ([B], [B]),
            (["a local socket"], []),
        ):
            self.assert_whose(owing, expected, Whose.UNCLEAR)


class LatePostSyncsTests(SynchronousTestCase):
    """Expecting, forgetting and taking."""

    def test_ten_minutes(self) -> None:
        """One is expected for ten minutes, and no longer."""
        self.assertEqual(LIFETIME, 10 * 60)
        late_post_syncs = LatePostSyncs()
        late_post_syncs.expect("w1", True, 5.0, A)
        self.assertEqual(late_post_syncs.present(604.5), (LatePostSync("w1", True, 605.0, A),))
        self.assertEqual(late_post_syncs.present(605.0), ())
        self.assertEqual(late_post_syncs.take(A, 605.0), ())

    def test_latest_is_taken(self) -> None:
        """Of several the one with the latest deadline goes, and each once."""
        late_post_syncs = LatePostSyncs(
            (LatePostSync("w2", True, 300.0), LatePostSync("w1", True, 100.0))
        )
        late_post_syncs.expect("w3", True, 1.0)
        left = []
        while late_post_syncs.take(A, 2.0):
            left.append([each.window for each in late_post_syncs.present(2.0)])
        self.assertEqual(left, [["w2", "w1"], ["w1"], []])

    def test_what_it_may_be(self) -> None:
        """What is told are all that it may be, also those that stay; others' are left alone."""
        late_post_syncs = LatePostSyncs(
            tuple(LatePostSync(each, True, 100.0, each) for each in (A, B, A6, ""))
        )
        self.assertEqual([each.window for each in late_post_syncs.take(A, 1.0)], [A, A6, ""])
        self.assertEqual([each.window for each in late_post_syncs.present(1.0)], [B, A6, ""])

    def test_own_address_first(self) -> None:
        """Of several with one deadline that of the same address goes."""
        late_post_syncs = LatePostSyncs(
            (LatePostSync("w1", True, 100.0, A6), LatePostSync("w2", True, 100.0, A))
        )
        late_post_syncs.take(A6, 1.0)
        self.assertEqual([each.window for each in late_post_syncs.present(1.0)], ["w2"])

    def test_stands_for_the_other(self) -> None:
        """What stays may have been answered, and come from where, the one that went did."""
        late_post_syncs = LatePostSyncs(
            (LatePostSync("w1", False, 100.0, A), LatePostSync("w2", True, 200.0, B))
        )
        late_post_syncs.take(A6, 1.0)
        self.assertEqual(late_post_syncs.present(1.0), (LatePostSync("w1", True, 100.0, ""),))

    def test_another_requesters(self) -> None:
        """One that cannot be what went stays what it is."""
        left = LatePostSync("w1", False, 100.0, B)
        late_post_syncs = LatePostSyncs((left, LatePostSync("w2", True, 200.0, A)))
        late_post_syncs.take(A, 1.0)
        self.assertEqual(late_post_syncs.present(1.0), (left,))

    def test_old_one_is_not_taken(self) -> None:
        """One whose time is up is not one that it may be."""
        late_post_syncs = LatePostSyncs(
            (LatePostSync("w0", True, 100.0), LatePostSync("w1", False, 200.0))
        )
        self.assertEqual(late_post_syncs.take(A, 100.0), (LatePostSync("w1", False, 200.0),))

    def test_most(self) -> None:
        """Of more than are kept the last ones are."""
        late_post_syncs = LatePostSyncs()
        for number in range(MOST + 2):
            late_post_syncs.expect(f"w{number}", False, 0.0)
        present = late_post_syncs.present(0.0)
        self.assertEqual((len(present), present[0].window), (MOST, "w2"))

    def test_none(self) -> None:
        """With none expected there is none to take."""
        self.assertEqual((LatePostSyncs().present(0.0), LatePostSyncs().take(A, 0.0)), ((), ()))
