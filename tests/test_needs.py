"""Tests of what the tests share: they run on any Debian, as any user, in any kind of shell."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import MOST_SHOWN, needs
from tests.integration.agent import free_port
from tests.talking import STRANGER

TESTS = Path(__file__).parent
MAKEFILE = TESTS.parent / "Makefile"

#: Prints the signals that a program started by a test ignores, and the test's own (proc(5)).
IGNORED = """
import subprocess, tests
words = ["grep", "-h", "SigIgn", "/proc/self/status"]
print(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[1])
"""

#: Ends like a test run of which some tests were skipped.
SKIPPED = """
from tests import needs
from unittest import SkipTest
for need in ("mariadbd", "mariadb-install-db", "node"):
    try:
        needs.program(need)
    except SkipTest:
        pass
try:
    needs.user("postgres")
except SkipTest:
    pass
"""


def run(program: str, **variables: str) -> str:
    """Run a Python program that imports the tests.

    :param program: the program.
    :param variables: its further environment.
    :return: what it printed.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **variables},
        cwd=TESTS.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


class SharedTests(SynchronousTestCase):
    """What is shared does not depend on who runs the tests, or where."""

    def test_stranger(self) -> None:
        """The stranger is neither root nor the user of the tests, whoever that is."""
        self.assertNotIn(STRANGER, (0, os.geteuid()))

    def test_port_reserved(self) -> None:
        """A free port is given to nobody else: a socket that does not share it is refused."""
        port = free_port()
        with socket.socket() as other:
            self.assertRaises(OSError, other.bind, ("127.0.0.1", port))

    def test_port_usable(self) -> None:
        """A server listens on a reserved port, and connections are refused before."""
        port = free_port()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))
        for address in ("127.0.0.1", "0.0.0.0"):
            with socket.create_server((address, port)):
                socket.create_connection(("127.0.0.1", port)).close()

    def test_signals_not_inherited(self) -> None:
        """Programs that tests start take SIGHUP and SIGINT, also under ``nohup make test &``."""
        before = {
            number: signal.signal(number, signal.SIG_IGN)
            for number in (signal.SIGHUP, signal.SIGINT)
        }
        for number, handler in before.items():
            self.addCleanup(signal.signal, number, handler)
        ignored = int(run(IGNORED), 16)
        for number in before:
            self.assertFalse(ignored & 1 << (number - 1), number)

    def test_hangup_survived(self) -> None:
        """The tests themselves go on after a SIGHUP that ``nohup`` has them ignore."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        said = run("import os, signal, tests; os.kill(os.getpid(), signal.SIGHUP); print('on')")
        self.assertEqual(said, "on\n")

    def test_assertion_shortened(self) -> None:
        """A failed assertion about megabytes shows its beginning, its end and little else."""

        class Failing(SynchronousTestCase):
            def test(self) -> None:
                self.assertIn("needle", "hay" * 3_000_000, None)

        result = TestResult()
        Failing("test").run(result)
        [(_, found)] = result.failures
        failure = cast(Failure, found)
        shown = str(failure.value)
        self.assertLess(len(shown), MOST_SHOWN + 100)
        self.assertTrue(shown.startswith("'needle' not in 'hay"))
        self.assertTrue(shown.endswith("hay'"))
        written = io.StringIO()
        failure.printTraceback(written)
        self.assertLess(len(written.getvalue()), 10_000)


class PackagesTests(SynchronousTestCase):
    """What a skipped test needs is said, and can be installed."""

    def setUp(self) -> None:
        # What is asked for here is not for the summary of this run.
        self.patch(needs, "_wanted", set())
        self.patch(needs, "_wants_root", False)

    def test_skipped(self) -> None:
        """A program or a user that is missing skips a test, and names the package."""
        self.patch(os, "environ", {"PATH": "/nowhere"})
        said = str(self.assertRaises(SkipTest, needs.program, "mkfs.xfs"))
        self.assertIn("apt install xfsprogs", said)
        self.patch(needs, "USERS", {"no-such-user": "some-server"})
        said = str(self.assertRaises(SkipTest, needs.user, "no-such-user"))
        self.assertIn("apt install some-server", said)

    def test_continuous_integration(self) -> None:
        """With ``CI=true`` the same is a failure."""
        self.patch(os, "environ", {"PATH": "/nowhere", "CI": "true"})
        self.assertRaises(AssertionError, needs.program, "mkfs.xfs")
        self.assertRaises(AssertionError, needs.user, "no-such-user")
        self.patch(os, "geteuid", lambda: 1000)
        self.assertRaises(AssertionError, needs.root)

    def test_summary(self) -> None:
        """One line at the end of a run installs what its skipped tests need."""
        *_, last = run(SKIPPED, PATH="/nowhere", CI="").splitlines()
        packages = last.partition("apt-get install ")[2].split()
        # The user may be here, unlike the programs.
        self.assertLessEqual({"mariadb-server", "nodejs"}, set(packages))
        self.assertLessEqual(set(packages), {"mariadb-server", "nodejs", "postgresql"})

    def test_nothing_skipped(self) -> None:
        """Where nothing was skipped, nothing is said."""
        self.assertEqual(run("from tests import needs; needs.program('python3')"), "")

    def test_all_known(self) -> None:
        """The package of each program and user that a test asks for is known."""
        asked = re.compile(r'needs\.(program|user)\(\s*"([^"]+)"')
        known = {"program": needs.PACKAGES, "user": needs.USERS}
        unknown = {
            (path.name, name)
            for path in TESTS.rglob("*.py")
            if path != Path(__file__)
            for kind, name in asked.findall(path.read_text())
            if name not in known[kind]
        }
        self.assertEqual(unknown, set())

    def test_make_target(self) -> None:
        """``make test-packages`` names all of them, and needs no virtual environment."""
        said = subprocess.run(
            ["make", "--dry-run", "test-packages"],
            cwd=MAKEFILE.parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        self.assertNotIn(".venv", said)
        listed = subprocess.run(
            [sys.executable, "-I", "-S", TESTS / "needs.py"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        self.assertEqual(set(listed), {*needs.PACKAGES.values(), *needs.USERS.values()})
