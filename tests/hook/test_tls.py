"""Handshakes in memory with the standard library's TLS client."""

from __future__ import annotations

import contextlib
import ssl
from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import make
from xohook.errors import StartError
from xohook.hook import certificate
from xohook.hook.tls import ServerTLS

NOW = datetime.now(timezone.utc)
_CHUNK = 65536


class Greeter(Protocol):
    """Says something, so that a client has a reason to read what follows the handshake."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")


class Client:
    """A TLS client on one end of a wire that is carried by hand."""

    def __init__(self, server: ServerTLS, context: ssl.SSLContext) -> None:
        self.clock = Clock()
        factory = TLSMemoryBIOFactory(server, False, Factory.forProtocol(Greeter), self.clock)
        self.protocol = factory.buildProtocol(None)
        self.wire = StringTransport()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.context = context

    def hear(self, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
        """Shake hands, and read what the server says."""
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, session=session)
        self.protocol.makeConnection(self.wire)
        while True:
            try:
                self.tls.do_handshake()
                assert self.tls.read(_CHUNK) == b"hello"
            except ssl.SSLWantReadError:
                self._carry()
            else:
                return self.tls

    def _carry(self) -> None:
        self.protocol.dataReceived(self.outgoing.read())
        self.clock.advance(0)
        came = self.wire.value()
        assert came, "the server has nothing more to say"
        self.wire.clear()
        self.incoming.write(came)


def trusting(
    *, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, lowest: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Make a client that trusts anybody, as XO does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if lowest is not None:
        context.minimum_version = lowest
    context.maximum_version = highest
    return context


class ServerTLSTests(SynchronousTestCase):
    """A server's TLS is right, and can be exchanged under it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.first = make("first", now=NOW)
        files = self.first.write(self.directory / "first")
        self.tls = ServerTLS(certificate.read(*files), files[0])

    def serve(self, files: tuple[Path, Path]) -> None:
        """Serve what is in two files."""
        self.tls.serve(certificate.read(*files), files[0])

    def served(self) -> bytes | None:
        return Client(self.tls, trusting()).hear().getpeercert(binary_form=True)

    def test_swap(self) -> None:
        """After a load new connections get the new certificate, and its end is told."""
        before = self.served()
        second = make("second", now=NOW, days=3)
        self.serve(second.write(self.directory / "second"))
        self.assertNotEqual(before, self.served())
        self.assertEqual(self.served(), ssl.PEM_cert_to_DER_cert(second.pem.decode()))
        self.assertEqual(self.tls.expires, second.certificate.not_valid_after_utc)

    def test_bad_load(self) -> None:
        """A load that fails says so, and what was served before still is."""
        before, expires = self.served(), self.tls.expires
        files = make("other", now=NOW).write(self.directory / "other")
        files[1].write_bytes(self.first.key_pem())
        self.assertRaises(StartError, self.serve, files)
        self.assertEqual(self.served(), before)
        self.assertEqual(self.tls.expires, expires)

    def test_chain(self) -> None:
        """A client that trusts the root alone is shown the intermediate as well."""
        root = make("root", now=NOW)
        middle = make("middle", issuer=root, now=NOW)
        leaf = make("leaf", issuer=middle, now=NOW)
        self.serve(leaf.write(self.directory / "chain", middle))
        self.assertEqual(self.shown_chain(), [leaf.certificate, middle.certificate])

    def shown_chain(self) -> list[object]:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        server = self.tls.serverConnectionForTLS(None)  # type: ignore[arg-type]  # it is not used
        client.set_connect_state()
        server.set_accept_state()
        done = 0
        while done < 2:
            done = 0
            for one, other in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                    done += 1
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(_CHUNK))
        chain = client.get_peer_cert_chain() or []
        return [each.to_cryptography() for each in chain]

    def test_resumption(self) -> None:
        """A client with a ticket resumes its session, in TLS 1.3 and in 1.2."""
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = trusting(highest=version)
            earlier = Client(self.tls, context).hear()
            self.assertFalse(earlier.session_reused)
            self.assertTrue(earlier.session and earlier.session.has_ticket)
            self.assertTrue(Client(self.tls, context).hear(earlier.session).session_reused)

    def test_old_versions(self) -> None:
        """TLS 1.1 is refused."""
        context = trusting(highest=ssl.TLSVersion.TLSv1_1, lowest=ssl.TLSVersion.TLSv1_1)
        # Without this the client would not even ask for so old a version.
        context.set_ciphers("ALL:@SECLEVEL=0")
        self.assertRaises(ssl.SSLError, Client(self.tls, context).hear)

    def test_protocols(self) -> None:
        """A client is taken up on HTTP/1.1 alone, and served without it too."""
        for offered, taken in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
            context = trusting()
            context.set_alpn_protocols(offered)
            self.assertEqual(Client(self.tls, context).hear().selected_alpn_protocol(), taken)

    def test_weak_key(self) -> None:
        """A key that OpenSSL does not serve is refused with the file's name."""
        # Made on purpose as small as it may be.
        key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
        files = make("weak", now=NOW, key=key).write(self.directory / "weak")
        error = self.assertRaises(StartError, self.serve, files)
        self.assertIn(f"{files[0]}: OpenSSL refuses", str(error))
