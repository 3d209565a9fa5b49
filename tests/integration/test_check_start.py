"""Tests that ``xohook check`` foresees what a start would refuse, and never fails itself."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import ssl
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from tests import needs
from tests.integration.agent import free_port
from tests.integration.command import CommandTestCase
from xohook.cli.checks import addresses
from xohook.hook import certificate
from xohook.host import endpoints
from xohook.state.record import Entry, Record, State
from xohook.state.stamp import Stamp

LONG = "x" * 300
CHECK = "from xohook.cli import main; main()"


class HiddenTests(CommandTestCase):
    """What the caller may not see is told in words."""

    def setUp(self) -> None:
        super().setUp()
        self.hidden = self.directory / "hidden"
        self.hidden.mkdir()
        self.hidden.chmod(0)
        self.addCleanup(self.hidden.chmod, 0o700)

    def check(self, *expected: str, file: Path | None = None) -> None:
        """Run it as who has no more rights than anybody; it finds errors, these among them."""
        command = [sys.executable, "-c", CHECK, "check", "-c", str(file or self.file)]
        if os.geteuid() == 0:
            # Root without capabilities is an owner like others (capabilities(7)).
            command = [needs.program("setpriv"), "--bounding-set=-all", *command]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
        said = ended.stdout.decode()
        self.assertEqual((ended.returncode, ended.stderr.decode()), (1, ""), said)
        for text in expected:
            self.assertIn(text, said)

    def test_program(self) -> None:
        """A program in a directory that is closed, or of an impossible name, is not found."""
        self.configure(
            sections=f"[command:it]\nfreeze = {self.hidden}/a\nthaw = /{LONG}\n"
            f"[command:at]\nfreeze = true\ndirectory = {self.hidden}/b\n"
            f"[scripts:it]\ndirectory = /{LONG}\n"
        )
        self.check(
            f"freeze: {self.hidden}/a is not found",
            f"thaw: /{LONG} is not found",
            f"directory = {self.hidden}/b: the agent's user cannot work there",
            f"directory = /{LONG}: the agent's user cannot work there",
        )

    def test_directories(self) -> None:
        """State and runtime directory in such places are errors."""
        self.configure("control = no")
        text = self.file.read_text().replace(str(self.state), f"{self.hidden}/state")
        runtime = f"{self.directory}/{LONG}"
        self.file.write_text(text.replace("/dev/shm/xohook-test-not-made", runtime))
        self.check(
            f"error    state_directory = {self.hidden}/state: Permission denied; let",
            f"error    runtime_directory = {runtime}: File name too long; let",
        )

    def test_files(self) -> None:
        """So are files that are named there."""
        self.configure(
            f"secret_file = {self.hidden}/secret",
            f"certificate = {self.hidden}/a",
            f"private_key = /{LONG}",
        )
        self.check(f"{self.hidden}/secret: cannot be read (Permission denied)", f"{self.hidden}/a")

    def test_mounts(self) -> None:
        """So are mount points."""
        self.configure(
            sections=f"[filesystem:a]\nmount = {self.hidden}/a\n[filesystem:b]\nmount = /{LONG}\n"
        )
        self.check(f"{self.hidden}/a is not there", f"/{LONG} is not there")

    def test_configuration(self) -> None:
        """So is the configuration itself."""
        for file in (self.hidden / "x.ini", self.directory / LONG):
            self.check(f"{file}: cannot be read: ", file=file)
        self.configure()
        self.file.chmod(0)
        self.check(f"{self.file}: cannot be read: Permission denied")


class ListenTests(CommandTestCase):
    """Entries of ``listen`` that no start would take are errors."""

    def refused(self, *listen: str) -> str:
        """Have a configuration with these entries refused."""
        self.configure(listen="".join(f"\n {entry}" for entry in listen))
        return self.run_command("check", good=False).output

    def test_doubled(self) -> None:
        """Two entries for the same port and address are told."""
        said = self.refused(str(self.port), f"tcp:{self.port}")
        self.assertIn(f"error    listen = tcp:{self.port}: {self.port} above takes the", said)
        self.assertEqual(said.count("error  "), 1)

    def test_tls_twice(self) -> None:
        """An endpoint that speaks TLS itself is refused in the start's own words."""
        for kind in ("ssl", "tls"):
            said = self.refused(f"{kind}:{self.port}:privateKey=x")
            self.assertIn("TLS is put around each address already; write tcp: instead", said)

    def test_no_such_port(self) -> None:
        """A port beyond the highest is a mistake of the configuration, with its line."""
        said = self.refused("tcp:99999")
        self.assertIn(f"{self.file}:2 [xohook] listen: 'tcp:99999' names no port", said)

    def test_misdescribed(self) -> None:
        """A description that no start understands is told."""
        for description in ("interfce=127.0.0.1", "interface=127.0.0.1:backlog=x"):
            said = self.refused(f"tcp:{self.port}:{description}")
            self.assertIn("not an endpoint that can be opened (", said)
        self.assertIn("not an endpoint that can be opened (", self.refused("foo:1"))

    def test_no_name(self) -> None:
        """An interface that cannot even be a name is told."""
        said = self.refused(f"tcp:{self.port}:interface={'ü' * 100}")
        self.assertIn("not an endpoint that can be opened (", said)


class EarlierTests(CommandTestCase):
    """What another run of the agent has left, or keeps, is looked at."""

    def setUp(self) -> None:
        super().setUp()
        # In memory, as a runtime directory should be.
        self.runtime = Path(f"/dev/shm/xohook-test-{os.getpid()}")
        self.runtime.mkdir(mode=0o700)
        self.addCleanup(shutil.rmtree, self.runtime)
        self.state.mkdir(mode=0o700)

    def check(self, good: bool = True, listen: str | None = None) -> str:
        self.configure(listen=listen)
        text = self.file.read_text()
        self.file.write_text(text.replace("/dev/shm/xohook-test-not-made", str(self.runtime)))
        return self.run_command("check", good=good).output

    def hold(self) -> None:
        """Keep the runtime directory to a process that is not an agent of this configuration."""
        held = (self.runtime / "lock").open("wb")
        self.addCleanup(held.close)
        fcntl.flock(held, fcntl.LOCK_EX)

    def test_good(self) -> None:
        """A record and a stamp that a start can read are fine."""
        entry = Entry("command:it", 40, {}, {})
        Record(self.runtime).write(State(window="w", entries=(entry,)))
        Stamp(self.state).write("w", 0.0, [entry])
        said = self.check()
        self.assertIn(f"ok       {self.runtime}/record.json: can be read", said)
        self.assertIn(f"ok       {self.state}/stamp.json: can be read", said)

    def test_damaged(self) -> None:
        """What a start could not understand is an error, with what to do."""
        for path in (self.runtime / "record.json", self.state / "stamp.json"):
            path.write_text(json.dumps({"version": 99}))
            # Many users' umask is 002, and what others may write to is refused for that.
            path.chmod(0o600)
            said = self.check(good=False)
            self.assertRegex(said, f"error    cannot understand the [a-z]+ {path}: ")
            path.unlink()

    def test_lock_of_nobody(self) -> None:
        """A lock that an agent left behind holds nobody up."""
        (self.runtime / "lock").touch()
        self.assertNotIn("running", self.check())

    def test_lock_of_another(self) -> None:
        """A runtime directory that another agent has is an error."""
        self.hold()
        said = self.check(good=False)
        self.assertIn(f"error    runtime_directory = {self.runtime}: an agent is running", said)

    def test_lock_of_whoever(self) -> None:
        """Where the agent's address is not known beforehand, the lock may be its own."""
        self.hold()
        for listen in ("0", f"unix:{self.directory}/socket"):
            said = self.check(listen=listen)
            self.assertIn(f"ok       runtime_directory = {self.runtime}: in use by", said)

    def test_lock_of_the_agent(self) -> None:
        """Where an address is served with the agent's certificate, the lock is the agent's."""
        self.hold()
        files = certificate.ensure(self.state, datetime.now(timezone.utc))
        der = ssl.PEM_cert_to_DER_cert(files[0].read_text())
        self.patch(addresses, "_served", lambda place: [der])
        with endpoints.bind(self.port) as bound:
            bound.listen()
            said = self.check(listen=f"{self.port}\n {free_port()}")
        self.assertIn(f"ok       runtime_directory = {self.runtime}: in use by the", said)
