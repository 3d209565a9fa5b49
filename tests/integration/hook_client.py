"""A small HTTPS client that can do what Xen Orchestra does, and what it would not.

The standard library alone, and no more of HTTP than the hook's answers need, so that a test sees
each byte that it sends and a measurement pays for nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import struct
from collections.abc import Mapping
from types import MappingProxyType

import attrs

#: Seconds after which a test that waits for an answer is stuck, not slow.
PATIENCE = 60.0

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class Answer:
    """What came back.

    :param status: the status code.
    :param headers: the headers, their names in lower case; the last one wins.
    :param body: the body, whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def first_line(self) -> str:
        """The first line of the body, empty where there is no body."""
        return self.body.partition(b"\n")[0].decode()


def insecure_context() -> ssl.SSLContext:
    """Make a TLS context that checks no certificate, as Xen Orchestra does not.

    :return: a context; connections that are to resume one another's TLS sessions share it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def bearer(secret: str, *, scheme: str = "Bearer", gap: str = " ") -> dict[str, str]:
    """Make the header that Xen Orchestra's page documents.

    :param secret: the secret as it is configured.
    :param scheme: the scheme, for those who write it in another case.
    :param gap: what stands between the scheme and the credential.
    :return: the headers to send.
    """
    return {"Authorization": f"{scheme}{gap}{base64.b64encode(secret.encode()).decode()}"}


def request_bytes(method: str, target: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """Write a request without a body.

    :param method: the method.
    :param target: the path and query string, sent as they stand.
    :param headers: headers beside ``Host``.
    :return: the bytes to send.
    """
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode("latin-1")


class Connection:
    """One TLS connection: requests go out, answers come in, one after the other.

    :param port: the TCP port.
    :param host: the address; traffic stays on this machine unless told otherwise.
    :param context: the TLS context, by default one of this connection's own.
    :param session: the TLS session to resume, None for a full handshake.
    :param source: the address to come from, by default the kernel's choice.
    """

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        source: str = "",
    ) -> None:
        plain = socket.create_connection(
            (host, port), timeout=PATIENCE, source_address=(source, 0) if source else None
        )
        try:
            # A segment that the kernel delays would be measured as the server's slowness.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = (context or insecure_context()).wrap_socket(plain, session=session)
        except BaseException:
            plain.close()
            raise
        self._incoming = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        :param data: what to send; nothing makes sure that it is HTTP.
        """
        self.socket.sendall(data)

    def start(self, method: str, target: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Send a request and do not wait for its answer.

        :param method: the method.
        :param target: the path and query string, sent as they stand.
        :param headers: headers beside ``Host``.
        """
        self.send(request_bytes(method, target, headers))

    def answer(self, method: str = "GET") -> Answer:
        """Wait for the next answer.

        :param method: the method that is answered; ``HEAD`` is answered without a body.
        :return: the answer.
        :raises ConnectionError: where the server closed instead.
        """
        status_line = self._incoming.readline()
        if not status_line:
            raise ConnectionError("the server closed the connection without an answer")
        headers: dict[str, str] = {}
        while line := self._incoming.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Answer(int(status_line.split()[1]), headers, self._body(method, headers))

    def _body(self, method: str, headers: Mapping[str, str]) -> bytes:
        if method == "HEAD":
            return b""
        if "content-length" in headers:
            return self._incoming.read(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._incoming.readline(), 16):
                body += self._incoming.read(size)
                self._incoming.readline()
            self._incoming.readline()
            return body
        return self._incoming.read()

    def request(self, method: str, target: str, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        """Send a request and wait for its answer.

        :param method: the method.
        :param target: the path and query string, sent as they stand.
        :param headers: headers beside ``Host``.
        :return: the answer.
        """
        self.start(method, target, headers)
        return self.answer(method)

    def get(self, target: str, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        """Send a GET and wait for its answer.

        :param target: the path and query string, sent as they stand.
        :param headers: headers beside ``Host``.
        :return: the answer.
        """
        return self.request("GET", target, headers)

    def ended(self) -> bool:
        """Wait for the server to close or to send more.

        :return: whether it closed.
        """
        try:
            return not self._incoming.read(1)
        except (ConnectionError, ssl.SSLError):
            return True

    def close(self) -> None:
        """Close the connection in an orderly way, whatever is under way; it may be closed."""
        # Without TLS, which has ended, there is a ValueError.
        with contextlib.suppress(OSError, ValueError):
            self.socket.settimeout(0)
            # Sends TLS's close_notify; with no time to wait for the peer's it raises.
            self.socket.unwrap()
        self._incoming.close()
        self.socket.close()

    def reset(self) -> None:
        """Break the connection off with a TCP reset, as a requester that crashed does."""
        # Lingering for 0 s makes close(2) send RST (socket(7), SO_LINGER).
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._incoming.close()
        self.socket.close()
