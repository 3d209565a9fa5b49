"""The status of windows, and those who watch it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.logger import Logger

from xohook.coordinator.participant_runs import ParticipantRun
from xohook.window.answers import Answer

Watcher = Callable[[Answer, Sequence[ParticipantRun]], None]
"""Takes what there is to say of the present window, or of the last, and the runs that have changed;
if one has, the answer has no lines."""


@attrs.frozen
class WindowStatus:
    """The status of the present window, or of the last.

    :param answer: what there is to say of it; its state is ``idle`` if there was none yet.
    :param runs: how far each participant has come.
    :param is_open: whether it is open.
    :param opened: when it opened, in seconds since the epoch.
    :param left: seconds that are left of its hold; None if nothing is held.
    """

    answer: Answer
    runs: tuple[ParticipantRun, ...]
    is_open: bool = False
    opened: float | None = None
    left: float | None = None


class Watchers(list[Watcher]):
    """A list of those who are notified of every change of a window."""

    _log = Logger()
    _latest: Answer | None = None

    def window_changed(self, answer: Answer) -> None:
        """Notify all of a window's state and lines, unless they know them.

        :param answer: what there is to say of it.
        """
        if self and answer != self._latest:
            self._latest = answer
            self._notify(answer, ())

    def run_changed(self, answer: Answer, run: ParticipantRun) -> None:
        """Notify all of a participant's new phase.

        :param answer: what there is to say of the window.
        :param run: the participant's run.
        """
        if self:
            # Each of thousands of runs changes several times, so the lines are left out.
            self._notify(Answer(status=200, window=answer.window, state=answer.state), (run,))

    def _notify(self, answer: Answer, changed: Sequence[ParticipantRun]) -> None:
        for watcher in tuple(self):
            try:
                watcher(answer, changed)
            except Exception:  # noqa: BLE001 - a thaw does not depend on who watches it.
                self._log.failure("a fault of xohook itself")
