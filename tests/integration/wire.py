"""TLS connections of which the test sees every record (RFC 8446, section 5.1)."""

from __future__ import annotations

import socket
import ssl

from tests.integration.hook_client import PATIENCE, insecure_context

_HEADER = 5


class Wire:
    """A TLS connection that is read record by record.

    :param port: the TCP port on 127.0.0.1.
    :param version: the version of TLS that is spoken.
    """

    def __init__(self, port: int, version: ssl.TLSVersion) -> None:
        context = insecure_context()
        context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._file = self._socket.makefile("rb")
        while not self._shake():
            self._incoming.write(self._record())

    def send(self, data: bytes) -> None:
        """Send bytes.

        :param data: what to send.
        """
        self._tls.write(data)
        self._flush()

    def receive(self) -> bytes:
        """Wait for the next record that holds something for the application.

        :return: all that it holds.
        """
        while True:
            self._incoming.write(self._record())
            try:
                return self._tls.read(1 << 14)
            except ssl.SSLWantReadError:
                # A session ticket, for instance.
                continue

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def _flush(self) -> None:
        self._socket.sendall(self._outgoing.read())

    def _record(self) -> bytes:
        header = self._file.read(_HEADER)
        if len(header) < _HEADER:
            raise ConnectionError("the server closed the connection")
        return header + self._file.read(int.from_bytes(header[3:], "big"))
