"""Follows the state of the agent's window over the control socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.control_client import CallFailedError, ControlClient

#: Seconds that a moment is waited for at most; it may never come.
LONGEST_WAIT = 3.0

_OPEN = ("freezing", "holding", "thawing")


class Watcher:
    """What the agent tells of its window.

    :param control: the agent's control socket.
    """

    def __init__(self, control: Path) -> None:
        self._control = control
        self._changed = threading.Condition()
        self._client: ControlClient | None = None
        self._thread: threading.Thread | None = None
        #: The state, empty where the agent is not there.
        self.state = ""
        #: The window's id.
        self.window: str | None = None
        #: All states, and phases of participants, in order.
        self._seen: list[str] = []
        self._mark = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a window, as far as it is known."""
        return self.state in _OPEN

    def begin(self) -> None:
        """Subscribe to an agent that has just started.

        :raises OSError: where it is not there.
        """
        self.end()
        self._client = ControlClient(self._control)
        told = self._client.call("subscribe")
        self.state, self.window = told["state"], told["window"]
        self._client.socket.settimeout(None)
        self._thread = threading.Thread(target=self._follow, args=(self._client,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Unsubscribe."""
        if self._client is not None and self._thread is not None:
            self._client.shut()
            self._thread.join()
            self._client.close()
        self._client = self._thread = None

    def forget(self) -> None:
        """Begin a new step."""
        with self._changed:
            self._seen.clear()
            self._mark = 0

    def wait_for(self, moment: str, goes_on: Callable[[], bool]) -> bool:
        """Wait until something is so, or was so since the last time that this returned.

        :param moment: a state, or a participant and its phase.
        :param goes_on: whether it may still come.
        :return: whether it came.
        """
        deadline = time.monotonic() + LONGEST_WAIT
        with self._changed:
            while True:
                came = self.state == moment or moment in self._seen[self._mark :]
                if came or time.monotonic() > deadline or not goes_on():
                    self._mark = len(self._seen)
                    return came
                self._changed.wait(0.02)

    def _follow(self, client: ControlClient) -> None:
        try:
            while True:
                self._note(client.receive()["params"])
        except (OSError, ValueError, KeyError, CallFailedError):
            with self._changed:
                self.state = ""
                self._changed.notify_all()

    def _note(self, params: dict[str, Any]) -> None:
        with self._changed:
            if "state" in params:
                self.state, self.window = params["state"], params["window"]
                if not self._seen or self._seen[-1] != self.state:
                    self._seen.append(self.state)
                for each in params["participants"]:
                    self._seen.append(f"{each['name']} {each['phase']}")
            self._changed.notify_all()
