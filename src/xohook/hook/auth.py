"""Who may drive the hook: the credentials, and the judgement over one request. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

import attrs

from xohook.addresses import parse_address

_BEARER = re.compile(rb"bearer +([^ ]+)", re.IGNORECASE)
_PROOFS = {"bearer": "no Authorization header", "token": "no token in the URL"}
_REMEDY = "'xohook setup' prints the right tag"
_TO_STANDARD_ALPHABET = bytes.maketrans(b"-_", b"+/")


def derive_token(secret: str, vm: str) -> str:
    """Derive the token that admits to one VM and gives away neither the secret nor another VM.

    :param secret: the shared secret.
    :param vm: the VM's name.
    :return: HMAC-SHA-256 (RFC 2104) with the secret as key and the name as message, both in
        UTF-8, as hexadecimal digits.
    """
    return hmac.new(secret.encode(), vm.encode(), hashlib.sha256).hexdigest()


@attrs.frozen(repr=False)
class Credentials:
    """What a requester can prove itself with.

    It has no representation of its own, so that none of it ends in a log.

    :param secrets: the shared secrets, any of which suffices.
    :param tokens: derived tokens that are accepted as they stand.
    :param vm: the name of this VM, the only one that a token is accepted for.
    """

    secrets: tuple[str, ...]
    tokens: tuple[str, ...]
    vm: str

    def all_tokens(self) -> tuple[str, ...]:
        """Tell every token that this VM accepts.

        :return: those derived from the secrets, then those given as they stand.
        """
        return (*(derive_token(secret, self.vm) for secret in self.secrets), *self.tokens)


@attrs.frozen
class Verdict:
    """The judgement over one request.

    :param method: what sufficed (``bearer``, ``token`` or ``peer``), None where nothing did.
    :param reason: why nothing did, in words that hold no credential.
    """

    method: str | None
    reason: str = ""


class Gate:
    """Judges requests (docs/hook.rst, Authentication).

    :param credentials: what suffices as a proof.
    :param methods: which kinds of proof count, of ``bearer``, ``token`` and ``peer``.
    :param allow_from: the only sources that are heard at all; empty means any.
    """

    def __init__(
        self,
        credentials: Credentials,
        methods: frozenset[str],
        allow_from: Sequence[IPv4Network | IPv6Network],
    ) -> None:
        self._vm = credentials.vm.encode()
        self._secrets = _digests(secret.encode() for secret in credentials.secrets)
        self._tokens = _digests(token.encode() for token in credentials.all_tokens())
        self._methods = methods
        self._allow_from = tuple(allow_from)

    def judge(
        self,
        source: str | None,
        authorization: Sequence[bytes],
        query: Mapping[bytes, Sequence[bytes]],
    ) -> Verdict:
        """Judge one request.

        :param source: the address that it came from, None where it has none.
        :param authorization: the values of its ``Authorization`` headers.
        :param query: the decoded query string.
        :return: the verdict.
        """
        if self._allow_from and not self._is_allowed(source):
            return Verdict(None, "its address is not in allow_from")
        reasons = []
        if "bearer" in self._methods:
            reason = self._refuse_bearer(authorization)
            if reason is None:
                return Verdict("bearer")
            reasons += [reason] if authorization else []
        elif authorization:
            reasons.append("an Authorization header, but authenticate does not list bearer")
        if "token" in self._methods:
            reason = self._refuse_token(query)
            if reason is None:
                return Verdict("token")
            reasons += [reason] if _has_token(query) else []
        elif _has_token(query):
            reasons.append("a token in the URL, but authenticate does not list token")
        if "peer" in self._methods and self._allow_from:
            return Verdict("peer")
        return Verdict(None, "; ".join(reasons) or self._nothing_presented())

    def _is_allowed(self, source: str | None) -> bool:
        address = parse_address(source)
        return address is not None and any(address in network for network in self._allow_from)

    def _nothing_presented(self) -> str:
        wanted = [name for method, name in _PROOFS.items() if method in self._methods]
        return f"no credential in it: {' and '.join(wanted) or 'authenticate lists none'}"

    def _refuse_bearer(self, authorization: Sequence[bytes]) -> str | None:
        match = _BEARER.fullmatch(authorization[0]) if authorization else None
        if len(authorization) > 1 or match is None:
            return "an Authorization header that is not one Bearer"
        presented = _decode_base64(match[1])
        if presented is None or not _is_among(presented, self._secrets):
            return "a Bearer that is none of the secrets"
        return None

    def _refuse_token(self, query: Mapping[bytes, Sequence[bytes]]) -> str | None:
        tokens, names = query.get(b"token", ()), query.get(b"vm", ())
        if not tokens:
            return "a vm= in the URL without a token"
        is_token = len(tokens) == 1 and _is_among(tokens[0], self._tokens)
        if len(names) != 1 or names[0] != self._vm:
            return f"a token whose vm= is not this VM's name, {self._vm.decode()}; {_REMEDY}"
        return None if is_token else f"a token that is not this VM's; {_REMEDY}"


def _has_token(query: Mapping[bytes, Sequence[bytes]]) -> bool:
    return b"token" in query or b"vm" in query


def _digests(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(value).digest() for value in values)


def _is_among(presented: bytes, digests: tuple[bytes, ...]) -> bool:
    """Compare with all of them, in a time that tells neither which one fits nor how far."""
    digest = hashlib.sha256(presented).digest()
    fits = False
    for known in digests:
        fits |= hmac.compare_digest(digest, known)
    return fits


def _decode_base64(text: bytes) -> bytes | None:
    """Decode as leniently as XO's own example does: either alphabet, with or without padding."""
    standard = text.translate(_TO_STANDARD_ALPHABET).rstrip(b"=")
    try:
        return base64.b64decode(standard + b"=" * (-len(standard) % 4))
    except binascii.Error:
        return None
