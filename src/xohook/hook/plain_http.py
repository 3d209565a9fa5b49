"""Plain HTTP on a port that speaks HTTPS: answered in words, and logged.

A tag that begins with ``http://`` is an easy mistake, and a TLS alert in reply tells nobody of it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

from xohook.addresses import parse_address
from xohook.hook.refusals import MOST_SOURCES, PERIOD
from xohook.hook.site import CLOSE_PATIENCE
from xohook.hook.tls import ServerTLS
from xohook.text import printable

_BODY = (
    b"This port speaks HTTPS: the URL (in Xen Orchestra: in the VM's tag) begins with https://\n"
)

ANSWER = b"\r\n".join(
    (
        b"HTTP/1.1 400 Bad Request",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: %d" % len(_BODY),
        b"Connection: close",
        b"",
        _BODY,
    )
)
"""What a plain request is answered, whatever it asks for."""


class PlainRequests:
    """Logs plain requests, once a minute for each address.

    :param clock: tells when a minute has passed.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}

    def note(self, source: str) -> None:
        """Note one plain request.

        :param source: the address that it came from.
        """
        now = self._clock.seconds()
        self._logged = {each: at for each, at in self._logged.items() if now - at < PERIOD}
        if source in self._logged or len(self._logged) >= MOST_SOURCES:
            return
        self._logged[source] = now
        self._log.warn(
            "a plain HTTP request from {source}: this port speaks HTTPS; let the URL in the VM's"
            " tag begin with https://",
            source=source,
        )


class HTTPSConnection(BufferingTLSTransport):
    """The server's end of a TLS connection, unless the client begins it in plain HTTP."""

    factory: HTTPSFactory
    # Twisted's interface lacks the half-close that its TCP and UNIX transports have.
    transport: Any
    _is_begun = False
    _abort_call: IDelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        """Take what came; what follows a plain request is thrown away.

        :param data: the bytes.
        """
        # A TLS record begins with its content type, 20 to 24 (RFC 8446, section 5.1), and a
        # request with its method, of which each that is registered begins with a capital letter.
        if not self._is_begun and b"A" <= data[:1] <= b"Z":
            self._refuse()
        self._is_begun = True
        if self._abort_call is None:
            super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end.

        :param reason: why it was lost.
        """
        if self._abort_call is not None and self._abort_call.active():
            self._abort_call.cancel()
        super().connectionLost(reason)

    def _refuse(self) -> None:
        host = getattr(self.transport.getPeer(), "host", "")
        source = printable(str(parse_address(host) or host))
        self.factory.plain_requests.note(source or "a local socket")
        self.transport.write(ANSWER)
        # Closed altogether with something left unread, the client would lose the answer.
        self.transport.loseWriteConnection()
        self._abort_call = self.factory.clock.callLater(
            CLOSE_PATIENCE, self.transport.abortConnection
        )


class HTTPSFactory(TLSMemoryBIOFactory):
    """Puts TLS around a factory's protocols.

    :param tls: what TLS is served with.
    :param factory: makes the protocols that speak inside TLS.
    :param clock: bounds the times.
    :param plain_requests: takes note of plain requests.
    """

    protocol = HTTPSConnection

    def __init__(
        self,
        tls: ServerTLS,
        factory: IProtocolFactory,
        clock: IReactorTime,
        plain_requests: PlainRequests,
    ) -> None:
        super().__init__(tls, False, factory, clock=clock)
        self.clock = clock
        self.plain_requests = plain_requests
