"""HTTP as docs/hook.rst has it, row by row, spoken to the real agent."""

from __future__ import annotations

import json
import re
import signal
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import eventually
from tests.integration.counted_agent import CountedAgent
from tests.integration.hook_client import Connection, request_bytes
from tests.integration.wire import Wire

#: Paths that mean /sync to a server that is more obliging than this one.
NEARLY = (
    "/%73ync",
    "/sync/",
    "//sync",
    "/./sync",
    "/x/../sync",
    "/SYNC",
    "/sync;x",
    "/sync%3F",
    "/sync#x",
    "https://localhost/sync",
    "localhost/sync",
    "*",
    "/",
)
OTHER_METHODS = ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FREEZE", "get")
JSON = {"Accept": "application/json"}
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"


def everything(connection: Connection) -> bytes:
    """Read until the server closes."""
    received = b""
    while chunk := connection.socket.recv(65536):
        received += chunk
    return received


def undated(answer: bytes) -> bytes:
    """Take the date out of an answer."""
    return re.sub(rb"Date: [^\r]*\r\n", b"", answer)


class AnswerTests(SynchronousTestCase):
    """Each row of the table of requests."""

    def setUp(self) -> None:
        self.agent = CountedAgent.for_test(self)

    def exchange(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; all comes back, for the server closes it."""
        with self.agent.connect() as connection:
            connection.send(request)
            return everything(connection)

    def with_header(self, *lines: str, start: str = "GET /sync HTTP/1.1") -> bytes:
        """Write an authenticated request with further lines of header."""
        credential = f"Authorization: {self.agent.credentials['Authorization']}"
        return "\r\n".join((start, credential, *lines, "", "")).encode("latin-1")

    def test_window(self) -> None:
        """``/sync`` freezes, ``/post-sync`` thaws, and each is answered ``Ok``."""
        for target, runs in (("/sync", ["freeze"]), ("/post-sync", ["freeze", "thaw"])):
            answer = self.agent.get(target)
            self.assertEqual((answer.status, answer.body), (200, b"Ok"))
            self.assertEqual(self.agent.runs, runs)

    def test_nothing_open(self) -> None:
        """``/post-sync`` with no window open and none expected is answered ``Ok``."""
        answer = self.agent.get("/post-sync")
        self.assertEqual((answer.status, answer.body), (200, b"Ok"))
        self.assertEqual(self.agent.runs, [])

    def test_query(self) -> None:
        """A query string changes nothing."""
        for target in ("/sync?x=1", "/post-sync?", "/sync?token=wrong&vm=x", "/post-sync?a?b"):
            self.assertEqual(self.agent.get(target).status, 200, target)
        self.assertEqual(self.agent.runs, ["freeze", "thaw"] * 2)

    def test_not_found(self) -> None:
        """The path is compared as it came, and GET is the only method; nothing else freezes."""
        others = [("GET", path) for path in NEARLY]
        others += [(method, path) for method in OTHER_METHODS for path in ("/sync", "/post-sync")]
        with self.agent.connect() as connection:
            for method, path in others:
                for target in (path, f"{path}?{self.agent.query()}"):
                    answer = connection.request(method, target, self.agent.credentials)
                    body = b"" if method == "HEAD" else b"Not Found"
                    self.assertEqual((answer.status, answer.body), (404, body), (method, target))
        self.assertEqual(self.agent.runs, [])

    def test_forbidden(self) -> None:
        """A stranger gets the same bytes whatever it asks for, and nothing is run."""
        answers = {
            undated(self.exchange(request_bytes(method, path)))
            for path in ("/sync", "/post-sync", "/nowhere", "*", "//sync")
            for method in ("GET", "POST", "OPTIONS", "BREW")
        }
        expected = (
            b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 9\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
        )
        self.assertEqual(answers, {expected + b"Forbidden"})
        self.assertEqual(undated(self.exchange(request_bytes("HEAD", "/sync"))), expected)
        self.assertEqual(undated(self.exchange(request_bytes("GET", "/", JSON))), answers.pop())
        self.assertEqual(self.agent.runs, [])

    def test_body(self) -> None:
        """A body is not waited for: 413, or 403 to a stranger, and the connection closes."""
        lengths = (
            ("Content-Length: 1",),
            (f"Content-Length: {10**30}",),
            ("Transfer-Encoding: chunked",),
            ("Content-Length: 3", "Expect: 100-continue"),
            ("Transfer-Encoding: chunked", "Expect: 100-continue"),
        )
        for length in lengths:
            for method in ("GET", "POST"):
                start = f"{method} /sync HTTP/1.1"
                answer = self.exchange(self.with_header(*length, start=start))
                self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), (length, answer))
                self.assertIn(b"\r\nConnection: close\r\n", answer)
                stranger = "\r\n".join((start, *length, "", "")).encode()
                self.assertTrue(self.exchange(stranger).startswith(b"HTTP/1.1 403 "), length)
        smuggled = self.with_header("Content-Length: 90") + self.with_header()
        self.assertEqual(self.exchange(smuggled).count(b"HTTP/1.1"), 1)
        self.assertEqual(self.agent.runs, [])

    def test_no_body(self) -> None:
        """A length of nothing is no body, and nobody is told to go on."""
        with self.agent.connect() as connection:
            connection.send(self.with_header("Content-Length: 0", "Expect: 100-continue"))
            self.assertEqual(connection.answer().status, 200)
        self.assertEqual(self.agent.runs, ["freeze"])

    def test_malformed(self) -> None:
        """A malformed request gets the bare 400, and nothing is run, credential or no."""
        requests = {
            "no colon, more headers": self.with_header("what is this", "Host: localhost"),
            "no colon, the last header": self.with_header("what is this"),
            "a blank before the colon": self.with_header("Host : localhost"),
            "NUL": self.with_header("Host: local\0host"),
            "a bare CR": self.with_header("Host: local\rhost"),
            "a bare LF": self.with_header("Host: local\nhost"),
            "bare LFs alone": self.with_header().replace(b"\r\n", b"\n"),
            "bare LFs to end with": self.with_header()[:-4] + b"\n\n",
            "continues nothing": b"GET /sync HTTP/1.1\r\n x\r\n" + self.with_header()[20:],
            "too many headers": self.with_header(*["X: y"] * 501),
            "headers too large": self.with_header(*[f"X: {'y' * 1000}"] * 20),
            "a header too large": self.with_header(f"X: {'y' * 20000}"),
            "a path too long": self.with_header(start=f"GET /{'y' * 20000} HTTP/1.1"),
            "an endless line": b"y" * 20000,
            "HTTP/0.9": b"GET /sync\r\n",
            "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "HTTP/3.0": self.with_header(start="GET /sync HTTP/3.0"),
            "no target": self.with_header(start="GET  HTTP/1.1"),
            "a blank in the target": self.with_header(start="GET /sync x HTTP/1.1"),
            "an escape in the target": self.with_header(start="GET /\x1b[31m HTTP/1.1"),
            "no method": self.with_header(start=" /sync HTTP/1.1"),
            "a method that is none": self.with_header(start="G(E)T /sync HTTP/1.1"),
            "a negative length": self.with_header("Content-Length: -1"),
            "a length with a sign": self.with_header("Content-Length: +1"),
            "two lengths": self.with_header("Content-Length: 0", "Content-Length: 1"),
            "a length and chunks": self.with_header(
                "Content-Length: 1", "Transfer-Encoding: chunked"
            ),
            "an encoding": self.with_header("Transfer-Encoding: gzip"),
            "a length of many digits": self.with_header(f"Content-Length: {'9' * 5000}"),
        }
        for name, request in requests.items():
            self.assertEqual(self.exchange(request), BAD_REQUEST, name)
        # What follows a malformed request is not looked at.
        self.assertEqual(self.exchange(b"what\r\n\r\n" + self.with_header()), BAD_REQUEST)
        self.assertEqual(self.agent.runs, [])
        self.assertNotIn("Traceback", self.agent.log)

    def test_old_http(self) -> None:
        """HTTP/1.0 is answered, and the connection closes without an offer to keep it."""
        answer = self.exchange(self.with_header(start="GET /sync HTTP/1.0"))
        self.assertTrue(answer.startswith(b"HTTP/1.0 200 OK\r\n"), answer)
        self.assertNotIn(b"Keep-Alive", answer)

    def test_upgrade(self) -> None:
        """An offer to go over to HTTP/2 is not taken up."""
        upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")
        with self.agent.connect() as connection:
            connection.send(self.with_header(*upgrade))
            self.assertEqual(connection.answer().status, 200)

    def test_pipelined(self) -> None:
        """Requests that are sent ahead are answered one after the other, in order."""
        targets = ("/sync", "/nowhere", "/post-sync", "/sync", "/post-sync", "/post-sync")
        credentials = self.agent.credentials
        with self.agent.connect() as connection:
            connection.send(b"".join(request_bytes("GET", each, credentials) for each in targets))
            statuses = [connection.answer().status for _ in targets]
        self.assertEqual(statuses, [200, 404, 200, 200, 200, 200])
        self.assertEqual(self.agent.runs, ["freeze", "thaw"] * 2)

    def test_stranger_sends_ahead(self) -> None:
        """A stranger has one attempt a connection: what it sends ahead is not answered."""
        for following in (request_bytes("GET", "/") * 3000, self.with_header()):
            with self.agent.connect() as connection:
                connection.send(request_bytes("GET", "/") + following)
                self.assertEqual(connection.answer().status, 403)
                self.assertTrue(connection.ended())
        self.assertEqual(self.agent.runs, [])


class FormTests(SynchronousTestCase):
    """What an answer is made of."""

    def test_keep_alive(self) -> None:
        """A hold's answer offers the connection for as long as the hold may last."""
        agent = CountedAgent.for_test(self, "hold_limit = 1500ms")
        with agent.connect() as connection:
            answer = connection.get("/sync", agent.credentials)
            self.assertEqual(answer.headers["keep-alive"], "timeout=2")
            agent.wait_for_outcomes("expired")
            answer = connection.get("/post-sync", agent.credentials)
            self.assertEqual(answer.status, 500)
            self.assertNotIn("keep-alive", answer.headers)
            answer = connection.get("/sync", {**agent.credentials, "Connection": "close"})
            self.assertEqual(answer.status, 200)
            self.assertNotIn("keep-alive", answer.headers)
            self.assertTrue(connection.ended())

    def test_json(self) -> None:
        """Asked for JSON, an answer tells of the window and of each participant."""
        agent = CountedAgent.for_test(self, sections="[command:say]\nfreeze = echo flushed")
        headers = {**agent.credentials, **JSON}
        with agent.connect() as connection:
            first, second = (connection.get(each, headers) for each in ("/sync", "/post-sync"))
        for answer, state in ((first, "holding"), (second, "synced")):
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["content-type"], "application/json")
            told = json.loads(answer.body)
            self.assertRegex(told["window"], r"^\d{8}T\d{6}Z-[0-9a-f]{6}$")
            self.assertEqual((told["state"], told["problems"]), (state, []))
            count, say = sorted(told["participants"], key=lambda each: str(each["name"]))
            self.assertEqual((count["name"], count["outcome"]), ("command:count", "ok"))
            self.assertEqual((say["name"], say["output"]), ("command:say", "flushed\n"))
            self.assertGreater(count["seconds"], 0)

    def test_failed(self) -> None:
        """A freeze that fails is 500, with a line for who failed; nothing stays frozen."""
        script = r"printf \"disk \\033[31mfull\\033[0m\"; exit 3"
        agent = CountedAgent.for_test(
            self, sections=f'[command:bad]\norder = 90\nfreeze = sh -c "{script}"'
        )
        answer = agent.get("/sync")
        self.assertEqual((answer.status, answer.first_line), (500, "Internal Error"))
        lines = answer.body.decode().splitlines()[1:]
        self.assertEqual(lines, [r"command:bad: exit status 3: disk \x1b[31mfull\x1b[0m"])
        self.assertEqual(agent.runs, ["freeze", "thaw"])
        with agent.connect() as connection:
            answer = connection.get("/sync", {**agent.credentials, **JSON})
        [problem] = json.loads(answer.body)["problems"]
        self.assertEqual((answer.status, problem.split()[0]), (500, "command:bad:"))
        self.assertTrue(answer.body.decode().rstrip("\n").isprintable(), answer.body)
        self.assertNotIn("\x1b", agent.log)

    def test_one_record(self) -> None:
        """Every answer leaves in one TLS record, with no header that tells what sends it."""
        agent = CountedAgent.for_test(
            self, sections="[command:bad]\norder = 90\nfreeze = sh -c 'seq 200; exit 1'"
        )
        rows = (
            (500, "/sync", agent.credentials),
            (500, "/sync", {**agent.credentials, **JSON}),
            (200, "/post-sync", agent.credentials),
            (200, "/post-sync", {**agent.credentials, **JSON}),
            (404, "/", agent.credentials),
            (413, "/", {**agent.credentials, "Content-Length": "9"}),
        )
        for version in VERSIONS:
            wire = self.wire(agent, version)
            for status, target, headers in rows:
                wire.send(request_bytes("GET", target, headers))
                self.assert_whole(wire.receive(), status)
            wire = self.wire(agent, version)
            wire.send(request_bytes("GET", "/sync"))
            self.assert_whole(wire.receive(), 403)

    def test_shutting_down(self) -> None:
        """An agent that ends answers 503, and says when to ask again."""
        agent = CountedAgent.for_test(self)
        wires = [self.wire(agent, version) for version in VERSIONS]
        for wire in wires:
            wire.send(request_bytes("GET", "/sync", agent.credentials))
            self.assert_whole(wire.receive(), 200)
        agent.stay.touch()
        agent.kill(signal.SIGTERM)
        eventually(lambda: "thaw" in agent.runs, "the thaw has begun")
        for wire in wires:
            wire.send(request_bytes("GET", "/sync", agent.credentials))
            answer = wire.receive()
            self.assert_whole(answer, 503)
            self.assertIn(b"\r\nRetry-After: 5\r\n", answer)
        agent.stay.unlink()
        agent.wait()

    def wire(self, agent: CountedAgent, version: ssl.TLSVersion) -> Wire:
        wire = Wire(agent.port, version)
        self.addCleanup(wire.close)
        return wire

    def assert_whole(self, answer: bytes, status: int) -> None:
        """See that the answer is there to its last byte."""
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % status), answer)
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        self.assertEqual(len(body), int(fields[b"Content-Length"]))
        known = {b"Date", b"Content-Type", b"Content-Length", b"Connection"}
        self.assertLessEqual(set(fields), known | {b"Keep-Alive", b"Retry-After"})
