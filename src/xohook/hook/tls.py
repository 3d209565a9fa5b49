"""What the listeners serve TLS with, exchangeable while they run."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from xohook.errors import StartError
from xohook.hook import certificate

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

# RFC 7301, section 6.
_HTTP = b"http/1.1"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Gives each new connection the certificate of the moment.

    Connections that exist keep the one that they were opened with. Of the application protocols
    that a client offers (ALPN) HTTP/1.1 is taken; one that offers others alone is served all the
    same, as one that offers none.

    The context is made here, not by Twisted's ``CertificateOptions``: that one fails the handshake
    of a client that offers protocols unless the wrapped factory names them too, and takes up
    HTTP/2 as soon as the package ``h2`` is there.

    :param pair: the certificate, as for :meth:`serve`.
    :param certificate_file: its file, for messages.
    :raises StartError: it cannot be served.
    """

    expires: datetime

    def __init__(self, pair: certificate.Pair, certificate_file: Path) -> None:
        self.serve(pair, certificate_file)

    def serve(self, pair: certificate.Pair, certificate_file: Path) -> None:
        """Serve this certificate from the next connection on.

        :param pair: the certificate, its intermediates and its key.
        :param certificate_file: its file, for messages.
        :raises StartError: OpenSSL refuses it; what was served before still is.
        """
        self._context = _context(pair, certificate_file)
        self.expires = pair.expires

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the TLS side of a new connection.

        :param tlsProtocol: the connection's protocol.
        :return: a connection over memory, with the certificate of the moment.
        """
        return SSL.Connection(self._context)


def _context(pair: certificate.Pair, certificate_file: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # An idle connection need not keep its buffers, 34 KiB of them.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # XO's client resumes by its ticket (RFC 5077; RFC 8446, section 2.2), which needs no memory.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_alpn_select_callback(_choose_protocol)
    first, *intermediates = pair.chain
    try:
        context.use_certificate(first)
        context.use_privatekey(pair.key)
        for intermediate in intermediates:
            context.add_extra_chain_cert(intermediate)
    except SSL.Error as error:
        raise StartError(
            f"{certificate_file}: OpenSSL refuses to serve this certificate ({error}); use one "
            "with an ECDSA P-256 key, or an RSA key of 2048 bits or more"
        ) from error
    return context


def _choose_protocol(
    connection: SSL.Connection, offered: list[bytes]
) -> bytes | SSL._NoOverlappingProtocols:
    return _HTTP if _HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS
