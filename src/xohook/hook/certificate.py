"""The TLS certificate and its key: read and judged, or made where none was given."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from xohook.errors import StartError
from xohook.host import network, ownership
from xohook.host.files import write_private

# The longest time that major clients have accepted for a certificate (CA/Browser Forum, 2018).
LIFETIME = timedelta(days=825)
RENEW_BEFORE = timedelta(days=30)
# A fresh VM's clock may lag behind that of whoever looks at the certificate.
_CLOCK_SKEW = timedelta(days=1)
# RFC 5280, appendix A: ub-common-name.
_COMMON_NAME_LIMIT = 64

ServerKey = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey


@attrs.frozen
class Pair:
    """A certificate that can be served, with its key.

    :param chain: the server's own certificate first, then its intermediates.
    :param key: the key of the first of the chain.
    """

    chain: tuple[x509.Certificate, ...]
    key: ServerKey

    @property
    def expires(self) -> datetime:
        """Give the time (UTC) at which the first certificate of the chain ends to be one."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    def to_pem(self) -> tuple[bytes, bytes]:
        """Write it as it stands in files.

        :return: the chain, and the key.
        """
        return _chain_pem(self.chain), _key_pem(self.key)

    @classmethod
    def from_pem(cls, chain: bytes, key: bytes) -> Pair:
        """Take up what :meth:`to_pem` has written.

        :param chain: the chain.
        :param key: the key.
        :return: the pair.
        :raises ValueError: where it cannot be understood.
        """
        loaded: Any = serialization.load_pem_private_key(key, password=None)
        return cls(chain=tuple(x509.load_pem_x509_certificates(chain)), key=loaded)


def own_files(state_directory: Path) -> tuple[Path, Path]:
    """Name the files of the agent's own certificate, whether or not they are there.

    :param state_directory: the agent's state directory.
    :return: the certificate's file and the key's file.
    """
    return state_directory / "certificate.pem", state_directory / "private_key.pem"


def ensure(
    state_directory: Path, now: datetime, lasts: timedelta = RENEW_BEFORE
) -> tuple[Path, Path]:
    """Make the agent's own certificate unless there is one that lasts long enough.

    :param state_directory: where it is kept; it exists.
    :param now: the time, with its zone.
    :param lasts: how long it has to last from now on.
    :return: the certificate's file and the key's file.
    :raises StartError: it cannot be written, or another user can write to the one that is there.
    """
    certificate_file, key_file = own_files(state_directory)
    for file in (certificate_file, key_file):
        with suppress(OSError):
            ownership.read(file, os.geteuid())
    if _lasts(certificate_file, key_file, now, lasts):
        return certificate_file, key_file
    pem, key_pem = _make(now).to_pem()
    # Should the agent die between the two, they do not match, and the next start makes new ones.
    try:
        write_private(key_file, key_pem, lasting=True)
        write_private(certificate_file, pem, lasting=True)
    except OSError as error:
        raise StartError(
            f"{state_directory}: the certificate cannot be written there ({error.strerror}); make "
            "the directory writable for the agent's user, or set certificate and private_key"
        ) from error
    return certificate_file, key_file


def read(certificate_file: Path, key_file: Path, uid: int | None = None) -> Pair:
    """Read a certificate with its key, and judge whether it can be served.

    An expired one can: XO does not verify certificates, and no hook at all would be worse.

    :param certificate_file: PEM, the server's own certificate first, intermediates after it.
    :param key_file: PEM, not encrypted; it may be the same file.
    :param uid: the agent's user where the files are the agent's own; None where the administrator
        gave them, whoever they belong to.
    :return: the pair: the two belong together.
    :raises StartError: the pair cannot be used; the text says why, and what to do.
    """
    chain = _read_chain(certificate_file, uid)
    pair = Pair(chain=chain, key=_read_key(key_file, uid))
    if chain[0].public_key() != pair.key.public_key():
        raise StartError(
            f"{certificate_file}: its first certificate does not belong to the key in {key_file}; "
            "name the certificate made for that key, and in a chain put the server's own first"
        )
    return pair


def expired(pair: Pair, certificate_file: Path, now: datetime) -> str | None:
    """Describe a certificate that has expired.

    :param pair: the certificate.
    :param certificate_file: its file.
    :param now: the time, with its zone.
    :return: the line; None if no certificate of the chain has expired.
    """
    if pair.expires > now:
        return None
    return (
        f"{certificate_file}: expired on {pair.expires:%Y-%m-%d %H:%M} UTC; renew the certificate"
        " (or set the clock, if that is what is wrong)"
    )


def _lasts(certificate_file: Path, key_file: Path, now: datetime, lasts: timedelta) -> bool:
    try:
        return read(certificate_file, key_file).expires - now > lasts
    except StartError:
        # What the agent made itself it may make again, whatever has become of it.
        return False


def _read_bytes(path: Path, uid: int | None) -> bytes:
    try:
        return (ownership.read_given(path) if uid is None else ownership.read(path, uid))[0]
    except OSError as error:
        raise StartError(
            f"{path}: cannot be read ({error.strerror}); correct certificate and private_key in "
            "the configuration, or make the file readable for the agent's user"
        ) from error


def _read_chain(path: Path, uid: int | None) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(_read_bytes(path, uid)))
    except ValueError as error:
        raise StartError(
            f"{path}: holds no certificate that can be read; it must be PEM, with lines "
            "'-----BEGIN CERTIFICATE-----'"
        ) from error


def _read_key(path: Path, uid: int | None) -> ServerKey:
    data = _read_bytes(path, uid)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise StartError(
            f"{path}: the key is encrypted, and the agent has nobody to ask for its password; "
            f"store it without one (openssl pkey -in {path} -out NEWFILE) with mode 0600"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise StartError(
            f"{path}: holds no private key that can be read; it must be PEM, with a line "
            "'-----BEGIN PRIVATE KEY-----'"
        ) from error
    if not isinstance(key, ServerKey):
        raise StartError(
            f"{path}: TLS clients do not take a key of this kind; use ECDSA (P-256), RSA or Ed25519"
        )
    return key


def _make(now: datetime) -> Pair:
    key = generate_private_key(SECP256R1())
    names = network.names()
    common_name = names[0][:_COMMON_NAME_LIMIT] if names else "xohook"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    addresses = (ip_address("127.0.0.1"), ip_address("::1"), *network.addresses())
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(address) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now - _CLOCK_SKEW + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(chain=(certificate,), key=key)


def _key_pem(key: ServerKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _chain_pem(chain: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
