"""The agent answers as the example server of Xen Orchestra's page does."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent
from tests.integration.example_server import PAGE, ExampleServer
from tests.integration.hook_client import NO_HEADERS, Answer, Connection, bearer

#: CONNECT is not here, as it names no path; nor what is no method to node, which answers 400.
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND")

#: As many that mean /sync as mean /post-sync, by turns, so that each window is ended and none is
#: left to answer 500 to another row (docs/hook.rst: every 200 to /sync owes one /post-sync).
PATHS = (
    "/sync",
    "/post-sync",
    "/sync?",
    "/post-sync?",
    "/sync?x=1",
    "/post-sync?y",
    "/sync?a?b",
    "/post-sync?a?b",
    "/sync?token=wrong&vm=another",
    "/post-sync?token=wrong&vm=another",
    "/",
    "/?/sync",
    "/sync/",
    "/post-sync/",
    "/SYNC",
    "/Post-Sync",
    "/%73ync",
    "/sync%3Fx=1",
    "/sync%00",
    "//sync",
    "/./sync",
    "/x/../sync",
    "/sync;x=1",
    "/post_sync",
    "/synchronise",
    "/favicon.ico",
    "/__proto__",
    "/constructor",
    "https://localhost/sync",
)


def encoded(text: str) -> str:
    """Encode a text's UTF-8 in base64."""
    return base64.b64encode(text.encode()).decode()


def credentials(secret: str) -> dict[str, Mapping[str, str]]:
    """Write the headers that are tried, each with a name for it.

    Left out, as the hook's rule for ``bearer`` differs from the example: several spaces after
    the scheme (the hook allows them), and what only node's lenient base64 decoder or a header's
    ignored third word makes into the secret (the hook asks for the base64 of the secret).
    """
    lines = {
        "empty": "",
        "scheme alone": "Bearer",
        "no scheme": encoded(secret),
        "another scheme": f"Basic {encoded(secret)}",
        "a longer scheme": f"Bearers {encoded(secret)}",
        "a tab for the space": f"Bearer\t{encoded(secret)}",
        "not encoded": f"Bearer {encoded(encoded(secret))}",
        "not base64": "Bearer !!!!",
        "encoded nothing": "Bearer =",
        "a line end too many": f"Bearer {encoded(secret + chr(10))}",
        "shortened": f"Bearer {encoded(secret[:-1])}",
        "in another case": f"Bearer {encoded(secret.swapcase())}",
    }
    return {
        "right": bearer(secret),
        "scheme in lower case": bearer(secret, scheme="bearer"),
        "scheme in upper case": bearer(secret, scheme="BEARER"),
        "scheme in mixed case": bearer(secret, scheme="bEaReR"),
        "none": NO_HEADERS,
        "wrong": bearer("another secret"),
        **{name: {"Authorization": line} for name, line in lines.items()},
    }


@attrs.frozen
class Row:
    """One request, without a body.

    :param method: its method.
    :param target: its path and query string.
    :param credential: the name of its credential.
    """

    method: str
    target: str
    credential: str


def table() -> Iterator[Row]:
    """Every method on every path, and every credential on the paths that exist and on one not."""
    for credential in ("right", "none", "wrong"):
        for method in METHODS:
            for path in PATHS:
                yield Row(method, path, credential)
    for credential in credentials("any"):
        for path in ("/sync", "/post-sync", "/favicon.ico"):
            yield Row("GET", path, credential)


class Client:
    """Sends row after row, on one connection for as long as the server keeps it open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = Connection(port)

    def ask(self, row: Row, headers: Mapping[str, str]) -> tuple[int, str]:
        """Send a row's request; the status and the body's first line come back."""
        answer: Answer = self._connection.request(row.method, row.target, headers)
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
            self._connection = Connection(self._port)
        return answer.status, answer.first_line

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class ExampleServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        needs.program("node")
        needs.program("openssl")
        if not PAGE.exists():
            raise SkipTest(f"{PAGE} is not there: it holds the server to compare with")

    def compare(self, secret: str) -> None:
        """Send the table to both servers and compare what they answer."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        secret_file = directory / "secrets"
        secret_file.touch(0o600)
        secret_file.write_text(secret + "\n", encoding="utf-8")
        agent = Agent.for_test(self, f"secret_file = {secret_file}")
        example = ExampleServer(directory, secret)
        self.addCleanup(example.stop)
        example.start()
        clients = Client(example.port), Client(agent.port)
        for client in clients:
            self.addCleanup(client.close)
        headers = credentials(secret)

        answered = {
            row: tuple(client.ask(row, headers[row.credential]) for client in clients)
            for row in table()
        }

        differing = {row: both for row, both in answered.items() if both[0] != both[1]}
        self.assertEqual(differing, {})
        self.assertGreaterEqual(len(answered), 200)
        # A table that meets refusals alone would compare nothing else.
        self.assertEqual({shown[0] for _, shown in answered.values()}, {200, 403, 404})

    def test_answers(self) -> None:
        """The agent gives each request the example's status and first line."""
        self.compare("unique long string to ensure the request comes from XO")

    def test_answers_with_another_alphabet(self) -> None:
        """They agree where the secret is not ASCII too: both take it as UTF-8."""
        self.compare("длинная строка, ñandú, 秘密, 🗝")
