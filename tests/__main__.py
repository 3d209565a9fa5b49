"""Runs the tests, several modules at a time: ``python -m tests [--jobs N] [MODULE ...]``.

Each integration test module has a trial of its own, and the quick ones share some. What a trial
prints comes out when it has ended, so that nothing is mixed. The last lines are those of one trial
that ran all: how many tests came to what, and what skipped ones need. Each leaves its files in a
directory below :data:`WORK`, which is named beside its tests.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests import IGNORED, needs

TESTS = Path(__file__).parent

WORK = Path("_trial_temp_jobs")
"""The directory of all trials' directories, below the working directory."""

LONGEST = (
    "tests.integration.test_nothing_stays_frozen",
    "tests.integration.test_interrupted_freeze",
    "tests.integration.test_interrupted_thaw",
    "tests.integration.test_cli_register",
    "tests.integration.test_cli_status",
)
"""Modules to begin with, so that none of them runs alone in the end."""

TOGETHER = 8
"""Quick modules that share a trial: its start takes longer than most of them."""

KINDS = ("skips", "expectedFailures", "failures", "errors", "unexpectedSuccesses", "successes")
"""What tests come to, in the order of trial's summary."""

BROKEN = ("failures", "errors", "unexpectedSuccesses")
"""Those of :data:`KINDS` that are not good."""

_SUMMARY = re.compile(
    r"^-{79}\n(?:Ran (\d+) tests in .*\n)?\n(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE
)
"""The end of what a trial prints: how many tests there were, and what they came to."""


@attrs.frozen
class Result:
    """What a trial came to.

    :param text: what it printed, without its summary and without what its skipped tests need.
    :param tests: how many tests it ran.
    :param counts: how many of them came to each of :data:`KINDS`.
    """

    text: str
    tests: int
    counts: Counter[str]

    @property
    def is_broken(self) -> bool:
        """Whether anything is not good."""
        return any(self.counts[kind] for kind in BROKEN)

    @classmethod
    def of(cls, printed: str, status: int) -> Result:
        """Read what a trial printed.

        :param printed: that.
        :param status: its exit status.
        :return: the result; without a summary, or with a bad status that no test explains, an
            error more.
        """
        *_, summary = [None, *_SUMMARY.finditer(printed)]
        counts: Counter[str] = Counter()
        text, tests = printed, 0
        if summary is not None:
            for kind, number in re.findall(r"(\w+)=(\d+)", summary[2] or ""):
                counts[kind] = int(number)
            text = printed[: summary.start()] + needs.take_over(printed[summary.end() :])
            tests = int(summary[1] or 0)
        result = cls(text, tests, counts)
        if summary is None or (status != 0 and not result.is_broken):
            text += f"\n[ERROR]\nThis trial ended with status {status} and without a reason.\n"
            result = cls(text, tests, counts + Counter(errors=1))
        return result


class Runner:
    """Runs trials side by side, and prints what each has printed when it has ended.

    :param jobs: how many run at once.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._printing = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, portions: Sequence[tuple[str, ...]]) -> bool:
        """Run them all, and print how many tests came to what.

        :param portions: the modules of each trial.
        :return: whether all is good.
        """
        began = time.monotonic()
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                results = list(pool.map(self._trial, portions))
            except SystemExit:
                self._interrupt()
                raise
        counts = sum((each.counts for each in results), Counter[str]())
        broken = [
            " ".join(portion)
            for portion, result in zip(portions, results, strict=True)
            if result.is_broken
        ]
        print("=" * 79)
        for names in broken:
            print(f"Failed, see above: {names}")
        tests = sum(each.tests for each in results)
        print(f"Ran {tests} tests in {time.monotonic() - began:.0f}s\n")
        listed = ", ".join(f"{kind}={counts[kind]}" for kind in KINDS if counts[kind])
        print(f"{'FAILED' if broken else 'PASSED'} ({listed})", flush=True)
        return not broken

    def _trial(self, portion: tuple[str, ...]) -> Result:
        began = time.monotonic()
        directory = WORK / portion[0].removeprefix("tests.")
        # A file, for a program that a test left behind may hold a pipe open.
        output = directory.with_name(f"{directory.name}.txt")
        with output.open("wb") as file:
            process = subprocess.Popen(
                # Unbuffered, so that the file always shows which test is under way.
                [
                    sys.executable,
                    "-u",
                    "-m",
                    "twisted.trial",
                    "--temp-directory",
                    directory,
                    *portion,
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # The terminal's signals are for this program, which passes them on once.
                start_new_session=True,
            )
        self._running.add(process)
        # Unlike Popen.wait this tells the processor time, with that of the processes it waited for.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self._running.discard(process)
        result = Result.of(output.read_text("utf-8", "backslashreplace"), process.returncode)
        wall, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
        with self._printing:
            print(f"{'-' * 79}\n{wall:.0f}s, {cpu:.0f}s of it computing; files in {directory}")
            print(result.text.rstrip("\n"), flush=True)
        return result

    def _interrupt(self) -> None:
        """End all trials as Control-C ends one: a test that is under way cleans up."""
        for process in list(self._running):
            process.send_signal(signal.SIGINT)


def modules() -> list[str]:
    """List all test modules.

    :return: their names, in order.
    """
    paths = (path.relative_to(TESTS.parent) for path in TESTS.rglob("test_*.py"))
    return sorted(".".join(path.with_suffix("").parts) for path in paths)


def portions(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Share modules out among trials.

    :param names: the modules.
    :return: those of each trial, in the order in which they begin.
    """
    slow = [name for name in names if name.startswith("tests.integration.")]
    quick = [name for name in names if name not in slow]
    slow.sort(key=lambda name: name not in LONGEST)
    shared = [tuple(quick[at : at + TOGETHER]) for at in range(0, len(quick), TOGETHER)]
    return [*((name,) for name in slow), *shared]


def main() -> int:
    """Run the tests that the command line names, or all.

    :return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--jobs",
        type=int,
        # Tests wait for many things besides the processor.
        default=len(os.sched_getaffinity(0)) + 1,
        help="how many modules to run at once (default: one more than there are processors)",
    )
    parser.add_argument("module", nargs="*", help="test modules (default: all)")
    options = parser.parse_args()
    for number in {signal.SIGHUP, signal.SIGINT, signal.SIGTERM} - IGNORED:
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    WORK.mkdir(exist_ok=True)
    return 0 if Runner(options.jobs).run(portions(options.module or modules())) else 1


if __name__ == "__main__":
    sys.exit(main())
