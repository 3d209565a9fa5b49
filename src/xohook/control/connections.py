"""The control socket's connections: JSON-RPC both ways, with its bounds.

The bounds are those of ``docs/protocol.rst``, Messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

from twisted.internet import protocol
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xohook.control.apps import Apps, Registration, is_own
from xohook.control.methods import Methods
from xohook.control.socket import Peer, peer_of
from xohook.control.turns import Turns
from xohook.control.wire import (
    OWN_FAULT,
    TOO_MANY,
    Decoder,
    Error,
    Malformed,
    Message,
    Notification,
    Request,
    Result,
    encode,
)
from xohook.errors import CallError, ParticipantError
from xohook.text import printable

BACKLOG = 8 * 1024 * 1024
"""Bytes that wait for a client which does not read, when the next message is one too many
(docs/protocol.rst, Messages)."""

BACKLOG_OF_ALL = 64 * 1024 * 1024
"""The same for all connections together."""

AT_ONCE = 64
"""Answers and notifications of a connection that are taken before others have their turn; of
requests, which cost more, it is one."""

_LONG_ANSWERS = ("status", "subscribe")

CLOSE_PATIENCE = 5.0
"""Seconds that a closed connection has for the last of what was written to it."""

RESERVED = 32
"""Connections that are kept for root and the agent's own user, so that ``xohook status`` and
``xohook thaw`` find one."""

_log = Logger()


def _tell_of_fault(fault: Failure) -> None:
    _log.failure("a fault of xohook itself", fault)


@implementer(IHalfCloseableProtocol, IPushProducer)
class ControlChannel(protocol.Protocol):
    """One connection.

    :param control: whose it is.
    """

    transport: Any

    def __init__(self, control: Control) -> None:
        self._control = control
        self._decoder = Decoder()
        self._messages: Iterator[Message | Malformed] = iter(())
        self._calls: dict[int, Deferred[Any]] = {}
        self._numbers = count(1)
        self._waiting: list[bytes] = []
        self._backlog = 0
        self._is_full = False
        self.is_open = False
        self.peer = Peer(-1, -1)
        self.registrations: dict[str, Registration] = {}
        self.unsubscribe: Callable[[], None] | None = None
        self._abort: IDelayedCall | None = None

    # What comes in.

    def connectionMade(self) -> None:
        """See who it is, and whether there is room."""
        self.peer = peer_of(self.transport.socket)
        self.is_open = True
        self.transport.registerProducer(self, True)
        if not self._control.admit(self):
            self._send(Error(None, TOO_MANY, "there are too many connections: try again later"))
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let the apps of this connection go: they thaw themselves.

        :param reason: why it was lost.
        """
        self.is_open = False
        self._count(-self._backlog)
        self._control.forget(self)
        if self._abort is not None:
            self._abort.cancel()
        if self.unsubscribe is not None:
            self.unsubscribe()
        ended, self.registrations = self.registrations, {}
        for registration in ended.values():
            self._control.methods.forget(registration)
            self._control.apps.unregister(registration)
            registration.app.end()
        # The failure of one may have others cancelled.
        while self._calls:
            _, call = self._calls.popitem()
            call.errback(ParticipantError("its connection ended before it answered"))

    def dataReceived(self, data: bytes) -> None:
        """Take what came. Requests are served one after the other, others in between.

        :param data: the bytes.
        """
        self._messages = self._decoder.feed(data)
        self._control.turns.serve(self)

    def readConnectionLost(self) -> None:
        """Close the connection once what was written is sent: nothing more will come."""
        self.close()

    def writeConnectionLost(self) -> None:
        """Do nothing: this end is never closed alone."""

    def wait(self) -> None:
        """Read nothing for now. The kernel keeps what is not read, within its own bounds."""
        self.transport.pauseProducing()

    def serve(self) -> bool:
        """Take one request, or several answers.

        :return: whether it is to be called again.
        """
        for number, message in enumerate(self._messages, 1):
            if not self.is_open:
                return False
            is_request = isinstance(message, Request | Malformed)
            if isinstance(message, Result | Error):
                self._take_answer(message)
            elif isinstance(message, Request | Malformed):
                self._answer(message)
            if is_request or number == AT_ONCE:
                return True
        if self._decoder.is_over:
            self.close()
        elif self.is_open:
            self.transport.resumeProducing()
        return False

    def _answer(self, request: Request | Malformed) -> None:
        if self._is_full and self._is_too_much():
            self._drop_reader()
            return
        if isinstance(request, Malformed):
            self._send(request.answer)
            return

        def refuse(failure: Failure) -> None:
            error = failure.value
            if isinstance(error, CallError):
                self._send(Error(request.id, error.code, str(error), error.data))
            else:
                _log.failure("a fault of xohook itself", failure)
                self._send(Error(request.id, OWN_FAULT, "a fault of xohook itself"))

        is_long = request.method in _LONG_ANSWERS and not is_own(self.peer)
        if is_long and self._control.backlog > BACKLOG_OF_ALL:
            problem = "too much waits for clients that do not read: try again later"
            self._send(Error(request.id, TOO_MANY, problem))
            return
        call = self._control.methods.call
        answered = maybeDeferred(call, self, request.method, request.params)
        answered.addCallback(lambda value: self._send(Result(request.id, value)))
        answered.addErrback(refuse)
        answered.addErrback(_tell_of_fault)

    def _take_answer(self, answer: Result | Error) -> None:
        # A late one has no call any more.
        call = self._calls.pop(answer.id, None) if isinstance(answer.id, int) else None
        if call is None:
            return
        if isinstance(answer, Result):
            call.callback(answer.value)
        else:
            problem = printable(answer.message) or "it refused, and gave no reason"
            call.errback(ParticipantError(problem))

    # What goes out.

    def call(self, method: str, params: Mapping[str, Any]) -> Deferred[Any]:
        """Ask the app at the other end for something.

        :param method: what.
        :param params: the parameters by name.
        :return: as :meth:`xohook.participants.app.Remote.call` has it.
        """
        number = next(self._numbers)

        def forget(_: object) -> None:
            self._calls.pop(number, None)

        call: Deferred[Any] = Deferred(forget)
        if self.is_open:
            self._calls[number] = call
            self._send(Request(number, method, params))
        else:
            call.errback(ParticipantError("its connection has ended"))
        return call

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell the other end something that wants no answer.

        :param method: what.
        :param params: the parameters by name.
        """
        self._send(Notification(method, params))

    def close(self) -> None:
        """Close the connection, for good if the other end does not read."""
        if self.is_open and self._abort is None:
            self._abort = self._control.clock.callLater(CLOSE_PATIENCE, self._drop)
            self.transport.loseConnection()

    def _drop(self) -> None:
        if self._abort is not None and self._abort.active():
            self._abort.cancel()
        self._abort = None
        self.is_open = False
        self._waiting = []
        self.transport.abortConnection()

    def _send(self, message: Message) -> None:
        if not self.is_open:
            return
        line = encode(message)
        if self._is_full:
            if self._is_too_much():
                self._drop_reader()
                return
            self._waiting.append(line)
            self._count(len(line))
        else:
            self.transport.write(line)
            if self._is_full:
                # It waits in the transport, whole.
                self._count(len(line))

    def _is_too_much(self) -> bool:
        return self._backlog > BACKLOG or self._control.backlog > BACKLOG_OF_ALL

    def _count(self, size: int) -> None:
        self._backlog += size
        self._control.backlog += size

    def _drop_reader(self) -> None:
        _log.warn(
            "process {pid} of user {uid} does not read what it is sent over the control socket:"
            " dropped",
            pid=self.peer.pid,
            uid=self.peer.uid,
        )
        self._drop()

    # The transport says whether it has room.

    def pauseProducing(self) -> None:
        """Keep what is to be sent: the client is slow to read."""
        self._is_full = True

    def resumeProducing(self) -> None:
        """Send what was kept."""
        self._is_full = False
        kept, self._waiting = b"".join(self._waiting), []
        self._count(-self._backlog)
        if kept:
            self.transport.write(kept)
            if self._is_full:
                self._count(len(kept))
        if self._abort is not None:
            # As long as there is a producer, the transport does not close.
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        """Do nothing: the connection has ended, and says so by itself."""


class Control(protocol.Factory):
    """All connections of one agent's control socket.

    :param clock: gives the others their turn.
    :param methods: what can be asked for.
    :param apps: the apps that are registered.
    :param most: how many connections there may be.
    """

    noisy = False

    def __init__(self, clock: IReactorTime, methods: Methods, apps: Apps, most: int) -> None:
        self.clock = clock
        self.methods = methods
        self.apps = apps
        self._most = most
        self._channels: set[ControlChannel] = set()
        self.backlog = 0
        """Bytes that wait for all clients."""
        self.turns = Turns(clock)

    def buildProtocol(self, addr: IAddress | None) -> ControlChannel:
        """Make the channel of a new connection.

        :param addr: where it comes from, of no interest.
        :return: the channel.
        """
        return ControlChannel(self)

    def admit(self, channel: ControlChannel) -> bool:
        """Count a new connection.

        :param channel: the connection.
        :return: whether there is room for it.
        """
        reserved = 0 if is_own(channel.peer) else min(RESERVED, self._most // 2)
        is_admitted = len(self._channels) < self._most - reserved
        if is_admitted:
            self._channels.add(channel)
        return is_admitted

    def forget(self, channel: ControlChannel) -> None:
        """Count a connection no more.

        :param channel: one that has closed, admitted or not.
        """
        self._channels.discard(channel)

    def close(self) -> None:
        """Close every connection."""
        for channel in tuple(self._channels):
            channel.close()
