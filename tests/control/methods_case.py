"""An agent's inside, whose control methods are called over connections in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.talking import Line, Scene


class MethodsTestCase(SynchronousTestCase):
    """An agent's inside, and connections to it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.scene = Scene(self.directory)

    def call(self, line: Line, method: str, **params: Any) -> Any:
        """Call a method that answers at once."""
        answer = line.answer(line.call(method, **params))
        self.scene.turn()
        assert answer is not None, method
        self.assertNotIn("error", answer)
        return answer["result"]

    def refused(self, line: Line, method: str, **params: Any) -> dict[str, Any]:
        """Call a method that refuses at once."""
        answer = line.answer(line.call(method, **params))
        self.scene.turn()
        assert answer is not None, method
        self.assertIn("error", answer, params)
        error: dict[str, Any] = answer["error"]
        return error

    def reply_all(self, line: Line, method: str) -> None:
        """Answer each request of a kind that has come."""
        for request in line.requests(method):
            line.reply(request["id"])
        self.scene.turn(2)

    def hold(self, *lines: Line) -> None:
        """Open a window in which each of these connections' apps is frozen."""
        self.scene.sync()
        for line in lines:
            self.reply_all(line, "freeze")
