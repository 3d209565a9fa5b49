"""Tests for ``xohook check``, on this machine's own programs, files and sockets."""

from __future__ import annotations

import json
import os
import socket
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Thread

from tests import needs
from tests.certificates import make
from tests.integration.command import CommandTestCase
from xohook.cli.checks import addresses
from xohook.hook import certificate

NOW = datetime.now(timezone.utc)


class CheckTests(CommandTestCase):
    """``xohook check`` says what is wrong, and makes nothing."""

    def check(self, *expected: str, good: bool = True) -> list[str]:
        """Run it; each expected text stands in one of the lines, which are given back."""
        lines = self.run_command("check", good=good).output.splitlines()
        for text in expected:
            self.assertTrue(any(text in line for line in lines), f"{text!r} not in {lines}")
        return lines

    def command(self, *lines: str) -> str:
        return "\n".join(("[command:it]", *lines))

    def test_before_first_start(self) -> None:
        """Before the first start all is well, and nothing is made."""
        self.configure(sections=self.command("freeze = true"))
        lines = self.check(
            "ok       [command:it] freeze: /usr/bin/true",
            f"{self.state}: not there yet",
            f"{self.state}/secret: not there yet; the first start makes it",
            f"{self.state}/certificate.pem: not there yet",
            f"listen = {self.port}: free",
        )
        # Another program on this machine may have frozen a filesystem of its own.
        own = [line for line in lines if "is frozen now" not in line]
        self.assertEqual({line.split()[0] for line in own}, {"ok"}, own)
        self.assertEqual(list(self.directory.iterdir()), [self.file])

    def test_after_setup(self) -> None:
        """What is there already is looked at."""
        self.configure("vm = web01")
        self.run_command("setup")
        certificate.ensure(self.state, NOW)
        until = f"{NOW + timedelta(days=824):%Y-%m-%d}"
        self.check(
            f"{self.state}/secret: 1 secret", f"certificate.pem: good until {until}", "vm = web01"
        )

    def test_mistakes(self) -> None:
        """All mistakes of the configuration are told, each on a line."""
        self.configure("nonsense = 1", "hold_limit = soon")
        lines = self.check(f"{self.file}:5 [xohook] nonsense", "hold_limit", good=False)
        self.assertEqual(len(lines), 2)

    def test_json(self) -> None:
        """The findings come as JSON too."""
        self.configure(sections=self.command("freeze = no-such-program"))
        document = json.loads(self.run_command("check", "--json", good=False).output)
        self.assertFalse(document["ok"])
        [wrong] = [each for each in document["findings"] if each["level"] == "error"]
        self.assertIn("no-such-program is not found in /usr/local/sbin:", wrong["text"])

    def test_program_not_executable(self) -> None:
        """A file that nobody may run is told apart from one that is not there."""
        script = self.keep("script", "#!/bin/sh\n", 0o644)
        self.configure(sections=self.command(f"thaw = {script}"))
        self.check(
            f"error    [command:it] thaw: {script} is there, but the agent's user cannot run it",
            good=False,
        )

    def test_program_of_user(self) -> None:
        """What counts is what the participant's user may run."""
        needs.root()
        # The test's own directory may lie where that user cannot go at all.
        script = Path("/tmp") / f"xohook-test-{os.getpid()}"
        script.write_text("#!/bin/sh\n")
        self.addCleanup(script.unlink)
        self.configure(sections=self.command(f"freeze = {script}", "user = nobody"))
        script.chmod(0o700)
        self.check(f"freeze: {script} is there, but nobody cannot run it", good=False)
        script.chmod(0o755)
        self.check(f"ok       [command:it] freeze: {script}")

    def test_path_of_environment(self) -> None:
        """PATH from the environment counts, relative to the directory."""
        tools = self.directory / "tools"
        tools.mkdir()
        (tools / "flush-it").write_text("#!/bin/sh\n")
        (tools / "flush-it").chmod(0o755)
        lines = f"directory = {self.directory}", "environment = PATH=tools:/bin"
        self.configure(sections=self.command("freeze = flush-it", *lines))
        self.check(f"freeze: {tools}/flush-it")

    def test_directory(self) -> None:
        """A directory that is not there is told."""
        self.configure(sections=self.command("freeze = true", "directory = /no/such/place"))
        self.check("[command:it] directory = /no/such/place: the agent's user cannot", good=False)

    def test_credentials(self) -> None:
        """Files of credentials are read, and judged."""
        secrets = self.keep("secrets", "a long enough secret\n", 0o644)
        self.configure(f"secret_file = {secrets}")
        self.check(f"error    {secrets}: mode 0644", good=False)
        secrets.chmod(0o600)
        self.check(f"{secrets}: 1 secret")
        secrets.write_text("short\nbut another is not\n")
        self.check(f"warning  {secrets}: a secret has less than 16 characters")
        tokens = self.keep("tokens", "")
        self.configure(f"token_file = {tokens}")
        self.check(f"error    {tokens}: holds nothing", good=False)
        tokens.write_text("ab\ncd\n")
        self.check(f"{tokens}: 2 tokens")

    def test_bearer_alone(self) -> None:
        """Where the header alone counts, a warning says that today's XO sends none."""
        self.configure("authenticate = bearer")
        self.check("warning  authenticate = bearer: the XO of today never sends its secret")

    def test_bearer_without_secret(self) -> None:
        """Where the header alone counts and there is nothing to compare it with, that is told."""
        self.configure(f"token_file = {self.keep('tokens', 'ab')}", "authenticate = bearer")
        self.assertIn("bearer", self.run_command("check", good=False).output)

    def test_name(self) -> None:
        """A name that was kept is told, and an error where it is lost."""
        self.configure()
        self.run_command("setup")
        (self.state / "vm").write_text("web01\n")
        # This machine has another one, most probably.
        self.check(f"warning  vm: web01, as {self.state}/vm keeps it", f"remove {self.state}/vm, ")
        (self.state / "vm").write_text(f"{socket.gethostname()}\n")
        self.check(f"ok       vm: {socket.gethostname()}, as {self.state}/vm keeps it")
        (self.state / "vm").write_text("")
        self.check(f"error    {self.state}/vm: holds no name", good=False)

    def test_certificate_near_its_end(self) -> None:
        """An own certificate that is near its end is the agent's to renew, and so is well."""
        self.configure()
        self.state.mkdir(mode=0o700)
        certificate.ensure(self.state, NOW - timedelta(days=800))
        self.check("; the agent renews it")

    def test_own_certificate(self) -> None:
        """An own certificate that is damaged is made anew, and so is no error."""
        self.configure()
        self.state.mkdir(mode=0o700)
        certificate.ensure(self.state, NOW)[1].unlink()
        self.check(f"warning  {self.state}/private_key.pem: cannot be read")

    def test_given_certificate(self) -> None:
        """A given certificate is an error when it is over, and a warning before that."""
        for days, level, good in ((90, "ok", True), (29, "warning", True), (0, "error", False)):
            files = make("it", now=NOW - timedelta(days=1), days=days + 1).write(self.directory)
            self.configure(f"certificate = {files[0]}", f"private_key = {files[1]}")
            self.check(f"{level:<8} {files[0]}: ", good=good)

    def test_directories(self) -> None:
        """Directories that others can write to, or that cannot be made, are errors."""
        self.state.mkdir()
        self.state.chmod(0o777)
        self.configure()
        self.check(f"chmod go-w {self.state}", good=False)
        self.state.rmdir()
        self.state.write_text("")
        self.check(f"error    state_directory: {self.state}", good=False)

    def test_runtime_directory(self) -> None:
        """A runtime directory on a disk is a warning; on one that is frozen, an error."""
        self.configure("control = no")
        text = self.file.read_text().replace("/dev/shm/xohook-test-not-made", f"{self.state}/run")
        self.file.write_text(text)
        self.check(f"warning  runtime_directory = {self.state}/run: on ")
        freezer = self.command(f"freeze = fsfreeze -f {self.directory}", "thaw = true")
        self.file.write_text(f"{text}\n{freezer}\n")
        lines = self.run_command("check", good=False).output
        self.assertIn(f"error    runtime_directory = {self.state}/run: it lies on", lines)

    def test_held_by_stranger(self) -> None:
        """Who holds an address is named."""
        with socket.create_server(("127.0.0.1", self.port)):
            self.configure()
            self.check(
                f"error    listen = {self.port}: held by ", f"(process {os.getpid()})", good=False
            )

    def test_held_beyond_sight(self) -> None:
        """Where procfs does not tell who holds an address, root is said to be the one to ask."""
        self.patch(addresses, "holders", lambda port: ())
        with socket.create_server(("127.0.0.1", self.port)):
            self.configure()
            self.check("held by a program that only root can name", good=False)

    def test_address_of_another(self) -> None:
        """An address that this machine does not have is an error."""
        self.configure(listen=f"tcp:{self.port}:interface=203.0.113.77")
        self.check("203.0.113.77: Cannot assign requested address", good=False)

    def test_other_endpoints(self) -> None:
        """What is no TCP port is left to the start."""
        self.configure(listen=f"unix:{self.directory}/socket")
        self.check("socket: not tried here")

    def test_held_by_agent(self) -> None:
        """An address where the agent's own certificate is served is the agent's."""
        self.configure()
        self.state.mkdir(mode=0o700)
        self.serve_tls(certificate.ensure(self.state, NOW), connections=1)
        self.check(f"ok       listen = {self.port}: in use by the running agent")

    def test_held_by_other_tls(self) -> None:
        """An address where another certificate is served is not the agent's."""
        self.configure()
        self.state.mkdir(mode=0o700)
        certificate.ensure(self.state, NOW)
        self.serve_tls(make("other", now=NOW).write(self.directory), connections=1)
        self.check(f"error    listen = {self.port}: held by", good=False)

    def serve_tls(self, files: tuple[Path, Path], connections: int) -> None:
        """Shake hands with so many clients."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        server = socket.create_server(("127.0.0.1", self.port))
        self.addCleanup(server.close)

        def serve() -> None:
            for _ in range(connections):
                with context.wrap_socket(server.accept()[0], server_side=True) as connection:
                    connection.recv(1)

        thread = Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join)
