"""An agent's inside, and connections in memory to its control socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.talking import Line, Scene


class ControlTestCase(SynchronousTestCase):
    """An agent's inside, and connections to it."""

    def setUp(self) -> None:
        self.scene = Scene(Path(self.mktemp()))

    def reply_all(self, line: Line, method: str, **answer: Any) -> None:
        """Answer each request of a kind that has come, and forget it."""
        for request in line.requests(method):
            line.received.remove(request)
            line.reply(request["id"], **answer)

    def hold(self, *lines: Line) -> None:
        """Open a window in which each of these connections' apps is frozen."""
        self.scene.sync()
        for line in lines:
            self.reply_all(line, "freeze")
