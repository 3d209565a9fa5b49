"""Who may drive the hook."""

from __future__ import annotations

import base64
import hmac
import subprocess
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from xohook.addresses import parse_address
from xohook.hook.auth import Credentials, Gate, Verdict, derive_token

VM = "web01"
SECRETS = ("first secret", "zweites Geheimnis äöü", "third")
TOKEN = "f" * 64
OLD = frozenset({"bearer", "token"})


def bearer(secret: str) -> list[bytes]:
    """Make the headers that a mended XO sends."""
    return [b"Bearer " + base64.b64encode(secret.encode())]


def query(token: str, vm: str = VM) -> dict[bytes, list[bytes]]:
    """Make the query of a tag's URL."""
    return {b"token": [token.encode()], b"vm": [vm.encode()]}


class DeriveTokenTests(SynchronousTestCase):
    """The token of one VM."""

    def test_rfc_4231(self) -> None:
        """It is HMAC-SHA-256, as the second test case of RFC 4231 has it."""
        self.assertEqual(
            derive_token("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        )

    def test_openssl(self) -> None:
        """OpenSSL derives the same one, from UTF-8."""
        for secret in SECRETS:
            key = f"hexkey:{secret.encode().hex()}"
            run = subprocess.run(
                [needs.program("openssl"), "dgst", "-sha256", "-mac", "HMAC", "-macopt", key],
                input="wéb01".encode(),
                capture_output=True,
                check=True,
            )
            self.assertEqual(derive_token(secret, "wéb01"), run.stdout.split()[-1].decode())

    def test_each_its_own(self) -> None:
        """Another VM and another secret have another token."""
        tokens = {derive_token(secret, vm) for secret in SECRETS for vm in ("web01", "web02")}
        self.assertEqual(len(tokens), 6)


class GateTestCase(SynchronousTestCase):
    """Judges requests by the same credentials."""

    def judge(
        self,
        authorization: list[bytes] | None = None,
        args: dict[bytes, list[bytes]] | None = None,
        source: str | None = "192.0.2.1",
        methods: frozenset[str] = OLD,
        allow_from: tuple[IPv4Network | IPv6Network, ...] = (),
    ) -> Verdict:
        """Judge one request."""
        gate = Gate(Credentials(SECRETS, (TOKEN,), VM), methods, allow_from)
        return gate.judge(source, authorization or [], args or {})

    def refused(self, *args: Any, **kwargs: Any) -> str:
        """Judge one request that must be refused; tell the reason."""
        verdict = self.judge(*args, **kwargs)
        self.assertIsNone(verdict.method, verdict.reason)
        return verdict.reason


class BearerTests(GateTestCase):
    """The ``Authorization`` header."""

    def test_any_secret(self) -> None:
        """Each of the secrets suffices."""
        for secret in SECRETS:
            self.assertEqual(self.judge(bearer(secret)), Verdict("bearer"))

    def test_form(self) -> None:
        """The scheme may be in any case, and one or more spaces follow it."""
        encoded = base64.b64encode(b"third")
        for header in [b"bearer " + encoded, b"BEARER   " + encoded, b"Bearer  " + encoded]:
            self.assertEqual(self.judge([header]).method, "bearer", header)

    def test_base64(self) -> None:
        """Padding may be missing, and the alphabet may be that for URLs."""
        secret = "\N{LATIN SMALL LETTER Y WITH DIAERESIS}?>" * 5
        gate = Gate(Credentials((secret,), (), VM), OLD, ())
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(secret.encode())
            for header in (b"Bearer " + encoded, b"Bearer " + encoded.rstrip(b"=")):
                self.assertEqual(gate.judge(None, [header], {}).method, "bearer", header)

    def test_refused(self) -> None:
        """Anything else is refused."""
        right = base64.b64encode(b"third")
        for header in [
            b"",
            b"Bearer",
            b"Bearer ",
            b"Basic " + right,
            b"Bearer" + right,
            b"Bearer\t" + right,
            b"Bearer " + right + b" ",
            b"Bearer third",
            b"Bearer " + base64.b64encode(b"Third"),
            b"Bearer " + base64.b64encode(b"third "),
            b"Bearer a",
            b"Bearer \xff\xfe",
        ]:
            self.assertIn("Bearer", self.refused([header]), header)

    def test_twice(self) -> None:
        """Two headers are none, even where both are right."""
        self.assertIn("not one Bearer", self.refused(bearer("third") * 2))

    def test_not_asked_for(self) -> None:
        """A right one does not suffice where ``authenticate`` leaves it out."""
        reason = self.refused(bearer("third"), methods=frozenset({"token"}))
        self.assertEqual(reason, "an Authorization header, but authenticate does not list bearer")


class TokenTests(GateTestCase):
    """The token in the tag's URL."""

    def test_any_secret(self) -> None:
        """The token of each secret suffices, as does each that is given as it stands."""
        for token in (*(derive_token(secret, VM) for secret in SECRETS), TOKEN):
            self.assertEqual(self.judge(args=query(token)), Verdict("token"))

    def test_beside_a_wrong_header(self) -> None:
        """A right token suffices, whatever the header says."""
        self.assertEqual(self.judge([b"Bearer x"], query(TOKEN)).method, "token")

    def test_other_vm(self) -> None:
        """It is accepted for the agent's own name and for no other."""
        token = derive_token("third", "web02")
        for args in [
            query(token, "web02"),
            query(TOKEN, "web02"),
            query(TOKEN, "WEB01"),
            query(TOKEN, ""),
            {b"token": [TOKEN.encode()]},
            {b"token": [TOKEN.encode()], b"vm": [VM.encode(), VM.encode()]},
        ]:
            self.assertIn("a token whose vm=", self.refused(args=args), args)
        self.assertIn("not this VM's", self.refused(args=query(token)))

    def test_refused(self) -> None:
        """Anything but the whole token is refused, and a secret is no token."""
        for token in ["", TOKEN[:-1], TOKEN + "f", TOKEN.upper(), "third", "é"]:
            self.assertIn("a token that is not this VM's", self.refused(args=query(token)), token)

    def test_twice(self) -> None:
        """Two tokens are none, even where both are right."""
        args = {b"token": [TOKEN.encode()] * 2, b"vm": [VM.encode()]}
        self.assertIn("a token that is not this VM's", self.refused(args=args))

    def test_not_asked_for(self) -> None:
        """A right one does not suffice where ``authenticate`` leaves it out."""
        reason = self.refused(args=query(TOKEN), methods=frozenset({"bearer"}))
        self.assertEqual(reason, "a token in the URL, but authenticate does not list token")


class PresentedTests(GateTestCase):
    """A refusal speaks of what was presented, and of nothing else."""

    def test_token_alone(self) -> None:
        """Of a tag with a wrong token nothing is said about a header that nobody sent."""
        reason = self.refused(args=query("wrong"))
        self.assertEqual(
            reason, "a token that is not this VM's; 'xohook setup' prints the right tag"
        )

    def test_bearer_alone(self) -> None:
        """Of a wrong header nothing is said about a token that nobody sent."""
        self.assertEqual(self.refused(bearer("wrong")), "a Bearer that is none of the secrets")

    def test_both(self) -> None:
        """Where both are wrong, both are told."""
        reason = self.refused(bearer("wrong"), query("wrong"))
        self.assertIn("a Bearer that is none of the secrets; a token", reason)

    def test_nothing(self) -> None:
        """Where nothing was presented, the reason names what would do."""
        self.assertEqual(
            self.refused(), "no credential in it: no Authorization header and no token in the URL"
        )
        reason = self.refused(methods=frozenset({"token"}))
        self.assertEqual(reason, "no credential in it: no token in the URL")

    def test_other_name(self) -> None:
        """A token for another name is told this VM's own name."""
        self.assertIn("not this VM's name, web01", self.refused(args=query(TOKEN, "web02")))


class AllowFromTests(GateTestCase):
    """The sources that are heard."""

    NETWORKS = (ip_network("192.0.2.0/28"), ip_network("2001:db8::/64"))

    def test_others_are_refused(self) -> None:
        """With it any other source is refused, whatever it knows."""
        for source in ["192.0.2.16", "2001:db8:1::1", "::ffff:198.51.100.1", "", None, "name"]:
            reason = self.refused(
                bearer("third"), query(TOKEN), source=source, allow_from=self.NETWORKS
            )
            self.assertEqual(reason, "its address is not in allow_from", source)

    def test_is_no_proof(self) -> None:
        """A source that is in it must prove itself all the same."""
        self.refused(allow_from=self.NETWORKS)
        self.assertEqual(self.judge(bearer("third"), allow_from=self.NETWORKS).method, "bearer")

    def test_mapped(self) -> None:
        """An IPv4 address that is mapped into IPv6 counts as IPv4."""
        for source in ["192.0.2.15", "::ffff:192.0.2.15", "2001:db8::1"]:
            verdict = self.judge(args=query(TOKEN), source=source, allow_from=self.NETWORKS)
            self.assertEqual(verdict.method, "token", source)

    def test_peer(self) -> None:
        """Where ``peer`` suffices, a source that is in it is asked for nothing else."""
        for methods in (frozenset({"peer"}), OLD | {"peer"}):
            verdict = self.judge(methods=methods, allow_from=self.NETWORKS)
            self.assertEqual(verdict, Verdict("peer"))

    def test_peer_alone_admits_nobody(self) -> None:
        """Without it ``peer`` admits nobody."""
        self.assertIsNone(self.judge(methods=frozenset({"peer"})).method)

    def test_addresses(self) -> None:
        """What is no address is none."""
        for source in [None, "", "localhost", "192.0.2", "/run/socket"]:
            self.assertIsNone(parse_address(source))
        self.assertEqual(str(parse_address("::ffff:192.0.2.1")), "192.0.2.1")
        self.assertEqual(str(parse_address("fe80::1%eth0")), "fe80::1%eth0")


class SecrecyTests(GateTestCase):
    """What a refusal gives away."""

    def test_reasons(self) -> None:
        """A reason holds no credential, neither a right nor a wrong one."""
        wrong = "wrong-credential"
        for headers in ([], bearer(wrong), [wrong.encode()], bearer("third") * 2):
            for args in ({}, query(wrong), query(TOKEN, wrong), query(wrong, wrong)):
                reason = self.refused(headers, args)
                for told in (wrong, TOKEN, *SECRETS, *(each.decode() for each in headers)):
                    self.assertNotIn(told, reason)

    def test_representation(self) -> None:
        """Nothing that is shown by accident holds one."""
        credentials = Credentials(SECRETS, (TOKEN,), VM)
        for shown in (repr(credentials), str(credentials), repr(Gate(credentials, OLD, ()))):
            for told in (TOKEN, *SECRETS):
                self.assertNotIn(told, shown)

    def test_all_are_compared(self) -> None:
        """Each presented one is compared with all, be it the first, the last or none of them."""
        compared: list[tuple[int, int]] = []
        compare = hmac.compare_digest

        def count(one: bytes, other: bytes) -> bool:
            compared.append((len(one), len(other)))
            return compare(one, other)

        self.patch(hmac, "compare_digest", count)
        presented = [bearer(secret) for secret in (*SECRETS, "none", "x" * 1000)]
        tokens = [*(derive_token(secret, VM) for secret in SECRETS), TOKEN, "none", "x" * 1000]
        for headers in presented:
            compared.clear()
            self.judge(headers, methods=frozenset({"bearer"}))
            self.assertEqual(compared, [(32, 32)] * len(SECRETS))
        for token in tokens:
            compared.clear()
            self.judge(args=query(token))
            self.assertEqual(compared, [(32, 32)] * (len(SECRETS) + 1))

    @given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=20))
    def test_anything(self, header: bytes, token: bytes, vm: bytes) -> None:
        """Whatever is presented, a verdict is given, and a guess admits nobody."""
        self.refused([b"Bearer " + header], {b"token": [token], b"vm": [vm]})
