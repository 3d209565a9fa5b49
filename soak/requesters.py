"""Requests to the hook, each in a thread of its own, with the times at which things happened."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from tests.integration.hook_client import Connection, insecure_context

_context = insecure_context()


class Request:
    """One request, under way from now on.

    :param path: ``/sync`` or ``/post-sync``.
    :param port: the agent's port.
    :param source: the address to come from.
    :param headers: its headers.
    :param kept: a connection to send it on, a new one where it is not given.
    """

    def __init__(
        self,
        path: str,
        port: int,
        source: str,
        headers: Mapping[str, str],
        kept: Connection | None = None,
    ) -> None:
        self.path = path
        #: When it was made, when it was about to be sent, and when it was over (monotonic clock).
        self.made = time.monotonic()
        self.sent: float | None = None
        self.over: float | None = None
        #: The answer; None where there was none.
        self.status: int | None = None
        self.answer: dict[str, Any] = {}
        self.problem = ""
        self.is_dropped = False
        self._connection: Connection | None = None
        self._given = kept
        #: The connection of a /sync that was answered, for its /post-sync.
        self.kept: Connection | None = None
        self._port, self._source, self._headers = port, source, headers
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def window(self) -> str | None:
        """The window that the answer speaks of."""
        window: str | None = self.answer.get("window")
        return window

    @property
    def state(self) -> str:
        """That window's state as the answer has it, empty without an answer."""
        state: str = self.answer.get("state", "")
        return state

    def drop(self) -> None:
        """Close the connection without waiting for the answer."""
        with self._lock:
            self.is_dropped = True
            if self._connection is not None:
                _shut(self._connection)

    def wait(self, seconds: float) -> bool:
        """Wait until it is over.

        :param seconds: for how long.
        :return: whether it is.
        """
        self._thread.join(max(0.0, seconds))
        return self.over is not None

    def take_kept(self) -> Connection | None:
        """Take its connection, if it has been answered well and nobody has taken it.

        :return: the connection.
        """
        kept, self.kept = self.kept, None
        return kept

    def _run(self) -> None:
        connection = self._given
        try:
            if connection is None:
                connection = Connection(self._port, context=_context, source=self._source)
            with self._lock:
                if self.is_dropped:
                    return
                self._connection = connection
            self.sent = time.monotonic()
            answer = connection.get(self.path, self._headers)
            self.answer = json.loads(answer.body) if answer.status in (200, 500) else {}
            self.status = answer.status
        except (OSError, ValueError, AttributeError) as error:
            # A connection that was shut down from elsewhere fails in any of these ways.
            self.problem = repr(error)
        finally:
            with self._lock:
                self._connection = None
                if self.path == "/sync" and self.status == 200 and not self.is_dropped:
                    self.kept = connection
                elif connection is not None:
                    connection.close()
            self.over = time.monotonic()

    def __str__(self) -> str:
        if self.over is None:
            told = "under way"
        elif self.status is None:
            told = "dropped" if self.is_dropped else f"no answer: {self.problem}"
        else:
            told = f"{self.status} {self.state} {self.window} {self.answer.get('problems', '')}"
        return f"{self.path}: {told}"


def _shut(connection: Connection) -> None:
    with contextlib.suppress(OSError):
        # Not the method of ssl, which takes the TLS session from under the thread that reads.
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
