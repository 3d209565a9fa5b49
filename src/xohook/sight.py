"""What there is to see of windows, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from xohook.answers import Answer
from xohook.steps import Step

Watcher = Callable[[Answer, Sequence[Step]], None]
"""Is told what is to be said of the present window, or of the last, and which steps have changed;
where one has, the lines are left out."""


@attrs.frozen
class Sight:
    """What there is to see of a window.

    :param answer: what is to be said of it; the state ``idle`` where there was none yet.
    :param steps: how far each participant has come.
    :param is_open: whether it is open.
    :param opened: when it opened, in seconds since the epoch.
    :param left: seconds that are left of its hold; None where nothing is held.
    """

    answer: Answer
    steps: tuple[Step, ...]
    is_open: bool = False
    opened: float | None = None
    left: float | None = None
