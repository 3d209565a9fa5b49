"""Lets an application take part in snapshots: it comes to rest before one and goes on after it.

::

    from xohook.client import Freeze, Registration, Thaw

    def freeze(asked: Freeze) -> None:
        ...  # write out what is in memory, and write no more until the thaw

    def thaw(told: Thaw) -> None:
        ...  # go on; told.outcome is "synced" where all went well

    with Registration("orders", freeze=freeze, thaw=thaw):
        serve_for_ever()

:class:`AsyncRegistration` is the same for asyncio, with coroutine functions;
:mod:`xohook.txclient` has one for Twisted. Each registers by itself, again and again where the
agent is not there, restarts or refuses; none takes the application down or keeps it from ending.

After each call of ``freeze`` there is exactly one of ``thaw``, even where ``freeze`` raised. The
client makes it by itself where the connection to the agent ends first (``broken``) or the agent is
silent for too long (``expired``). A ``freeze`` that raises fails the window, with the exception as
the reason. This file needs Python's standard library alone, and speaks ``docs/protocol.rst``.

The logger ``xohook.client`` gets a line at ``INFO`` for each registration, the first and every
later one, and one at ``WARNING`` when the agent is lost or does not take the registration.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

    # The standard library has it from Python 3.11 on.
    from typing_extensions import Self

CONTROL = "/run/xohook/control.sock"
"""Where the agent's socket is, unless ``XOHOOK_CONTROL`` says otherwise (docs/protocol.rst)."""

LONGEST = 16 * 1024 * 1024
"""Bytes of a message from the agent, its end not counted (docs/protocol.rst, Messages)."""

LONGEST_TEXT = 500
"""Characters of an exception that are told to the agent."""

FIRST_PAUSE = 0.1
"""Seconds, at most, from a failure to the next attempt; doubled from each attempt to the next."""

LONGEST_PAUSE = 5.0
"""Seconds that lie, at most, between two attempts to register."""

LONGEST_JOIN = 1.0
"""Seconds that the end of a :class:`Registration` is waited for."""

CALLBACK_FAILED = -32000
"""The code of the error that answers where a callback failed (docs/protocol.rst, Errors)."""

UNKNOWN_METHOD = -32601
"""The code of the error that answers an unknown method (docs/protocol.rst, Errors)."""

_LONGEST_TIME = 1_000_000.0
"""Seconds that a ``timeout`` or a ``hold`` may be: poll(2) counts milliseconds in an ``int``."""

_READ = 64 * 1024
_REGISTER_ID = 1
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Freeze:
    """The application is to come to rest, and to stay so until its thaw.

    :param window: the window's id.
    :param timeout: seconds that the agent waits for the end of the freeze.
    :param hold: seconds from the agent's request after which the client thaws by itself.
    """

    window: str
    timeout: float
    hold: float


@dataclass(frozen=True)
class Thaw:
    """The application goes on.

    :param window: the window's id.
    :param outcome: ``synced``, or why the snapshot is not to be trusted (docs/hook.rst, Outcomes).
    """

    window: str
    outcome: str


@dataclass(frozen=True)
class Registered:
    """The agent has taken the registration."""


@dataclass(frozen=True)
class Refused:
    """The agent does not take the registration: the connection is of no use.

    :param problem: why, in one line.
    """

    problem: str


@dataclass(frozen=True)
class Withdrawn:
    """The thaw is due while the freeze still runs: who is to cancel a freeze does it now."""


Event = Registered | Refused | Freeze | Thaw | Withdrawn
"""What a :class:`Conversation` has to tell."""

_Id = str | int | None


class ProtocolError(Exception):
    """What the agent said makes no sense; the text says why. The connection is to be closed."""


class _Phase(Enum):
    WAITING = "waiting"
    FREEZING = "freezing"
    FROZEN = "frozen"
    THAWING = "thawing"


@dataclass
class _Window:
    """A freeze that was asked for and what has become of it.

    :param id: the request's.
    :param freeze: what the callback is given.
    :param deadline: when ``hold`` has passed, in seconds of the caller's clock.
    :param phase: how far it has come.
    :param thaw: what it ends with; None until that is known.
    :param thaw_ids: the requests that are answered when it has thawed.
    :param is_withdrawn: whether it was told that its freeze is not wanted any more.
    """

    id: _Id
    freeze: Freeze
    deadline: float
    phase: _Phase = _Phase.WAITING
    thaw: Thaw | None = None
    thaw_ids: list[_Id] = field(default_factory=list)
    is_withdrawn: bool = False


class Conversation:
    """What is said over one connection. Pure: bytes, times and the ends of callbacks go in.

    Whoever has the connection writes :attr:`outgoing` to it and hands over what comes
    (:meth:`receive`), that the time is :attr:`deadline` (:meth:`tick`) and that the connection has
    ended (:meth:`end`); after each of these it asks :meth:`next_event` for all there is. The
    callback of a :class:`Freeze` or a :class:`Thaw` runs then, until :meth:`done`, one at a time.
    The connection is done with when :attr:`is_over`.

    :param name: the name to register.
    :param wishes: the other parameters of ``register``.
    :raises ValueError: where a wish is a number that JSON does not have.
    """

    def __init__(self, name: str, **wishes: object) -> None:
        self.outgoing = bytearray()
        """What is to be written; whoever has written some of it takes that away."""
        self.is_ended = False
        """Whether the connection has ended."""
        self._name = name
        self._is_registering = True
        self._rest = bytearray()
        self._news: deque[Registered | Refused] = deque()
        self._windows: deque[_Window] = deque()
        params = {"name": name, **wishes}
        self._send({"id": _REGISTER_ID, "method": "register", "params": params})

    @property
    def is_over(self) -> bool:
        """Whether the connection has ended and nothing is frozen any more."""
        return self.is_ended and not self._windows

    @property
    def deadline(self) -> float | None:
        """When to :meth:`tick` next, in seconds of the caller's clock; None where not at all."""
        # Only the last can be without a thaw: until it has one, no other is begun.
        if self._windows and self._windows[-1].thaw is None:
            return self._windows[-1].deadline
        return None

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the agent.

        :param data: the bytes, in whatever pieces they come.
        :param now: the time, in seconds of a monotonic clock.
        :raises ProtocolError: where they make no sense; the conversation has ended.
        """
        if self.is_ended:
            return
        searched = len(self._rest)
        self._rest += data
        try:
            while (end := self._rest.find(b"\n", searched)) >= 0:
                self._take(bytes(self._rest[:end]), now)
                del self._rest[: end + 1]
                searched = 0
            if len(self._rest) > LONGEST:
                raise ProtocolError(f"a message is longer than {LONGEST} bytes")
        except ProtocolError:
            self.end()
            raise

    def tick(self, now: float) -> None:
        """See whether ``hold`` has passed.

        :param now: the time, in seconds of the same clock as before.
        """
        if self.deadline is not None and now >= self.deadline:
            self._thaw_last("expired")

    def end(self) -> None:
        """Take note that the connection has ended, from whichever side."""
        self.is_ended = True
        self.outgoing.clear()
        self._rest.clear()
        if self.deadline is not None:
            self._thaw_last("broken")

    def next_event(self) -> Event | None:
        """Tell what is next, once.

        :return: the event, None where there is none for now.
        """
        if self._news:
            return self._news.popleft()
        while self._windows:
            window = self._windows[0]
            if window.phase is not _Phase.WAITING or window.thaw is None:
                return self._next_of(window)
            # It was over before its turn came: as nothing was frozen, nothing is to be thawed.
            self._answer(window.id, "the window was over before the freeze began")
            self._leave_behind(window, "")
        return None

    def done(self, problem: str = "") -> None:
        """Take note that the callback of the last :class:`Freeze` or :class:`Thaw` has ended.

        :param problem: how it failed, in one line; empty where it did not.
        """
        window = self._windows[0]
        if window.phase is _Phase.THAWING:
            self._leave_behind(window, problem)
            return
        window.phase = _Phase.FROZEN
        if window.thaw is not None:
            problem = problem or "the window was over before the freeze was done"
        self._answer(window.id, problem)

    def put_back(self) -> None:
        """Tell the last event again: its callback was not begun after all."""
        window = self._windows[0]
        is_freeze = window.phase is _Phase.FREEZING
        window.phase = _Phase.WAITING if is_freeze else _Phase.FROZEN

    def _next_of(self, window: _Window) -> Event | None:
        if window.phase is _Phase.WAITING:
            window.phase = _Phase.FREEZING
            return window.freeze
        if window.thaw is None or window.phase is _Phase.THAWING:
            return None
        if window.phase is _Phase.FROZEN:
            window.phase = _Phase.THAWING
            return window.thaw
        is_news, window.is_withdrawn = not window.is_withdrawn, True
        return Withdrawn() if is_news else None

    def _thaw_last(self, outcome: str) -> None:
        window = self._windows[-1]
        window.thaw = Thaw(window.freeze.window, outcome)

    def _leave_behind(self, window: _Window, problem: str) -> None:
        self._windows.remove(window)
        for each in window.thaw_ids:
            self._answer(each, problem)

    def _take(self, line: bytes, now: float) -> None:
        message = _message(line)
        method = message.get("method")
        if method is None:
            self._take_answer(message)
        elif not isinstance(method, str):
            raise ProtocolError("the method of a request is not a string")
        # What wants no answer is news that this client did not ask for.
        elif "id" in message:
            self._take_request(method, message, now)

    def _take_answer(self, message: dict[str, Any]) -> None:
        # The agent leaves out the id where it could make no sense of the request.
        if not self._is_registering or message.get("id") not in (_REGISTER_ID, None):
            return
        if "result" not in message and "error" not in message:
            raise ProtocolError("a message is neither a request nor an answer")
        self._is_registering = False
        if "error" not in message:
            self._news.append(Registered())
            return
        error = message["error"]
        text = error.get("message") if isinstance(error, dict) else error
        self._news.append(Refused(_one_line(f"the agent refuses to register {self._name}: {text}")))

    def _take_request(self, method: str, message: dict[str, Any], now: float) -> None:
        identity, params = message["id"], message.get("params", {})
        # In Python True is an integer too.
        if isinstance(identity, bool) or not isinstance(identity, str | int | None):
            raise ProtocolError("the id of a request is neither a string nor an integer")
        if method not in ("freeze", "thaw"):
            text = f"this client knows no method {_one_line(method)}"
            self._send({"id": identity, "error": {"code": UNKNOWN_METHOD, "message": text}})
            return
        if not isinstance(params, dict) or params.get("name") != self._name:
            raise ProtocolError(f"the params of {method} do not name what is registered")
        window = _text_of(params, "window")
        if method == "thaw":
            self._take_thaw(identity, Thaw(window, _text_of(params, "outcome")))
        else:
            freeze = Freeze(window, _time_of(params, "timeout"), _time_of(params, "hold"))
            self._take_freeze(_Window(identity, freeze, now + freeze.hold))

    def _take_freeze(self, window: _Window) -> None:
        if self.deadline is None:
            self._windows.append(window)
        else:
            last = self._windows[-1].freeze.window
            self._answer(window.id, f"window {_one_line(last)} has not been thawed yet")

    def _take_thaw(self, identity: _Id, thaw: Thaw) -> None:
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


def _message(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST:
        raise ProtocolError(f"a message is longer than {LONGEST} bytes")
    try:
        message = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        # Wrong JSON, wrong UTF-8, a number of too many digits, or nesting that is too deep.
        raise ProtocolError(f"a message is not JSON in UTF-8: {error}") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolError("a message is not one of JSON-RPC 2.0")
    return message


def _text_of(params: dict[str, Any], name: str) -> str:
    text = params.get(name)
    if not isinstance(text, str):
        raise ProtocolError(f"{name} is not a string")
    return text


def _time_of(params: dict[str, Any], name: str) -> float:
    seconds = params.get(name)
    # In Python True is a number too, and NaN is not within any bounds.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ProtocolError(f"{name} is not a number")
    if not 0 <= seconds <= _LONGEST_TIME:
        raise ProtocolError(f"{name} is not between 0 and {_LONGEST_TIME:.0f} seconds")
    return float(seconds)


def _one_line(text: str) -> str:
    cut = " ".join(text[:LONGEST_TEXT].split())
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
    return shown[:LONGEST_TEXT]


def told(error: BaseException) -> str:
    """Tell an exception in one printable line.

    :param error: the exception.
    :return: its type and its text, cut to 500 characters; the text alone where the exception has an
        attribute ``says_all`` that is true.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an application's exception may fail to tell itself.
        text = "it cannot tell why"
    kind = type(error).__name__
    if text and getattr(error, "says_all", False):
        return _one_line(text)
    return _one_line(f"{kind}: {text}" if text else kind)


def refuse_unrun(returned: object) -> None:
    """See that a callback has done its work, and not returned the work to be done.

    :param returned: what it returned.
    :raises TypeError: where that is a coroutine, a generator or the like.
    """
    if isinstance(returned, Generator | AsyncGenerator) or hasattr(returned, "__await__"):
        if isinstance(returned, Coroutine | Generator):
            returned.close()
        kind = type(returned).__name__
        raise TypeError(
            f"the callback returned a {kind}, which nobody runs: use AsyncRegistration or "
            "xohook.txclient for coroutines, and look for a decorator that is missing"
        )


_sockets: WeakSet[socket.socket] = WeakSet()
_running: WeakSet[Registration] = WeakSet()


def close_in_children(connection: socket.socket) -> None:
    """Have a connection closed in processes that are forked: it ends when this process ends.

    :param connection: the connection's socket.
    """
    _sockets.add(connection)


def _leave_to_parent() -> None:
    for connection in list(_sockets):
        connection.close()
    for registration in list(_running):
        registration._abandon()


def _end_all() -> None:
    running = list(_running)
    for registration in running:
        registration._hang_up()
    deadline = time.monotonic() + LONGEST_JOIN
    for registration in running:
        registration._join(max(0.0, deadline - time.monotonic()))


os.register_at_fork(after_in_child=_leave_to_parent)
atexit.register(_end_all)

_Returned = TypeVar("_Returned")


class Applicant(Generic[_Returned]):
    """What all forms of a registration are: a name, two callbacks, and how it stands with them.

    :param name: the application's name, of ``[A-Za-z0-9._-]{1,64}``.
    :param freeze: brings the application to rest; it has ended when that is so.
    :param thaw: lets it go on.
    :param order: 0 to 999, lower ones freeze first; None for the agent's default, 20. This and the
        next three give way to what the agent's configuration says.
    :param freeze_timeout: seconds that a freeze may take; None for the agent's default, 30.
    :param thaw_timeout: seconds that a thaw may take; None for the agent's default, 30.
    :param on_failure: whether a freeze that fails ends the window (``abort``) or not
        (``continue``); None for the agent's default, ``abort``.
    :param control: the agent's socket; None for that of ``XOHOOK_CONTROL``, or else
        ``/run/xohook/control.sock``.
    :raises ValueError: where the name is none, or a timeout no number that JSON has.
    """

    # The connection; each form has its own kind.
    _line: Any = None

    def __init__(
        self,
        name: str,
        *,
        freeze: Callable[[Freeze], _Returned],
        thaw: Callable[[Thaw], _Returned],
        order: int | None = None,
        freeze_timeout: float | None = None,
        thaw_timeout: float | None = None,
        on_failure: Literal["abort", "continue"] | None = None,
        control: str | os.PathLike[str] | None = None,
    ) -> None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name for an application: use {_NAME.pattern}")
        wishes = {
            "order": order,
            "freeze_timeout": freeze_timeout,
            "thaw_timeout": thaw_timeout,
            "on_failure": on_failure,
        }
        self._app = name
        self._wishes = {wish: value for wish, value in wishes.items() if value is not None}
        self._callbacks = freeze, thaw
        self._control = os.fspath(control or os.environ.get("XOHOOK_CONTROL") or CONTROL)
        self._problem = "it has not been started"
        self._logged: set[str] = set()
        self._pause = self._next_pause = FIRST_PAUSE
        self._since = 0.0
        self._was_registered = False
        self._is_closed = False
        # What JSON does not have is a mistake of the caller's, to be told now.
        self._converse()
        self._prepare()

    @property
    def registered(self) -> bool:
        """Whether the application is registered now."""
        return not self.problem

    @property
    def problem(self) -> str:
        """Why the application is not registered now; empty where it is."""
        if self._is_closed:
            return "it has been closed"
        # A connection that has ended may still have its thaw to wait for.
        return self._problem or (self._line.problem if self._line is not None else "")

    def _prepare(self) -> None:
        """Make what one form needs besides."""

    def _begin(self) -> None:
        self._problem = "the agent has not answered yet"

    def _converse(self) -> Conversation:
        return Conversation(self._app, **self._wishes)

    def _call(self, event: Freeze | Thaw) -> _Returned:
        freeze, thaw = self._callbacks
        return freeze(event) if isinstance(event, Freeze) else thaw(event)

    def _explain(self, error: BaseException) -> str:
        """Tell why no connection came about."""
        hint = ""
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            hint = ": is the agent running, and is this what its option control says?"
        elif isinstance(error, PermissionError):
            hint = ": is this user in the agent's control_group?"
        why = getattr(error, "strerror", None) or error
        return f"cannot connect to the agent at {self._control} ({why}){hint}"

    def _bemoan(self, event: Freeze | Thaw, error: BaseException) -> str:
        """Log what a callback raised; tell it in a line."""
        phase = type(event).__name__.lower()
        self._say(logging.ERROR, f"{self._app}: the {phase} of window {event.window} failed", error)
        return told(error)

    def _settle(self, now: float) -> None:
        """Take note that it is registered."""
        self._since = now
        self._logged.clear()
        self._problem = ""
        again, self._was_registered = " again" if self._was_registered else "", True
        self._say(logging.INFO, f"{self._app}: registered{again} with the agent at {self._control}")

    def _fail(self, problem: str, now: float) -> float:
        """Take note that it is not registered; tell how long to wait for the next attempt."""
        is_lost = not self._problem
        # Pauses get longer for an agent that ends again at once, too.
        if is_lost and now - self._since > self._pause:
            self._next_pause = FIRST_PAUSE
        self._problem = problem
        if problem not in self._logged and not self._is_closed:
            self._logged.add(problem)
            what = "lost the agent" if is_lost else "not registered"
            self._say(logging.WARNING, f"{self._app}: {what}: {problem}; trying again")
        self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, LONGEST_PAUSE)
        # So that not all applications come at the same moment.
        return self._pause * (0.5 + os.urandom(1)[0] / 510)

    def _say(self, level: int, text: str, error: BaseException | None = None) -> None:
        """Log a line, with the traceback of an exception where one is given."""
        # A handler that cannot write, for a full disk perhaps, must leave nobody frozen.
        with contextlib.suppress(Exception):
            _log.log(level, "%s", text, exc_info=error)


class _Line:
    """A connection to the agent, which never blocks, and what is said over it.

    :param path: the agent's socket.
    :param conversation: what is said.
    :raises OSError: where no connection comes about.
    """

    def __init__(self, path: str, conversation: Conversation) -> None:
        self.conversation = conversation
        self.problem = ""
        """Why the connection has ended; empty while it has not."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        close_in_children(self.socket)
        try:
            self.socket.setblocking(False)
            self.socket.connect(path)
        except BaseException:
            self.socket.close()
            raise

    def read(self) -> None:
        """Take some of what has come."""
        try:
            data = self.socket.recv(_READ)
            self.conversation.receive(data, time.monotonic())
        except BlockingIOError:
            return
        except ProtocolError as error:
            self.hang_up(f"what the agent says makes no sense: {error}")
        except OSError as error:
            self.hang_up(f"the connection to the agent has ended: {error.strerror}")
        else:
            if not data:
                self.hang_up("the agent has closed the connection")

    def write(self) -> None:
        """Write some of what is to be sent."""
        outgoing = self.conversation.outgoing
        if not outgoing:
            return
        try:
            # An application may have given SIGPIPE back its default, which is its end.
            del outgoing[: self.socket.send(outgoing, socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            return
        except OSError:
            # What the agent said before its end has yet to be read.
            outgoing.clear()

    def hang_up(self, problem: str) -> None:
        """End the connection, from this side or because it has ended already.

        :param problem: why.
        """
        self.problem = self.problem or problem
        self.conversation.end()
        self.shut()

    def shut(self) -> None:
        """End the connection, from any thread; :meth:`read` finds it ended."""
        # It may have ended already.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        # An application that becomes a daemon may have closed all descriptors, this one with them.
        with contextlib.suppress(OSError):
            self.socket.close()


class Registration(Applicant[object]):
    """The plain form: the callbacks run on a thread that this class starts and ends.

    It is a context manager, and used once. A freeze cannot be cancelled: where the thaw comes due
    while it runs, it is let run to its end first.
    """

    _thread: threading.Thread | None = None
    _line: _Line | None = None

    def _prepare(self) -> None:
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to register, and wait for nothing.

        :raises RuntimeError: where it has been started or closed before.
        """
        if self._thread is not None or self._is_closed:
            raise RuntimeError("a registration is started once: make another one")
        self._begin()
        thread = threading.Thread(target=self._run, name=f"xohook {self._app}", daemon=True)
        _running.add(self)
        thread.start()
        self._thread = thread

    def close(self) -> None:
        """End the registration; what is frozen is thawed.

        The end is waited for a second at most, and not at all within a callback. A program that
        ends without this call does so as if it had made it.
        """
        self._hang_up()
        self._join(LONGEST_JOIN)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the application is registered, or the registration closed.

        :param timeout: seconds to wait at most; None for as long as it takes.
        :return: whether it is registered.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.registered or self._is_closed, timeout)
        return self.registered

    def _hang_up(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._line is not None:
                # The thread finds that the connection has ended, and comes to its end by that.
                self._line.shut()

    def _join(self, timeout: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _abandon(self) -> None:
        """Do nothing any more, in the child of a fork: the registration is its parent's."""
        # Who held the lock does not run in the child.
        self._changed = threading.Condition()
        self._line = None
        self._is_closed = True

    def _run(self) -> None:
        while not self._is_closed:
            pause = self._fail(self._attempt(), time.monotonic())
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, pause)

    def _attempt(self) -> str:
        """Register, and stay until the connection ends; tell why it ended."""
        try:
            line = _Line(self._control, self._converse())
        except OSError as error:
            return self._explain(error)
        with self._changed:
            self._line = line
            if self._is_closed:
                line.shut()
        try:
            self._attend(line)
        except Exception as error:  # noqa: BLE001 - a fault of this file leaves nothing frozen.
            line.hang_up(f"the client has failed: {told(error)}")
            self._attend(line)
        finally:
            with self._changed:
                self._line = None
                line.close()
        return line.problem

    def _attend(self, line: _Line) -> None:
        conversation = line.conversation
        while not conversation.is_over:
            event = conversation.next_event()
            if isinstance(event, Freeze | Thaw):
                problem = self._problem_of(event)
                if self._line is not line:
                    # The callback forked, and this is the child.
                    return
                try:
                    # Before anything is answered: the window may have ended meanwhile.
                    line.read()
                    conversation.tick(time.monotonic())
                finally:
                    conversation.done(problem)
            elif isinstance(event, Refused):
                line.hang_up(event.problem)
            elif isinstance(event, Registered):
                self._settle(time.monotonic())
                with self._changed:
                    self._changed.notify_all()
            elif event is None:
                self._await_more(line)

    def _problem_of(self, event: Freeze | Thaw) -> str:
        try:
            refuse_unrun(self._call(event))
        except BaseException as error:  # noqa: BLE001 - the application goes on, whatever it was.
            return self._bemoan(event, error)
        return ""

    def _await_more(self, line: _Line) -> None:
        line.write()
        deadline = line.conversation.deadline
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        # Unlike select(2), poll(2) takes descriptors above 1,023.
        poll = select.poll()
        wanted = select.POLLOUT if line.conversation.outgoing else 0
        poll.register(line.socket, select.POLLIN | wanted)
        poll.poll(timeout)
        line.read()
        line.conversation.tick(time.monotonic())


class AsyncRegistration(Applicant[Awaitable[object]]):
    """The form for asyncio: the callbacks are coroutine functions.

    It is an asynchronous context manager, and used once. Where the thaw comes due while a freeze
    runs, that is let run to its end first; the end of the registration alone cancels it.
    """

    cancel_freeze = False
    """Whether to cancel the freeze then: for one that ends by it. What runs in a thread does not,
    and would come to rest after its thaw."""

    _task: asyncio.Task[None] | None = None
    _callback: asyncio.Task[str] | None = None
    _overdue: asyncio.Task[str] | None = None
    _timer: asyncio.TimerHandle | None = None
    _line: _Line

    def _prepare(self) -> None:
        import asyncio

        self._changed = asyncio.Event()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to register, in the event loop that runs, and wait for nothing.

        :raises RuntimeError: where it has been started or closed before, or no event loop runs.
        """
        import asyncio

        if self._task is not None or self._is_closed:
            raise RuntimeError("a registration is started once: make another one")
        self._loop = asyncio.get_running_loop()
        self._begin()
        self._task = self._loop.create_task(self._run(), name=f"xohook {self._app}")

    async def close(self) -> None:
        """End the registration; what is frozen is thawed.

        The end is waited for, but within a callback. To cancel this cancels the thaw.
        """
        import asyncio

        self._is_closed = True
        self._changed.set()
        if self._task is None:
            return
        self._task.cancel()
        if asyncio.current_task() is self._callback:
            return
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the application is registered, or the registration closed.

        :param timeout: seconds to wait at most; None for as long as it takes.
        :return: whether it is registered.
        """
        import asyncio

        async def settled() -> None:
            while not (self.registered or self._is_closed):
                await self._changed.wait()

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(settled(), timeout)
        return self.registered

    async def _run(self) -> None:
        import asyncio

        while True:
            pause = self._fail(await self._attempt(), time.monotonic())
            await asyncio.sleep(pause)

    async def _attempt(self) -> str:
        """Register, and stay until the connection ends; tell why it ended."""
        try:
            self._line = line = _Line(self._control, self._converse())
        except OSError as error:
            return self._explain(error)
        self._over.clear()
        self._loop.add_reader(line.socket, self._read)
        try:
            self._go_on()
            await self._until_over()
        finally:
            self._unwatch()
            line.close()
            if not self._is_closed:
                self._changed.clear()
        return line.problem

    async def _until_over(self) -> None:
        import asyncio

        cancelled: asyncio.CancelledError | None = None
        while not self._over.is_set():
            try:
                await self._over.wait()
            except asyncio.CancelledError as error:
                # Once is a request to thaw and end; to insist cancels the thaw.
                if cancelled is not None and self._callback is not None:
                    self._callback.cancel()
                cancelled = error
                self._line.hang_up("it has been closed")
                self._go_on()
                if self._overdue is not None:
                    self._overdue.cancel()
        if cancelled is not None:
            raise cancelled

    def _read(self) -> None:
        self._line.read()
        self._go_on()

    def _go_on(self) -> None:
        """Act on whatever has changed."""
        conversation = self._line.conversation
        conversation.tick(time.monotonic())
        while (event := conversation.next_event()) is not None:
            self._take(event)
        self._line.write()
        self._watch()
        if conversation.is_ended and not self._is_closed:
            self._changed.clear()
        if conversation.is_over:
            self._over.set()

    def _take(self, event: Event) -> None:
        if isinstance(event, Freeze | Thaw):
            self._callback = self._loop.create_task(self._problem_of(event))
            self._callback.add_done_callback(self._return)
        elif isinstance(event, Refused):
            self._line.hang_up(event.problem)
        elif isinstance(event, Registered):
            self._settle(time.monotonic())
            self._changed.set()
        elif self._callback is not None and self.cancel_freeze:
            self._callback.cancel()
        else:
            self._overdue = self._callback

    async def _problem_of(self, event: Freeze | Thaw) -> str:
        import asyncio
        import inspect

        try:
            returned = self._call(event)
            if not inspect.isawaitable(returned):
                kind = type(returned).__name__
                raise TypeError(f"the callback is no coroutine function: it returned a {kind}")
            await returned
        except KeyboardInterrupt:
            # It is not the callback's: on Python 3.10 it comes wherever the event loop is.
            raise
        except asyncio.CancelledError as error:
            return told(error)
        except BaseException as error:  # noqa: BLE001 - the application goes on, whatever it was.
            return self._bemoan(event, error)
        return ""

    def _return(self, task: asyncio.Task[str]) -> None:
        self._callback = None
        if task.cancelled():
            # It was so before its first step: the callback has not been called.
            self._line.conversation.put_back()
        else:
            error = task.exception()
            self._line.conversation.done(told(error) if error else task.result())
        self._go_on()

    def _watch(self) -> None:
        """Have the event loop look for what can happen next, and for nothing else."""
        conversation = self._line.conversation
        if conversation.is_ended:
            self._unwatch()
            return
        if conversation.outgoing:
            self._loop.add_writer(self._line.socket, self._go_on)
        else:
            self._loop.remove_writer(self._line.socket)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if conversation.deadline is not None:
            left = max(0.0, conversation.deadline - time.monotonic())
            self._timer = self._loop.call_later(left, self._go_on)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._line.socket.fileno() >= 0:
            self._loop.remove_reader(self._line.socket)
            self._loop.remove_writer(self._line.socket)
