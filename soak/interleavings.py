"""Random steps with real filesystems, after each of which all is let go and a window is good."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import ctypes
import json
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import SkipTest

from soak.acts import Step
from soak.machine import Machine, adopt_orphans
from soak.scenario import draw
from soak.settling import Wrong, good_window, judge, settle
from tests import needs
from xohook.processes import guards

#: Programs that the steps need.
PROGRAMS = ("bash", "flock", "fsfreeze", "mkfs.ext4", "mkfs.xfs", "mount", "setpriv", "strace")

#: How many steps there are unless another number is given.
STEPS = 2_000

#: Steps between two lines that tell how far it has come.
REPORTED = 100

#: Seconds in which a worker that is told to end undoes all that it has made.
ENDING = 120.0

_INTERRUPTS = (signal.SIGTERM, signal.SIGINT)

_PR_SET_PDEATHSIG = 1
"""From ``linux/prctl.h``: the signal that comes when the parent ends (prctl(2))."""


def addresses(step: int) -> tuple[str, str]:
    """Give the requests of a step, and its good window, addresses that no other step has.

    So no ``/post-sync`` is in doubt (docs/hook.rst, Unmatched post-sync requests).

    :param step: its number.
    :return: both, of 127.0.0.0/8.
    """
    number = step % 2**21
    prefix = f"127.{1 + (number >> 14)}.{number >> 7 & 127}"
    return f"{prefix}.{number & 127}", f"{prefix}.{128 + (number & 127)}"


def run_step(machine: Machine, seed: str, number: int, directory: Path) -> Step:
    """Run one step.

    :param machine: what it happens to.
    :param seed: the seed.
    :param number: the step's number.
    :param directory: a directory for files of its own.
    :return: what has happened.
    :raises Wrong: where the agent has done what it may not do; all about it is in the text.
    """
    scenario = draw(seed, number)
    source, good_source = addresses(number)
    machine.begin_step()
    step = Step(machine, source, directory)
    try:
        step.play(scenario)
        settle(machine, step, scenario)
        step.outcomes = judge(machine, step)
        good_window(machine, good_source)
    except (Wrong, AssertionError, subprocess.TimeoutExpired) as error:
        told = (
            f"Step {number} of seed {seed} went wrong after {time.monotonic() - step.begin:.3f} s:",
            str(error),
            f"Again: python -m soak interleavings --seed {seed} --step {number}",
            "",
            f"What happened (it ends with {scenario.ending}):",
            *step.notes,
            "",
            "Requests:",
            *(f"{each.made - step.begin:8.3f} s {each}" for each in step.requests),
            "",
            "What broke a hold, if there was one:",
            *(f"{each.begin - step.begin:8.3f} s {each.what}" for each in step.breaks),
            "",
            "The agent's log:",
            machine.log,
        )
        raise Wrong("\n".join(told)) from error
    finally:
        step.end()
    return step


def work(seed: str, steps: Sequence[int], directory: Path) -> int:
    """Run steps one after the other, and print a line of JSON for each.

    :param seed: the seed.
    :param steps: their numbers.
    :param directory: a directory for all of it.
    :return: the exit status.
    """
    for number in (*_INTERRUPTS, signal.SIGALRM):
        signal.signal(number, _interrupted_worker)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    adopt_orphans()
    with ExitStack() as stack:
        stack.callback(_ignore_signals)
        machine = Machine(directory, stack)
        # The first thing that the end does.
        stack.callback(_ignore_signals)
        for step_number in steps:
            begin = time.monotonic()
            try:
                step = run_step(machine, seed, step_number, directory)
            except Wrong as wrong:
                print(json.dumps({"wrong": str(wrong)}), flush=True)
                return 1
            told = {
                "step": step_number,
                "seconds": time.monotonic() - begin,
                "outcomes": sorted(step.outcomes.values()),
                "acts": step.acts,
                "restarts": step.starts,
                "injected": step.injected,
                "requests": len(step.requests),
            }
            print(json.dumps(told), flush=True)
    return 0


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _interrupted_worker(*_: object) -> None:
    # Python drops an exception that is raised while it cleans up (object.__del__): then once more.
    signal.alarm(1)
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in (*_INTERRUPTS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


class Total:
    """What all steps together have come to."""

    def __init__(self) -> None:
        self.steps = 0
        self.seconds = 0.0
        self.counted: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.acts: Counter[str] = Counter()

    def add(self, told: Mapping[str, Any]) -> None:
        """Add a step.

        :param told: what its worker has printed.
        """
        self.steps += 1
        self.seconds = max(self.seconds, told["seconds"])
        self.outcomes.update(told["outcomes"])
        self.acts.update(told["acts"])
        for what in ("restarts", "injected", "requests"):
            self.counted[what] += told[what]

    def __str__(self) -> str:
        def listed(counter: Counter[str]) -> str:
            return ", ".join(f"{count} {what}" for what, count in sorted(counter.items()))

        return (
            f"{self.steps} steps, {self.counted['requests']} requests, "
            f"{self.counted['restarts']} restarts, {self.counted['injected']} failed system calls, "
            f"longest step {self.seconds:.1f} s\n"
            f"  windows: {listed(self.outcomes)}, and a good one after each step\n"
            f"  events: {listed(self.acts)}"
        )


def soak(directory: Path, seed: str, steps: Sequence[int], workers: int) -> list[str]:
    """Share the steps out among workers, each with an agent and filesystems of its own.

    :param directory: a directory for all of it.
    :param seed: the seed.
    :param steps: the numbers of the steps.
    :param workers: how many.
    :return: a text for each thing that went wrong.
    """
    begin = time.monotonic()
    for number in _INTERRUPTS:
        signal.signal(number, _interrupted)
    print(f"Interleavings: seed {seed}, {len(steps)} steps, {workers} at a time.", flush=True)
    # As pip does it for an installed agent, which is started again and again here, as its guards.
    compileall.compile_dir(Path(guards.__file__).parents[2], quiet=2)
    words = [sys.executable, "-m", "soak.interleavings", "--seed", seed]
    running = [
        subprocess.Popen(  # noqa: S603 - the words are made here.
            [*words, "--directory", directory / f"worker-{number}", *map(str, part)],
            stdout=subprocess.PIPE,
        )
        for number in range(workers)
        if (part := _packed(steps[number::workers]))
    ]
    total, found = Total(), list[str]()
    try:
        _listen(running, total, found)
    finally:
        for worker in running:
            if worker.poll() is None:
                worker.terminate()
        for worker in running:
            worker.wait(ENDING)
        # Where this is interrupted too.
        print(total)
        print(f"They took {time.monotonic() - begin:.0f} s.", flush=True)
    found += [f"A worker ended with {each.returncode}." for each in running if each.returncode]
    return found


def _packed(steps: Sequence[int]) -> list[int]:
    """Tell a range in three numbers: the first, the one after the last, and the distance."""
    if not steps:
        return []
    distance = steps[1] - steps[0] if len(steps) > 1 else 1
    return [steps[0], steps[-1] + 1, distance]


def _listen(running: Sequence[subprocess.Popen[bytes]], total: Total, found: list[str]) -> None:
    with selectors.DefaultSelector() as selector:
        for worker in running:
            assert worker.stdout is not None
            selector.register(worker.stdout, selectors.EVENT_READ)
        while selector.get_map() and not found:
            for key, _ in selector.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    selector.unregister(key.fileobj)
                    continue
                told = json.loads(line)
                if "wrong" in told:
                    found.append(told["wrong"])
                    continue
                total.add(told)
                if total.steps % REPORTED == 0:
                    print(f"{total.steps} steps", flush=True)


def soak_if_possible(directory: Path, steps: int) -> list[str]:
    """Run the steps with a seed by chance, where this machine can.

    :param directory: a directory for all of it.
    :param steps: how many.
    :return: a text for each thing that went wrong.
    """
    try:
        _need_all()
    except SkipTest as missing:
        print(f"The interleavings were not run: {missing}.")
        return []
    return soak(directory, secrets.token_hex(4), range(steps), 1)


def _need_all() -> None:
    needs.root()
    for program in PROGRAMS:
        needs.program(program)


def main(arguments: Sequence[str]) -> int:
    """Run the interleavings alone.

    :param arguments: the command's arguments.
    :return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m soak interleavings", description=__doc__)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats the choices")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"how many (default {STEPS})")
    parser.add_argument("--step", type=int, help="this one alone")
    parser.add_argument("--workers", type=int, default=1, help="agents side by side (default 1)")
    asked = parser.parse_args(arguments)
    for name in ("steps", "workers"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name} {getattr(asked, name)}: at least 1 is needed")
    try:
        _need_all()
    except SkipTest as missing:
        parser.error(str(missing))
    steps = range(asked.steps) if asked.step is None else range(asked.step, asked.step + 1)
    try:
        with tempfile.TemporaryDirectory(prefix="xohook-soak-") as name:
            found = soak(Path(name), asked.seed, steps, asked.workers)
    except KeyboardInterrupt:
        # What a shell says of a program that SIGINT has ended.
        return 128 + signal.SIGINT
    for text in found:
        print(text)
    return 1 if found else 0


def _worker() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("steps", type=int, nargs=3)
    asked = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        return work(asked.seed, range(*asked.steps), asked.directory)
    return 0


if __name__ == "__main__":
    sys.exit(_worker())
