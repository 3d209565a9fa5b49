"""The ``/post-sync`` requests that are expected after their window has ended. Pure.

``docs/hook.rst`` (Unmatched post-sync requests) has the rules. Nothing in a ``/post-sync`` says
which window it belongs to. So each is matched by its source address against those that the present
window is owed, and against those that earlier windows have left: the late ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from enum import Enum

import attrs
from attrs.validators import instance_of

from xohook.addresses import parse_address

LIFETIME = 600.0
"""Seconds for which a late ``/post-sync`` is expected (docs/hook.rst, Unmatched post-sync
requests)."""

MOST = 1000
"""Late ``/post-sync`` that are expected at most. An XO leaves a handful in ten minutes; a requester
that floods the agent gets no more memory than this."""


def is_same(source: str, other: str) -> bool:
    """Return whether two requests came from one address.

    :param source: the source of the one, see :attr:`xohook.window.answers.Requester.source`.
    :param other: the source of the other. All sources that are not addresses are the same: they
        come through a socket without addresses.
    :return: whether they did.
    """
    return parse_address(source) == parse_address(other)


def may_be_same(source: str, other: str) -> bool:
    """Return whether one requester may have sent two requests.

    A requester has one address of a family, but may change the family from one connection to the
    next, because a name in a URL stands for addresses of both (docs/hook.rst, Unmatched post-sync
    requests).

    :param source: the source of the one.
    :param other: the source of the other. One that is not an address may be anybody's.
    :return: whether it may.
    """
    first, second = parse_address(source), parse_address(other)
    if first is None or second is None:
        return True
    return first == second or first.version != second.version


@attrs.frozen
class LatePostSync:
    """One ``/post-sync`` that is expected after its window has ended.

    :param window: the id of the window that its ``/sync`` belonged to.
    :param answered: whether that ``/sync`` may have been answered 200.
    :param until: when it is no longer expected, in seconds of the monotonic clock.
    :param source: where that ``/sync`` came from; empty if that is not known.
    """

    window: str = attrs.field(validator=instance_of(str))
    answered: bool = attrs.field(validator=instance_of(bool))
    until: float = attrs.field(validator=instance_of((int, float)))
    source: str = attrs.field(default="", validator=instance_of(str))


class LatePostSyncs:
    """The late ``/post-sync`` that are expected, in the order in which their windows ended.

    :param expected: those known from an earlier run of the agent.
    """

    def __init__(self, expected: tuple[LatePostSync, ...] = ()) -> None:
        self._expected = list(expected)

    def expect(self, window: str, answered: bool, now: float, source: str = "") -> None:
        """Expect one more.

        :param window: the id of the window that its ``/sync`` belonged to.
        :param answered: whether that ``/sync`` had been answered 200.
        :param now: the time, in seconds of the monotonic clock.
        :param source: where that ``/sync`` came from; empty if that is not known.
        """
        self._expected.append(LatePostSync(window, answered, now + LIFETIME, source))
        del self._expected[:-MOST]

    def present(self, now: float) -> tuple[LatePostSync, ...]:
        """Return those that are expected now.

        :param now: the time, in seconds of the monotonic clock.
        :return: those whose time is not up.
        """
        self._expected = [late for late in self._expected if now < late.until]
        return tuple(self._expected)

    def possible(self, source: str, now: float) -> tuple[LatePostSync, ...]:
        """Return those that a ``/post-sync`` may be.

        :param source: where it came from.
        :param now: the time, in seconds of the monotonic clock.
        :return: those that this requester may have left.
        """
        return tuple(each for each in self.present(now) if may_be_same(source, each.source))

    def take(self, source: str, now: float) -> tuple[LatePostSync, ...]:
        """Expect one less, because a ``/post-sync`` has come.

        Of several that it may be, the one with the latest deadline goes. So a ``/sync`` whose
        ``/post-sync`` comes adds nothing to what was expected before it, and doubt ends with the
        deadline of the one that is really missing. Each of those that stay may stand for the one
        that went.

        :param source: where it came from.
        :param now: the time, in seconds of the monotonic clock.
        :return: those that it may be, with the one that went; empty if it is none of them.
        """
        possible = self.possible(source, now)
        if not possible:
            return ()
        taken = max(reversed(possible), key=lambda each: (each.until, is_same(source, each.source)))
        index = next(i for i, each in enumerate(self._expected) if each is taken)
        del self._expected[index]
        self._expected = [
            _stand_for(each, taken) if each in possible else each for each in self._expected
        ]
        return possible


def _stand_for(late: LatePostSync, taken: LatePostSync) -> LatePostSync:
    """Return what one is that may as well be the one that was taken."""
    return attrs.evolve(
        late,
        answered=late.answered or taken.answered,
        source=late.source if is_same(late.source, taken.source) else "",
    )


class Whose(Enum):
    """Which window a ``/post-sync`` belongs to that comes while one is open."""

    PRESENT = "the present one's"
    EARLIER = "an earlier one's, or nobody's"
    UNCLEAR = "not clear"


def whose(source: str, owing: Sequence[str], possible: Sequence[LatePostSync]) -> Whose:
    """Return which window a ``/post-sync`` belongs to that comes while one is open.

    :param source: where it came from.
    :param owing: the sources of the present window's ``/sync`` that still owe one.
    :param possible: the late ones that it may be.
    :return: whose it is.
    """
    may_be_present = any(may_be_same(source, each) for each in owing)
    if not owing or (possible and not may_be_present):
        return Whose.EARLIER
    if not possible and any(is_same(source, each) for each in owing):
        return Whose.PRESENT
    return Whose.UNCLEAR


def name_windows(late: Iterable[LatePostSync]) -> str:
    """Name the windows that these belong to.

    :param late: the late ``/post-sync``.
    :return: the names, for a line.
    """
    windows = dict.fromkeys(each.window for each in late)
    return " or ".join(f"window {window}" for window in windows)


def explain_doubt(
    source: str, possible: Sequence[LatePostSync], now: float, time_of_day: float
) -> str:
    """Explain why a ``/post-sync`` may be another window's, and what to do.

    :param source: where it came from.
    :param possible: the late ones that it may be.
    :param now: the time, in seconds of the monotonic clock.
    :param time_of_day: the time, in seconds since the epoch.
    :return: a line.
    """
    if not possible:
        return (
            f"a /post-sync came from {source}, and the /sync that it belongs to did not: do not"
            " trust this snapshot; see that each requester always comes from one address"
            " (an IP address in the URL, in place of a name, keeps it to one)"
        )
    end = time_of_day + max(each.until for each in possible) - now
    return (
        f"a /post-sync from {source} may have been that of {name_windows(possible)}, which had"
        " ended before: do not trust this snapshot; take another one after"
        f" {datetime.fromtimestamp(end, timezone.utc):%H:%M:%S} UTC, when that /post-sync is no"
        " longer expected"
    )
