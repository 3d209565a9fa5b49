"""The ``/post-sync`` requests that are still expected after their window has ended. Pure."""

from __future__ import annotations

import attrs
from attrs.validators import instance_of

LIFETIME = 600.0
"""Seconds for which a stray is expected (docs/hook.rst, Strays)."""


@attrs.frozen
class Stray:
    """One ``/post-sync`` that may still come.

    :param window: the id of the window that its ``/sync`` belonged to.
    :param answered: whether that ``/sync`` had been answered 200.
    :param until: when it is no longer expected, in seconds of the monotonic clock.
    """

    window: str = attrs.field(validator=instance_of(str))
    answered: bool = attrs.field(validator=instance_of(bool))
    until: float = attrs.field(validator=instance_of((int, float)))


MOST = 1000
"""Strays that are expected at the most: an XO leaves a handful in ten minutes, and a
requester that floods is not worth more memory."""


class Strays:
    """The strays that are expected, the one that was expected first at the front.

    :param expected: those known from an earlier run of the agent.
    """

    def __init__(self, expected: tuple[Stray, ...] = ()) -> None:
        self._expected = list(expected)

    def expect(self, window: str, answered: bool, now: float) -> None:
        """Expect one more.

        :param window: the id of the window that its ``/sync`` belonged to.
        :param answered: whether that ``/sync`` had been answered 200.
        :param now: the time, in seconds of the monotonic clock.
        """
        self._expected.append(Stray(window, answered, now + LIFETIME))
        del self._expected[:-MOST]

    def present(self, now: float) -> tuple[Stray, ...]:
        """Tell which are expected.

        :param now: the time, in seconds of the monotonic clock.
        :return: the strays whose time is not up.
        """
        self._expected = [stray for stray in self._expected if now < stray.until]
        return tuple(self._expected)

    def take(self, now: float) -> Stray | None:
        """Take the one that was expected first: a ``/post-sync`` has come.

        :param now: the time, in seconds of the monotonic clock.
        :return: the stray, None where none was expected.
        """
        return self._expected.pop(0) if self.present(now) else None
