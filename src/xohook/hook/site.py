"""HTTP/1.1 as the hook speaks it: Twisted's, with its bounds.

The bounds are those of ``docs/hook.rst``, Requests and answers. What Twisted would do otherwise
stands in ``docs/architecture.rst``.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import IResource

from xohook.addresses import parse_address
from xohook.hook.connection_limits import Connections
from xohook.text import printable

STRANGER_PATIENCE = 10.0
"""Seconds in which a connection must have proved itself, its TLS handshake included
(docs/hook.rst, Requests and answers)."""

CLOSE_PATIENCE = 5.0
"""Seconds that a closed connection may take to be closed by the other side too: enough for a
packet with the last of an answer to be lost and sent again twice (RFC 6298)."""

LAST_PATIENCE = 1.0
"""Seconds that an agent which ends waits for the last answers to go out: long for a network,
short for whoever waits for the shutdown."""

_MAY_BE_CREDENTIAL = re.compile(r"[^/?&#]{16,}")
"""A secret has at least 16 characters, or ``xohook check`` warns of it; a token has 64."""

_NAME_LENGTH = 60
"""Characters of a method and of a path that the log has room for."""


class HookChannel(http.HTTPChannel):
    """One connection."""

    site: HookSite
    transport: Any
    is_closing = False
    is_trusted = False
    _abort_call: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Count the connection; its time runs from here."""
        super().connectionMade()
        self.site.connections.add(self, getattr(self.transport.getPeer(), "host", ""))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count the connection no more.

        :param reason: why it was lost.
        """
        self.site.connections.remove(self)
        if self._abort_call is not None:
            self._abort_call.cancel()
            self._abort_call = None
        super().connectionLost(reason)

    def trust(self) -> None:
        """Note that an authenticated request came over this connection."""
        self.is_trusted = True
        self.site.connections.trust(self)

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_closing = True
        self.transport.abortConnection()

    def setTimeout(self, period: float | None) -> float | None:
        """Bound the time until a whole request has come.

        :param period: seconds; None for no bound while a request is answered. A connection that
            has proved itself has as long as a hold may last.
        :return: the bound there was.
        """
        if period is not None and self.is_trusted:
            period = self.site.trusted_patience
        previous: float | None = super().setTimeout(period)
        return previous

    def resetTimeout(self) -> None:
        """Do not begin the time anew with each byte: a slow request is bounded as a whole."""

    def timeoutConnection(self) -> None:
        """Close a connection whose time is up."""
        self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take what came, unless the connection is being closed: nothing is heard after that.

        :param data: the bytes.
        """
        if self.is_closing:
            return
        super().dataReceived(data)
        # What is kept here has no line end yet; a line feed in it never becomes part of one, and
        # the line would be waited for in vain.
        if self.line_mode and not self.is_closing and b"\n" in self._buffer:
            self._respondToBadRequestAndDisconnect()

    def rawDataReceived(self, data: bytes) -> None:
        """Keep what comes before a request is answered; nobody has much to say then.

        Twisted would stop reading, and so not notice that the requester goes away.

        :param data: the bytes.
        """
        if sum(map(len, self._dataBuffer), len(data)) > self.totalHeadersSize:
            self.abort()
        else:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long as any malformed request.

        :param line: its beginning.
        """
        self._respondToBadRequestAndDisconnect()

    def headerReceived(self, line: bytes) -> bool:
        """Take a header.

        :param line: the header.
        :return: whether it is a good one; the request is refused otherwise.
        """
        try:
            good: bool = super().headerReceived(line)
        except ValueError:
            # A length of more digits than Python makes a number of (sys.set_int_max_str_digits).
            self._respondToBadRequestAndDisconnect()
            return False
        return good

    def allHeadersReceived(self) -> None:
        """Cut off a body: the request is answered without it, and the connection closed."""
        request = self.requests[-1]
        request.has_body = self.length != 0
        self.length = 0
        # No body is wanted; Twisted would send "100 Continue" before it asks whether one is.
        request.requestHeaders.removeHeader(b"Expect")
        super().allHeadersReceived()
        if request.has_body:
            request.be_last()

    def loseConnection(self) -> None:
        """Close the connection, for good if the other side does not."""
        self.is_closing = True
        if self._abort_call is None:
            self._abort_call = self.callLater(CLOSE_PATIENCE, self._abort_late)
        super().loseConnection()

    def _abort_late(self) -> None:
        self._abort_call = None
        self.transport.abortConnection()


class HookRequest(server.Request):
    """One request."""

    channel: Any
    defaultContentType = b"text/plain; charset=utf-8"
    has_body = False
    method_of_proof = ""

    @property
    def name(self) -> str:
        """What the log calls it: method and path, without what may be a credential in them."""
        words = self.method.decode("latin-1"), self.raw_path.decode("latin-1")
        return " ".join(
            printable(_MAY_BE_CREDENTIAL.sub("…", word), _NAME_LENGTH) for word in words
        )

    @property
    def raw_path(self) -> bytes:
        """The path as it came, without the query string."""
        path: bytes = self.uri.split(b"?", 1)[0]
        return path

    @property
    def source(self) -> str:
        """The address that it came from; empty where it has none."""
        host = getattr(self.getClientAddress(), "host", "")
        return str(parse_address(host) or host)

    def be_last(self) -> None:
        """Let the connection close after this request's answer."""
        self.channel.persistent = False
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def process(self) -> None:
        """Find the resource by the path as it came, and render it."""
        self.site = self.channel.site
        self.setHeader(b"Date", http.datetimeToString())
        self.prepath = []
        self.postpath = [self.raw_path]
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:  # noqa: BLE001 - a fault is this request's own and is answered 500.
            self.fail()

    def fail(self) -> None:
        """Log the exception that is being handled, and answer 500.

        Where an answer has begun to go out the connection is closed instead.
        """
        self._log.failure(
            "cannot answer {source}: a fault of xohook itself", source=printable(self.source)
        )
        if self.finished or self._disconnected:
            return
        if self.startedWriting:
            self.channel.abort()
            return
        self.setResponseCode(http.INTERNAL_SERVER_ERROR)
        self.responseHeaders.removeHeader(b"Content-Type")
        self.setHeader(b"Content-Length", b"14")
        self.write(b"Internal Error")
        self.finish()


class HookSite(server.Site):
    """The site.

    :param resource: the root of the resources.
    :param clock: bounds the connections' times.
    :param connections: counts them.
    """

    # Twisted would negotiate HTTP/2 first; the hook is HTTP/1.1 alone.
    noisy = False
    protocol = HookChannel  # type: ignore[assignment]
    _log = Logger()

    def __init__(self, resource: IResource, clock: IReactorTime, connections: Connections) -> None:
        super().__init__(
            resource,
            requestFactory=HookRequest,
            timeout=STRANGER_PATIENCE,
            parsePOSTFormSubmission=False,
            reactor=clock,
        )
        self.connections = connections
        self.trusted_patience = STRANGER_PATIENCE

    def startFactory(self) -> None:
        """Start nothing: there is no access log but :meth:`log`."""

    def stopFactory(self) -> None:
        """Stop nothing."""

    # Every request of this site is of its own class.
    def log(self, request: HookRequest) -> None:  # type: ignore[override]
        """Tell the log of an authenticated request.

        :param request: the request, answered.
        """
        if request.method_of_proof:
            self._log.info(
                "{source} {name} {code} ({proof})",
                source=request.source,
                name=request.name,
                code=request.code,
                proof=request.method_of_proof,
            )

    async def close(self) -> None:
        """Close every connection, what was written to it sent; wait a moment for the others."""
        for channel in self.connections.all():
            channel.loseConnection()
        until = self.reactor.seconds() + LAST_PATIENCE
        while self.connections.all() and self.reactor.seconds() < until:
            await deferLater(self.reactor, 0.01)
