"""Certificates for tests, made as strangers make them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from xohook.hook.certificate import Pair

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@attrs.frozen
class Identity:
    """A certificate and its key.

    :param certificate: the certificate.
    :param key: its key.
    """

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """Give the certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        """Give the key as PEM.

        :param password: what to encrypt it with; None leaves it plain.
        :return: PKCS #8.
        """
        encryption: KeySerializationEncryption = NoEncryption()
        if password is not None:
            encryption = BestAvailableEncryption(password)
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    @property
    def pair(self) -> Pair:
        """Give both as the agent takes them up."""
        return Pair(chain=(self.certificate,), key=self.key)

    def write(self, directory: Path, *intermediates: Identity) -> tuple[Path, Path]:
        """Write the certificate, with a chain behind it, and the key.

        :param directory: where to; it is made.
        :param intermediates: what follows in the certificate's file.
        :return: the certificate's file and the key's.
        """
        directory.mkdir(parents=True, exist_ok=True)
        files = directory / "cert.pem", directory / "key.pem"
        files[0].write_bytes(b"".join(each.pem for each in (self, *intermediates)))
        files[1].write_bytes(self.key_pem())
        return files


def make(
    name: str,
    *,
    issuer: Identity | None = None,
    now: datetime = NOW,
    days: int = 90,
    key: Key | None = None,
) -> Identity:
    """Make a certificate.

    :param name: its common name.
    :param issuer: who signs it; None for itself.
    :param now: from when on it counts.
    :param days: for how long.
    :param key: its key; a new P-256 one unless given.
    :return: the certificate and its key.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days))
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Identity(certificate, key)
