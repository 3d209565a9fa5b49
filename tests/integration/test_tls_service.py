"""TLS as the running agent serves it: versions, tickets, and certificates that come and go."""

from __future__ import annotations

import signal
import socket
import ssl
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Identity, make
from tests.integration.agent import Agent, eventually
from tests.integration.hook_client import PATIENCE, Connection, insecure_context

NOW = datetime.now(timezone.utc)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def served(port: int) -> x509.Certificate:
    """Give the certificate that a new connection is shown."""
    with Connection(port) as connection:
        shown = connection.socket.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def chain(port: int) -> list[x509.Certificate]:
    """Give all certificates that a new connection is shown."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        # pyOpenSSL takes a socket with a timeout for one that never blocks.
        plain.setblocking(True)
        connection = SSL.Connection(context, plain)
        connection.set_connect_state()
        connection.do_handshake()
        return connection.get_peer_cert_chain(as_cryptography=True) or []


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.agent = Agent.for_test(self)

    def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are spoken."""
        for version in VERSIONS:
            context = insecure_context()
            context.minimum_version = context.maximum_version = version
            with Connection(self.agent.port, context=context) as connection:
                self.assertEqual(connection.get("/").status, 403)
                self.assertEqual(connection.socket.version(), version.name.replace("_", "."))

    def test_old_versions(self) -> None:
        """TLS 1.0 and 1.1 are refused, by the agent and not by who asks."""
        for version in (SSL.TLS1_VERSION, SSL.TLS1_1_VERSION):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_cipher_list(b"ALL:@SECLEVEL=0")
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
            with socket.create_connection(("127.0.0.1", self.agent.port)) as plain:
                connection = SSL.Connection(context, plain)
                connection.set_connect_state()
                error = self.assertRaises(SSL.Error, connection.do_handshake)
            # Alert 70 (RFC 8446, section 6.2), as it was received.
            self.assertIn("alert protocol version", str(error))

    def test_resumption(self) -> None:
        """A ticket saves the next connection the full handshake, in both versions."""
        for version in VERSIONS:
            context = insecure_context()
            context.minimum_version = context.maximum_version = version
            with Connection(self.agent.port, context=context) as first:
                # With TLS 1.3 tickets come after the handshake.
                self.assertEqual(first.get("/").status, 403)
                self.assertFalse(first.socket.session_reused)
                session = first.socket.session
            with Connection(self.agent.port, context=context, session=session) as second:
                self.assertEqual(second.get("/").status, 403)
                self.assertTrue(second.socket.session_reused, version)

    def test_own_certificate(self) -> None:
        """The agent's own certificate is P-256, names this machine, and outlives a restart."""
        certificate = served(self.agent.port)
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertIn(socket.gethostname(), names.get_values_for_type(x509.DNSName))
        addresses = names.get_values_for_type(x509.IPAddress)
        self.assertLessEqual({ip_address("127.0.0.1"), ip_address("::1")}, set(addresses))
        self.agent.restart()
        self.assertEqual(served(self.agent.port), certificate)

    def test_private(self) -> None:
        """The key is for the agent alone."""
        key_file = self.agent.state_directory / "private_key.pem"
        self.assertEqual(key_file.stat().st_mode & 0o777, 0o600)


class ExchangeTests(SynchronousTestCase):
    """Certificates are exchanged under running connections."""

    def reload(self, agent: Agent, said: str = "reloaded, with") -> None:
        """Have the agent read everything again, and wait until it says how that went."""
        count = agent.log.count(said)
        agent.kill(signal.SIGHUP)
        eventually(lambda: agent.log.count(said) > count, f"the log says {said!r} once more")

    def keep(self, agent: Agent, identity: Identity) -> None:
        """Leave a certificate in the state directory, as if the agent had made it then."""
        agent.state_directory.mkdir(mode=0o700, exist_ok=True)
        parts = {"certificate.pem": identity.pem, "private_key.pem": identity.key_pem()}
        for name, content in parts.items():
            file = agent.state_directory / name
            file.touch(mode=0o600)
            file.write_bytes(content)

    def test_given(self) -> None:
        """A given certificate is served with its chain, and exchanged by SIGHUP."""
        directory = Path(self.mktemp()).resolve()
        root = make("root", now=NOW)
        between = make("intermediate", issuer=root, now=NOW)
        first, second = (make(name, issuer=between, now=NOW) for name in ("first", "second"))
        files = first.write(directory, between)
        agent = Agent.for_test(self, f"certificate = {files[0]}\nprivate_key = {files[1]}")
        self.assertEqual(chain(agent.port), [first.certificate, between.certificate])
        with agent.connect() as running:
            self.assertEqual(running.get("/", agent.credentials).status, 404)
            second.write(directory)
            self.reload(agent)
            self.assertEqual(chain(agent.port), [second.certificate])
            self.assertEqual(running.get("/", agent.credentials).status, 404)
        self.assertFalse((agent.state_directory / "certificate.pem").exists())

    def test_given_wrong(self) -> None:
        """A certificate that cannot be served leaves the one before it, and the log says why."""
        directory = Path(self.mktemp()).resolve()
        files = make("first", now=NOW).write(directory)
        agent = Agent.for_test(self, f"certificate = {files[0]}\nprivate_key = {files[1]}")
        before = served(agent.port)
        files[0].write_bytes(make("another's", now=NOW).pem)
        self.reload(agent, f"not reloaded: {files[0]}: its first certificate does not belong")
        self.assertEqual(served(agent.port), before)

    def test_given_expired(self) -> None:
        """A given certificate that has expired is served, and the log warns of it."""
        directory = Path(self.mktemp()).resolve()
        old = make("old", now=NOW - timedelta(days=9), days=3)
        files = old.write(directory)
        agent = Agent.for_test(self, f"certificate = {files[0]}\nprivate_key = {files[1]}")
        self.assertEqual(served(agent.port), old.certificate)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertIn(f"{files[0]}: expired on", agent.log)

    def test_own_expired(self) -> None:
        """An own certificate that has expired is replaced before anything is served."""
        agent = Agent(Path(self.mktemp()).resolve())
        self.addCleanup(agent.stop)
        agent.state_directory.mkdir(mode=0o700)
        self.keep(agent, make("old", now=NOW - timedelta(days=9), days=3))
        agent.start()
        self.assertGreater(served(agent.port).not_valid_after_utc, NOW + timedelta(days=800))
        self.assertNotIn("expired on", agent.log)

    def wait_for_new(self, agent: Agent, ending: Identity) -> x509.Certificate:
        """Wait until another certificate than the ending one is served, and give it."""
        latest = ending.certificate
        eventually(lambda: served(agent.port) != latest, "the certificate is renewed")
        renewed = served(agent.port)
        self.assertGreater(renewed.not_valid_after_utc, NOW + timedelta(days=800))
        return renewed

    def test_renewed(self) -> None:
        """The own certificate is replaced 30 days before its end: after a start, and while up."""
        ending = make("ending", now=NOW - timedelta(days=61))
        agent = Agent(Path(self.mktemp()).resolve())
        self.addCleanup(agent.stop)
        self.keep(agent, ending)
        agent.start()
        renewed = self.wait_for_new(agent, ending)
        with agent.connect() as running:
            self.assertEqual(running.get("/", agent.credentials).status, 404)
            self.keep(agent, ending)
            self.reload(agent)
            self.assertNotEqual(self.wait_for_new(agent, ending), renewed)
            self.assertEqual(running.get("/", agent.credentials).status, 404)

    def test_kept(self) -> None:
        """An own certificate with more than 30 days to go is kept."""
        lasting = make("lasting", now=NOW - timedelta(days=58))
        agent = Agent(Path(self.mktemp()).resolve())
        self.addCleanup(agent.stop)
        self.keep(agent, lasting)
        agent.start()
        self.assertEqual(served(agent.port), lasting.certificate)
