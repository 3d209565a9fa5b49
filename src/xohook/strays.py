"""The ``/post-sync`` requests that are still expected after their window has ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs
from attrs.validators import instance_of

from xohook.auth import parse_address

LIFETIME = 600.0
"""Seconds for which a stray is expected (docs/hook.rst, Strays)."""


def is_same(source: str, other: str) -> bool:
    """Tell whether two requests came from one address.

    :param source: the source of the one, as :attr:`xohook.answers.Requester.source` has it.
    :param other: the source of the other. Sources that are no addresses are all the same: they
        come through a socket that tells no address.
    :return: whether they did.
    """
    return parse_address(source) == parse_address(other)


def may_be_same(source: str, other: str) -> bool:
    """Tell whether two requests may have been sent by one requester.

    A requester has one address of a family, but may change the family from one connection to the
    next: a name in a URL stands for addresses of both (docs/hook.rst, Strays).

    :param source: the source of the one.
    :param other: the source of the other; what is no address may be anybody.
    :return: whether they may.
    """
    first, second = parse_address(source), parse_address(other)
    if first is None or second is None:
        return True
    return first == second or first.version != second.version


@attrs.frozen
class Stray:
    """One ``/post-sync`` that may still come.

    :param window: the id of the window that its ``/sync`` belonged to.
    :param answered: whether that ``/sync`` may have been answered 200.
    :param until: when it is no longer expected, in seconds of the monotonic clock.
    :param source: where that ``/sync`` came from; empty where that is not known.
    """

    window: str = attrs.field(validator=instance_of(str))
    answered: bool = attrs.field(validator=instance_of(bool))
    until: float = attrs.field(validator=instance_of((int, float)))
    source: str = attrs.field(default="", validator=instance_of(str))


MOST = 1000
"""Strays that are expected at the most: an XO leaves a handful in ten minutes, and a
requester that floods is not worth more memory."""


class Strays:
    """The strays that are expected, in the order in which their windows ended.

    :param expected: those known from an earlier run of the agent.
    """

    def __init__(self, expected: tuple[Stray, ...] = ()) -> None:
        self._expected = list(expected)

    def expect(self, window: str, answered: bool, now: float, source: str = "") -> None:
        """Expect one more.

        :param window: the id of the window that its ``/sync`` belonged to.
        :param answered: whether that ``/sync`` had been answered 200.
        :param now: the time, in seconds of the monotonic clock.
        :param source: where that ``/sync`` came from; empty where that is not known.
        """
        self._expected.append(Stray(window, answered, now + LIFETIME, source))
        del self._expected[:-MOST]

    def present(self, now: float) -> tuple[Stray, ...]:
        """Tell which are expected.

        :param now: the time, in seconds of the monotonic clock.
        :return: the strays whose time is not up.
        """
        self._expected = [stray for stray in self._expected if now < stray.until]
        return tuple(self._expected)

    def possible(self, source: str, now: float) -> tuple[Stray, ...]:
        """Tell which a ``/post-sync`` from there may be.

        :param source: where it came from.
        :param now: the time, in seconds of the monotonic clock.
        :return: the expected strays that this requester may have left.
        """
        return tuple(each for each in self.present(now) if may_be_same(source, each.source))

    def take(self, source: str, now: float) -> tuple[Stray, ...]:
        """Expect one less, because a ``/post-sync`` has come.

        Of several that it may be, the one with the latest deadline goes. So a ``/sync`` whose
        ``/post-sync`` comes adds nothing to what was expected before it, and doubt ends with the
        deadline of the one that is really missing. Each of those that stay may stand for the one
        that went.

        :param source: where it came from.
        :param now: the time, in seconds of the monotonic clock.
        :return: the strays that it may be, the one that went included; none where it is none.
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


def _stand_for(stray: Stray, taken: Stray) -> Stray:
    """Make of a stray what it is when it may as well be another one."""
    return attrs.evolve(
        stray,
        answered=stray.answered or taken.answered,
        source=stray.source if is_same(stray.source, taken.source) else "",
    )


class Whose(Enum):
    """Which window a ``/post-sync`` belongs to that comes while one is open."""

    PRESENT = "the present one's"
    EARLIER = "an earlier one's, or nobody's"
    UNCLEAR = "not clear"


def whose(source: str, owing: Sequence[str], possible: Sequence[Stray]) -> Whose:
    """Tell whose a ``/post-sync`` is that comes while a window is open.

    :param source: where it came from.
    :param owing: the sources of the present window's ``/sync`` that still owe one.
    :param possible: the expected strays that it may be.
    :return: whose it is.
    """
    may_be_present = any(may_be_same(source, each) for each in owing)
    if not owing or (possible and not may_be_present):
        return Whose.EARLIER
    if not possible and any(is_same(source, each) for each in owing):
        return Whose.PRESENT
    return Whose.UNCLEAR
