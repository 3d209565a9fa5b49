"""Who may drive the hook, asked of the real agent, and what the log tells of who may not."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.counted_agent import CountedAgent, token
from tests.integration.hook_client import NO_HEADERS, Connection, bearer, request_bytes


class AuthenticationTests(SynchronousTestCase):
    """What ``docs/hook.rst`` says of authentication."""

    def start(self, options: str = "", **files: Iterable[str]) -> CountedAgent:
        """Start an agent; each file that is given is an option of its name."""
        agent = CountedAgent(Path(self.mktemp()).resolve())
        self.addCleanup(agent.stop)
        for name, lines in files.items():
            path = agent.directory / name
            path.touch(mode=0o600)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            options += f"\n{name} = {path}"
        agent.configure(options)
        agent.listen_everywhere()
        agent.start()
        return agent

    def status(
        self,
        agent: CountedAgent,
        *authorization: str,
        query: str = "",
        host: str = "127.0.0.1",
    ) -> int:
        """Ask for a path that is not there: 404 for who may ask, 403 for others."""
        fields = "".join(f"Authorization: {each}\r\n" for each in authorization)
        with Connection(agent.port, host) as connection:
            connection.send(f"GET /?{query} HTTP/1.1\r\n{fields}\r\n".encode())
            return connection.answer().status

    def test_bearer(self) -> None:
        """The scheme counts in any case, with one or more spaces; all else is refused."""
        secret = "unique long string, ñandú 秘密"
        agent = self.start(secret_file=[secret])
        right = bearer(secret)["Authorization"]
        encoded = right.split()[1]
        for good in (right, f"bearer {encoded}", f"BEARER  {encoded}", f"bEaReR     {encoded}"):
            self.assertEqual(self.status(agent, good), 404, good)
        wrong = (
            "",
            "Bearer",
            "Bearer ",
            "Bearer =",
            "Bearer !!!",
            f"Bearer{encoded}",
            f"Basic {encoded}",
            f"Bearer {encoded} x",
            f"Bearer {encoded[:-4]}",
            f"Bearer\t{encoded}",
            f"Bearer {token(secret)}",
            bearer("another")["Authorization"],
            bearer("")["Authorization"],
        )
        for bad in wrong:
            self.assertEqual(self.status(agent, bad), 403, bad)
        self.assertEqual(self.status(agent, right, right), 403)
        self.assertEqual(self.status(agent, right, bearer("another")["Authorization"]), 403)
        self.assertEqual(self.status(agent), 403)

    def test_rotation(self) -> None:
        """Each secret of the file counts, and after a reload those that are there then."""
        agent = self.start(secret_file=["old", "new"])
        old, new, third = (bearer(each)["Authorization"] for each in ("old", "new", "third"))
        self.assertEqual([self.status(agent, each) for each in (old, new, third)], [404, 404, 403])
        (agent.directory / "secret_file").write_text("new\nthird\n")
        agent.kill(signal.SIGHUP)
        agent.wait_for_log("reloaded")
        self.assertEqual([self.status(agent, each) for each in (old, new, third)], [403, 404, 404])
        queries = [f"token={token(each)}&vm=web01" for each in ("old", "new", "third")]
        self.assertEqual([self.status(agent, query=each) for each in queries], [403, 404, 404])

    def test_token(self) -> None:
        """A token counts once, with this VM's name, for this VM alone."""
        agent = self.start()
        secret, right = agent.secret, token(agent.secret)
        for good in (agent.query(), f"vm=web01&x=1&token={right}"):
            self.assertEqual(self.status(agent, query=good), 404, good)
        wrong = (
            "",
            "token=&vm=web01",
            "token=wrong&vm=web01",
            f"token={secret}&vm=web01",
            f"token={right}",
            f"token={right}&vm=",
            f"token={right}&vm=web02",
            f"token={right}&vm=WEB01",
            f"token={token(secret, 'web02')}&vm=web02",
            f"token={token(secret, 'web02')}&vm=web01",
            f"token={right}&token={right}&vm=web01",
            f"token={right}&vm=web01&vm=web01",
            f"token={right}&vm=web01&vm=web02",
            f"TOKEN={right}&vm=web01",
        )
        for bad in wrong:
            self.assertEqual(self.status(agent, query=bad), 403, bad)
        # One proof that fails does not spoil another.
        self.assertEqual(self.status(agent, "Bearer wrong", query=agent.query()), 404)
        self.assertEqual(
            self.status(agent, bearer(secret)["Authorization"], query="token=wrong"), 404
        )

    def test_methods(self) -> None:
        """What is not listed in ``authenticate`` does not suffice."""
        for method, expected in (("bearer", [404, 403]), ("token", [403, 404])):
            agent = self.start(f"authenticate = {method}")
            header = bearer(agent.secret)["Authorization"]
            statuses = [self.status(agent, header), self.status(agent, query=agent.query())]
            self.assertEqual(statuses, expected, method)

    def test_token_file(self) -> None:
        """Given tokens count as they stand, with the VM's name; no secret is made beside them."""
        given = token("a secret that this VM does not know")
        agent = self.start(token_file=[given, "other"])
        for name in (given, "other"):
            self.assertEqual(self.status(agent, query=f"token={name}&vm=web01"), 404)
            self.assertEqual(self.status(agent, query=f"token={name}&vm=web02"), 403)
            self.assertEqual(self.status(agent, bearer(name)["Authorization"]), 403)
        self.assertFalse((agent.state_directory / "secret").exists())

    def test_peer(self) -> None:
        """With ``peer`` the address is proof enough, also where IPv4 comes in over IPv6."""
        agent = self.start("authenticate = peer\nallow_from = 127.0.0.1")
        self.assertEqual(self.status(agent), 404)
        self.assertEqual(self.status(agent, host="::1"), 403)
        self.assertIn("refused a request from ::1: its address is not in allow_from", agent.log)

    def test_allow_from(self) -> None:
        """From elsewhere no credential helps; networks and IPv4 over IPv6 are understood."""
        agent = self.start("allow_from = 127.0.0.0/30, ::2/128")
        header = bearer(agent.secret)["Authorization"]
        self.assertEqual(self.status(agent, header), 404)
        self.assertEqual(self.status(agent), 403)
        self.assertEqual(self.status(agent, header, host="::1"), 403)
        self.assertEqual(self.status(agent, header, host="::1", query=agent.query()), 403)


class LogTests(SynchronousTestCase):
    """What the log tells of requests, and what it must not."""

    def test_no_credential(self) -> None:
        """No credential is in the log, wherever it was sent and whether or not it is right."""
        agent = CountedAgent.for_test(self)
        right = (agent.secret, token(agent.secret), bearer(agent.secret)["Authorization"][7:])
        wrong = (token("wrong"), "Correct-Horse-Battery", bearer("Correct-Horse")["Authorization"])
        for text in (*right, *wrong):
            for credentials in (agent.credentials, NO_HEADERS):
                for request in self.requests_with(text.split()[-1], credentials):
                    with agent.connect() as connection:
                        connection.send(request)
                        connection.socket.recv(1)
        self.assertEqual(agent.get(f"/nowhere?{agent.query()}").status, 404)
        with agent.connect() as connection:
            self.assertEqual(connection.request("HEAD", f"/sync?{agent.query()}").status, 404)
        agent.restart()
        for text in (*right, *wrong):
            self.assertNotIn(text.split()[-1], agent.log)
        self.assertRegex(agent.log, "refused a request from 127.0.0.1: an Authorization header")
        self.assertRegex(agent.log, r"127\.0\.0\.1 GET /sync 200 \(bearer\)")
        self.assertRegex(agent.log, r"127\.0\.0\.1 HEAD /sync 404 \(token\)")
        self.assertRegex(agent.log, r"127\.0\.0\.1 GET /nowhere 404 \(bearer\)")

    def requests_with(self, text: str, headers: Mapping[str, str]) -> list[bytes]:
        """Put a text into each place of a request."""
        sent = dict(headers)
        method = re.sub("[^A-Za-z0-9]", "", text)
        return [
            request_bytes(method, "/", sent),
            *(
                request_bytes(verb, target, sent)
                for verb in ("GET", "HEAD", "POST")
                for target in (
                    f"/{text}",
                    f"/sync?token={text}&vm=web01",
                    f"/post-sync?token={text}&vm={text}",
                    f"/sync&token={text}",
                    f"/?{text}",
                    f"https://user:{text}@localhost/sync",
                )
            ),
            request_bytes("GET", "/sync", {**sent, "Cookie": f"a={text}; {text}"}),
            request_bytes("GET", "/post-sync", {**sent, "User-Agent": text, "Referer": text}),
            request_bytes("GET", "/", {**sent, "Authorization": f"Basic {text}"}),
            request_bytes("GET", "/", {**sent, "Content-Length": text}),
            request_bytes("GET", f"/ {text}", sent),
            f"{text}\r\n\r\n".encode(),
        ]

    def test_printable(self) -> None:
        """Nothing that was sent puts a control character into the log."""
        agent = CountedAgent.for_test(self)
        header = f"Authorization: {agent.credentials['Authorization']}\r\n\r\n".encode()
        for target in (b"/\x9b31mred", b"/\x1b[31mred", b"/\x7f\x85", b"/%1b[31m%0a%0d"):
            for rest in (header, b"\r\n"):
                with agent.connect() as connection:
                    connection.send(b"GET " + target + b" HTTP/1.1\r\n" + rest)
                    connection.socket.recv(1)
        agent.stop()
        shown = agent.log.replace("\n", "")
        self.assertTrue(shown.isprintable(), ascii(shown))

    def test_summary(self) -> None:
        """A thousand refusals are a line or two."""
        agent = CountedAgent.for_test(self)
        with agent.connect() as connection:
            context = connection.socket.context
            connection.get("/")
            session = connection.socket.session
        for _ in range(1000):
            with Connection(agent.port, context=context, session=session) as connection:
                self.assertEqual(connection.get("/sync").status, 403)
        agent.stop()
        lines = [line for line in agent.log.splitlines() if "refused" in line]
        self.assertLess(len(lines), 4, lines)
        self.assertLess(len(agent.log.splitlines()), 20, agent.log)
