"""Tests for :mod:`xohook.hook.certificate`."""

from __future__ import annotations

import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import NOW, make
from xohook.errors import StartError
from xohook.hook import certificate
from xohook.host import network

DAY = timedelta(days=1)


class EnsureTests(SynchronousTestCase):
    """The agent's own certificate is there, and lasts."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_made(self) -> None:
        """Where there is none a P-256 one is made, good at once even for clocks a day behind."""
        pair = certificate.read(*certificate.ensure(self.directory, NOW))
        self.assertIsInstance(pair.key, ec.EllipticCurvePrivateKey)
        self.assertEqual(pair.chain[0].not_valid_before_utc, NOW - DAY)
        self.assertEqual(pair.expires, NOW + timedelta(days=824))

    def test_names_and_addresses(self) -> None:
        """It names the host, the loopback addresses, and those of the interfaces."""
        [made] = certificate.read(*certificate.ensure(self.directory, NOW)).chain
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertIn(gethostname(), names.get_values_for_type(x509.DNSName))
        expected = {ip_address("127.0.0.1"), ip_address("::1"), *network.addresses()}
        self.assertEqual(set(names.get_values_for_type(x509.IPAddress)), expected)

    def test_private(self) -> None:
        """Both files are for their owner alone."""
        for file in certificate.ensure(self.directory, NOW):
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)

    def test_kept(self) -> None:
        """A certificate with more than 30 days left stays as it is."""
        before = self.contents(certificate.ensure(self.directory, NOW))
        later = NOW + timedelta(days=793)
        self.assertEqual(self.contents(certificate.ensure(self.directory, later)), before)

    def test_renewed(self) -> None:
        """With 30 days left a new one is made, key and all."""
        certificate.ensure(self.directory, NOW)
        later = NOW + timedelta(days=794)
        renewed = certificate.read(*certificate.ensure(self.directory, later))
        self.assertEqual(renewed.expires, later + timedelta(days=824))

    def test_halves_of_two(self) -> None:
        """A key whose certificate was not written any more is replaced with a whole pair."""
        _, key_file = certificate.ensure(self.directory, NOW)
        key_file.write_bytes(make("other").key_pem())
        self.assertTrue(certificate.read(*certificate.ensure(self.directory, NOW)).chain)

    def test_damaged(self) -> None:
        """Files that are none are replaced."""
        certificate_file, key_file = certificate.own_files(self.directory)
        certificate_file.write_text("")
        key_file.write_bytes(b"\xff")
        certificate_file.chmod(0o600)
        key_file.chmod(0o600)
        self.assertTrue(certificate.read(*certificate.ensure(self.directory, NOW)).chain)

    def test_no_directory(self) -> None:
        """Where nothing can be written, the error names the directory."""
        missing = self.directory / "missing"
        error = self.assertRaises(StartError, certificate.ensure, missing, NOW)
        self.assertIn(f"{missing}: the certificate cannot be written", str(error))

    def contents(self, files: tuple[Path, Path]) -> list[bytes]:
        return [file.read_bytes() for file in files]


class ReadTests(SynchronousTestCase):
    """A pair is judged before it is served."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.identity = make("web01")
        self.files = self.identity.write(self.directory)

    def refuse(self, *words: str, files: tuple[Path, Path] | None = None) -> None:
        text = str(self.assertRaises(StartError, certificate.read, *(files or self.files)))
        for word in words:
            self.assertIn(word, text)

    def test_chain(self) -> None:
        """Intermediates follow in the file's order."""
        root = make("root")
        leaf = make("leaf", issuer=root)
        pair = certificate.read(*leaf.write(self.directory, root))
        self.assertEqual(pair.chain, (leaf.certificate, root.certificate))

    def test_chain_ends_first(self) -> None:
        """A chain ends to be good when the first of its certificates does."""
        root = make("root", days=3)
        pair = certificate.read(*make("leaf", issuer=root).write(self.directory, root))
        self.assertEqual(pair.expires, NOW + 3 * DAY)

    def test_one_file(self) -> None:
        """Certificate and key may stand in one file."""
        both = self.directory / "both.pem"
        both.write_bytes(self.identity.key_pem() + self.identity.pem)
        self.assertEqual(certificate.read(both, both).chain, (self.identity.certificate,))

    def test_mismatch(self) -> None:
        """A certificate of another key is refused, both files named."""
        self.files[0].write_bytes(make("other").pem)
        self.refuse(*map(str, self.files), "does not belong")

    def test_expired(self) -> None:
        """A certificate has expired from its last moment on; it can be read even so."""
        files = make("old", now=NOW - 9 * DAY, days=9).write(self.directory)
        pair = certificate.read(*files)
        self.assertIsNone(certificate.expired(pair, files[0], NOW - timedelta(seconds=1)))
        problem = certificate.expired(pair, files[0], NOW) or ""
        self.assertIn(f"{files[0]}: expired on 2026-05-01 12:00 UTC", problem)

    def test_missing(self) -> None:
        """A file that is not there is named."""
        nowhere = self.directory / "nowhere.pem"
        self.refuse(str(nowhere), "No such file", files=(nowhere, self.files[1]))
        self.refuse(str(nowhere), "No such file", files=(self.files[0], nowhere))

    def test_no_certificate(self) -> None:
        """A key in the certificate's place is refused."""
        self.refuse(str(self.files[1]), "holds no certificate", files=(self.files[1],) * 2)

    def test_no_key(self) -> None:
        """A certificate in the key's place is refused."""
        self.refuse(str(self.files[0]), "holds no private key", files=(self.files[0],) * 2)

    def test_encrypted_key(self) -> None:
        """An encrypted key is refused with words, and nobody is asked for a password."""
        self.files[1].write_bytes(self.identity.key_pem(b"opensesame"))
        self.refuse(str(self.files[1]), "is encrypted", "openssl pkey")
