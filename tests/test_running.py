"""Tests for the program that runs the tests, ``python -m tests``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.__main__ import LONGEST, TOGETHER, WORK, modules, portions
from tests.integration.agent import eventually
from tests.integration.hook_client import PATIENCE

#: Begins each module.
HEAD = """
import os, signal, time
from pathlib import Path
from twisted.trial.unittest import SynchronousTestCase
from tests import needs

class Tests(SynchronousTestCase):
"""

PASSES = "    def test_it(self): pass\n"
FAILS = "    def test_it(self): self.fail('as it should')\n"
ENDS = "    def test_it(self): os._exit(7)\n"
NEEDS = "    def test_it(self): needs.program('mariadbd')\n"
NEEDS_ANOTHER = "    def test_it(self): needs.program('node')\n"
HANGS_UP = "    def test_it(self): os.kill(os.getppid(), signal.SIGHUP)\n"
WAITS = """
    def test_it(self):
        self.addCleanup(Path(os.environ["CLEANED"]).touch)
        Path(os.environ["BEGUN"]).touch()
        time.sleep(600)

    def test_next(self):
        Path(os.environ["CLEANED"]).unlink()
"""


class RunningTestCase(SynchronousTestCase):
    """Runs modules of the test's own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.directory), *filter(None, sys.path)]),
            "CI": "",
            "BEGUN": str(self.directory / "begun"),
            "CLEANED": str(self.directory / "cleaned"),
        }

    def start(self, *contents: str, **variables: str) -> subprocess.Popen[str]:
        """Start a run of a module for each of these."""
        names = [f"test_module{number}" for number in range(len(contents))]
        for name, content in zip(names, contents, strict=True):
            (self.directory / f"{name}.py").write_text(HEAD + content)
        return subprocess.Popen(
            [sys.executable, "-m", "tests", "--jobs=2", *names],
            cwd=self.directory,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for the end of a run; give what it printed."""
        try:
            printed, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return printed

    def run_modules(self, *contents: str, status: int = 0, **variables: str) -> list[str]:
        """Run them; give the lines that were printed."""
        process = self.start(*contents, **variables)
        printed = self.finish(process)
        self.assertEqual(process.returncode, status, printed)
        return printed.splitlines()


class SummaryTests(RunningTestCase):
    """The end of a run counts the tests of all trials."""

    def test_passed(self) -> None:
        """All good: the last line has the sum, as one trial prints it."""
        count = 2 * TOGETHER + 1
        *others, last = self.run_modules(*[PASSES] * count)
        self.assertEqual(last, f"PASSED (successes={count})")
        # What counts the tests of a run finds no other number.
        self.assertNotIn("PASSED", "\n".join(others))

    def test_failed(self) -> None:
        """A failure anywhere is one of the run, and is shown."""
        printed = self.run_modules(*[PASSES] * TOGETHER, FAILS, status=1)
        self.assertEqual(printed[-1], f"FAILED (failures=1, successes={TOGETHER})")
        self.assertIn("twisted.trial.unittest.FailTest: as it should", printed)
        self.assertIn(f"Failed, see above: test_module{TOGETHER}", printed)

    def test_ended(self) -> None:
        """A trial that ends before its tests is an error."""
        printed = self.run_modules(*[PASSES] * TOGETHER, ENDS, status=1)
        self.assertEqual(printed[-1], f"FAILED (errors=1, successes={TOGETHER})")

    def test_skipped(self) -> None:
        """What skipped tests of several trials need is said once, in the end."""
        modules = [NEEDS, *[PASSES] * (TOGETHER - 1), NEEDS_ANOTHER]
        printed = self.run_modules(*modules, PATH="/nowhere")
        self.assertEqual(printed[-2], f"PASSED (skips=2, successes={TOGETHER - 1})")
        self.assertTrue(printed[-1].endswith("apt-get install mariadb-server nodejs"), printed[-1])
        self.assertEqual("\n".join(printed).count("apt-get install"), 1)

    def test_files(self) -> None:
        """The directory of a trial is named, and has trial's own log."""
        printed = "\n".join(self.run_modules(PASSES))
        self.assertIn(f" computing; files in {WORK}/test_module0\n", printed)
        self.assertTrue((self.directory / WORK / "test_module0" / "test.log").exists())


class SignalTests(RunningTestCase):
    """Signals that a run gets."""

    def test_hangup_ignored(self) -> None:
        """Under ``nohup`` a SIGHUP does not end the run."""
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        *_, last = self.run_modules(HANGS_UP)
        self.assertEqual(last, "PASSED (successes=1)")

    def assert_ends(self, number: signal.Signals) -> None:
        """See that a signal ends a run: the test that is under way cleans up, and no other runs."""
        process = self.start(WAITS)
        eventually(Path(self.environment["BEGUN"]).exists, "the test is under way")
        process.send_signal(number)
        printed = self.finish(process)
        self.assertEqual(process.returncode, 128 + number, printed)
        self.assertTrue(Path(self.environment["CLEANED"]).exists(), printed)

    def test_terminated(self) -> None:
        """SIGTERM ends the trials too."""
        self.assert_ends(signal.SIGTERM)

    def test_terminated_in_background(self) -> None:
        """It does so where SIGINT is ignored, as a shell has it for what it starts with ``&``."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        self.assert_ends(signal.SIGTERM)

    def test_interrupted(self) -> None:
        """Control-C ends the trials too."""
        self.assert_ends(signal.SIGINT)


class PortionsTests(SynchronousTestCase):
    """Which modules a trial runs."""

    def test_all(self) -> None:
        """Each module is run, once, and those that take longest begin first."""
        names = modules()
        self.assertIn(__name__, names)
        shared = portions(names)
        self.assertEqual(sorted(chain(*shared)), names)
        self.assertEqual({*chain(*shared[: len(LONGEST)])}, set(LONGEST))
