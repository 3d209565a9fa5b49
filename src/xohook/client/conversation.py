"""The protocol of one connection: bytes and times in, events and bytes out. Pure, no I/O.

A window's freeze goes through these states::

    WAITING --> FREEZING --> FROZEN --> THAWING --> (removed)

Each arrow is one event that :meth:`Conversation.next_event` returns, or one callback that
:meth:`Conversation.done` reports. The thaw is due as soon as ``_Window.thaw`` is set: by the
agent, by the end of the connection (``broken``) or by the end of ``hold`` (``expired``). It starts
when the freeze has ended, so that after each freeze there is exactly one thaw.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from xohook.client.messages import (
    LONGEST,
    LONGEST_HOLD,
    ProtocolError,
    one_line,
    parse,
    seconds_param,
    text_param,
    too_long,
)

CALLBACK_FAILED = -32000
"""The error code of an answer to a request whose callback failed (docs/protocol.rst, Errors)."""

UNKNOWN_METHOD = -32601
"""The error code of an answer to an unknown method (docs/protocol.rst, Errors)."""

_REGISTER_ID = 1


@dataclass(frozen=True)
class Freeze:
    """The application has to freeze, and to stay frozen until its thaw.

    :param window: the window's id.
    :param timeout: seconds that the agent waits for the end of the freeze.
    :param hold: seconds from the agent's request after which the client thaws by itself.
    """

    window: str
    timeout: float
    hold: float


@dataclass(frozen=True)
class Thaw:
    """The application continues.

    :param window: the window's id.
    :param outcome: ``synced``, or why the snapshot is not consistent (docs/hook.rst, Outcomes).
    """

    window: str
    outcome: str


@dataclass(frozen=True)
class Registered:
    """The agent accepted the registration."""


@dataclass(frozen=True)
class Refused:
    """The agent refused the registration. The connection is useless.

    :param problem: why, in one line.
    """

    problem: str


@dataclass(frozen=True)
class Withdrawn:
    """The thaw is due while the freeze still runs: cancel the freeze now, if that is possible."""


Event = Registered | Refused | Freeze | Thaw | Withdrawn
"""What :meth:`Conversation.next_event` returns."""

_Id = str | int | None


class _State(Enum):
    WAITING = "waiting"
    FREEZING = "freezing"
    FROZEN = "frozen"
    THAWING = "thawing"


@dataclass
class _Window:
    """A freeze that the agent requested, and how far it is.

    :param id: the id of the request.
    :param freeze: what the freeze callback gets.
    :param deadline: when ``hold`` is over, in seconds of the caller's clock.
    :param state: how far it is.
    :param thaw: what the thaw callback gets; None until the thaw is due.
    :param thaw_ids: the ids of the requests to answer after the thaw.
    :param is_withdrawn: whether :class:`Withdrawn` was returned for it.
    """

    id: _Id
    freeze: Freeze
    deadline: float
    state: _State = _State.WAITING
    thaw: Thaw | None = None
    thaw_ids: list[_Id] = field(default_factory=list)
    is_withdrawn: bool = False


class Conversation:
    """The protocol of one connection, from ``register`` to its end.

    The caller writes :attr:`outgoing` to the connection, passes on what arrives (:meth:`receive`),
    calls :meth:`tick` at :attr:`deadline` and :meth:`end` when the connection ends. After each of
    these it calls :meth:`next_event` until that returns None. For a :class:`Freeze` or a
    :class:`Thaw` it runs the callback and reports its end (:meth:`done`); one callback runs at a
    time. The connection is finished when :attr:`is_over`.

    :param name: the name to register.
    :param options: the other parameters of ``register``.
    :raises ValueError: where an option is a number that JSON does not have.
    """

    def __init__(self, name: str, **options: object) -> None:
        self.outgoing = bytearray()
        """Bytes to send. The caller removes what it has sent."""
        self.is_ended = False
        """Whether the connection has ended."""
        self._name = name
        self._is_registering = True
        self._incoming = bytearray()
        self._answers: deque[Registered | Refused] = deque()
        self._windows: deque[_Window] = deque()
        params = {"name": name, **options}
        self._send({"id": _REGISTER_ID, "method": "register", "params": params})

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended and nothing is frozen."""
        return self.is_ended and not self._windows

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`tick`, in seconds of the caller's clock; None for never."""
        # Only the last window can be without a thaw: until it has one, no other is accepted.
        if self._windows and self._windows[-1].thaw is None:
            return self._windows[-1].deadline
        return None

    def receive(self, data: bytes, now: float) -> None:
        """Handle bytes from the agent.

        :param data: the bytes, in pieces of any size.
        :param now: the time, in seconds of a monotonic clock.
        :raises ProtocolError: where they are not allowed; the conversation has ended.
        """
        if self.is_ended:
            return
        searched = len(self._incoming)
        self._incoming += data
        try:
            while (end := self._incoming.find(b"\n", searched)) >= 0:
                self._handle(bytes(self._incoming[:end]), now)
                del self._incoming[: end + 1]
                searched = 0
            if len(self._incoming) > LONGEST:
                raise too_long()
        except ProtocolError:
            self.end()
            raise

    def tick(self, now: float) -> None:
        """Thaw if ``hold`` is over.

        :param now: the time, in seconds of the same clock as before.
        """
        if self.deadline is not None and now >= self.deadline:
            self._thaw_last("expired")

    def end(self) -> None:
        """Handle the end of the connection, from either side."""
        self.is_ended = True
        self.outgoing.clear()
        self._incoming.clear()
        if self.deadline is not None:
            self._thaw_last("broken")

    def next_event(self) -> Event | None:
        """Return the next event, once.

        :return: the event; None where there is none now.
        """
        if self._answers:
            return self._answers.popleft()
        while self._windows:
            window = self._windows[0]
            if window.state is not _State.WAITING or window.thaw is None:
                return self._next_of(window)
            # It ended before its turn. Nothing was frozen, so nothing is thawed.
            self._answer(window.id, "the window was over before the freeze began")
            self._remove(window, "")
        return None

    def done(self, problem: str = "") -> None:
        """Handle the end of the callback of the last :class:`Freeze` or :class:`Thaw`.

        :param problem: why it failed, in one line; empty for success.
        """
        window = self._windows[0]
        if window.state is _State.THAWING:
            self._remove(window, problem)
            return
        window.state = _State.FROZEN
        if window.thaw is not None:
            problem = problem or "the window was over before the freeze was done"
        self._answer(window.id, problem)

    def put_back(self) -> None:
        """Return the last event again: its callback did not start."""
        window = self._windows[0]
        is_freeze = window.state is _State.FREEZING
        window.state = _State.WAITING if is_freeze else _State.FROZEN

    def _next_of(self, window: _Window) -> Event | None:
        if window.state is _State.WAITING:
            window.state = _State.FREEZING
            return window.freeze
        if window.thaw is None or window.state is _State.THAWING:
            return None
        if window.state is _State.FROZEN:
            window.state = _State.THAWING
            return window.thaw
        is_new, window.is_withdrawn = not window.is_withdrawn, True
        return Withdrawn() if is_new else None

    def _thaw_last(self, outcome: str) -> None:
        window = self._windows[-1]
        window.thaw = Thaw(window.freeze.window, outcome)

    def _remove(self, window: _Window, problem: str) -> None:
        self._windows.remove(window)
        for each in window.thaw_ids:
            self._answer(each, problem)

    def _handle(self, line: bytes, now: float) -> None:
        message = parse(line)
        method = message.get("method")
        if method is None:
            self._handle_answer(message)
        elif not isinstance(method, str):
            raise ProtocolError("the method of a request is not a string")
        # This client subscribes to no notifications, and ignores those of later agents.
        elif "id" in message:
            self._handle_request(method, message, now)

    def _handle_answer(self, message: dict[str, Any]) -> None:
        # The agent leaves out the id where it could not read the request.
        if not self._is_registering or message.get("id") not in (_REGISTER_ID, None):
            return
        if "result" not in message and "error" not in message:
            raise ProtocolError("a message is neither a request nor an answer")
        self._is_registering = False
        if "error" not in message:
            self._answers.append(Registered())
            return
        error = message["error"]
        text = error.get("message") if isinstance(error, dict) else error
        problem = one_line(f"the agent refuses to register {self._name}: {text}")
        self._answers.append(Refused(problem))

    def _handle_request(self, method: str, message: dict[str, Any], now: float) -> None:
        identity, params = message["id"], message.get("params", {})
        # In Python True is an integer too.
        if isinstance(identity, bool) or not isinstance(identity, str | int | None):
            raise ProtocolError("the id of a request is neither a string nor an integer")
        if method not in ("freeze", "thaw"):
            text = f"this client has no method {one_line(method)}"
            self._send({"id": identity, "error": {"code": UNKNOWN_METHOD, "message": text}})
            return
        if not isinstance(params, dict) or params.get("name") != self._name:
            raise ProtocolError(f"the params of {method} do not have the registered name")
        window = text_param(params, "window")
        if method == "thaw":
            self._handle_thaw(identity, Thaw(window, text_param(params, "outcome")))
        else:
            timeout = seconds_param(params, "timeout")
            hold = min(seconds_param(params, "hold"), LONGEST_HOLD)
            self._handle_freeze(_Window(identity, Freeze(window, timeout, hold), now + hold))

    def _handle_freeze(self, window: _Window) -> None:
        if self.deadline is None:
            self._windows.append(window)
        else:
            last = self._windows[-1].freeze.window
            self._answer(window.id, f"window {one_line(last)} has not been thawed yet")

    def _handle_thaw(self, identity: _Id, thaw: Thaw) -> None:
        for window in self._windows:
            if window.freeze.window == thaw.window:
                window.thaw = window.thaw or thaw
                window.thaw_ids.append(identity)
                return
        # It thawed by itself, or never froze.
        self._answer(identity, "")

    def _answer(self, identity: _Id, problem: str) -> None:
        if problem:
            self._send({"id": identity, "error": {"code": CALLBACK_FAILED, "message": problem}})
        else:
            self._send({"id": identity, "result": {}})

    def _send(self, members: dict[str, object]) -> None:
        if not self.is_ended:
            message = {"jsonrpc": "2.0", **members}
            line = json.dumps(message, allow_nan=False, separators=(",", ":"))
            self.outgoing += f"{line}\n".encode()
