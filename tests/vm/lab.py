"""Has the machines in which the scenarios run, and the list of scenarios."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.vm.agent import Agent, Tell
from tests.vm.machine import Machine

#: Starts a machine from a disk that keeps what is written to it, or else from the installed one.
Start = Callable[[Path | None], Machine]
NewDisk = Callable[[], Path]


class Lab:
    """Has the machine that scenarios share for as long as none has failed or spoiled it.

    :param start: starts a machine.
    :param new_disk: makes a disk to keep, like the installed one.
    :param tell: told of each step.
    """

    def __init__(self, start: Start, new_disk: NewDisk, tell: Tell) -> None:
        self._start, self._tell = start, tell
        self.new_disk = new_disk
        self._shared: Agent | None = None

    def shared(self) -> Agent:
        """Return the agent of the shared machine, which is booted if need be."""
        if self._shared is None or self._shared.vm.process.poll() is not None:
            self._shared = self.boot(None)
        # No scenario has to count the starts of the ones before (StartLimitBurst=).
        self._shared.vm.run("systemctl reset-failed xohook")
        return self._shared

    def boot(self, disk: Path | None) -> Agent:
        """Boot a machine.

        :param disk: one that keeps what is written to it; none for the installed one.
        :return: its agent.
        """
        agent = Agent(self._start(disk), self._tell)
        try:
            agent.ready()
        except BaseException:
            agent.vm.reset()
            raise
        return agent

    def run(self, function: Callable[[Agent], None], agent: Agent) -> None:
        """Run a function, and show what is to be seen where it fails.

        :param function: it.
        :param agent: its agent; the machine is reset if it fails.
        """
        try:
            function(agent)
        except BaseException:
            if agent.vm.process.poll() is None:
                self._tell(agent.stuck())
                agent.vm.run("echo j >/proc/sysrq-trigger")
                self._tell(agent.log(60))
            else:
                self._tell(agent.vm.console.read_text(errors="replace")[-3000:])
            agent.vm.reset()
            raise

    def end(self) -> None:
        """End the shared machine."""
        if self._shared is not None:
            self._shared.vm.reset()


SCENARIOS: dict[str, Callable[[Lab], None]] = {}


def scenario(function: Callable[[Agent], None]) -> Callable[[Agent], None]:
    """Enter a scenario that leaves the machine as it was, or resets it.

    :param function: it.
    :return: it.
    """

    def alone(lab: Lab) -> None:
        lab.run(function, lab.shared())

    SCENARIOS[function.__name__] = alone
    return function


def in_two(
    before: Callable[[Agent], None],
) -> Callable[[Callable[[Agent], None]], Callable[[Agent], None]]:
    """Enter a scenario that takes two boots of one disk.

    :param before: what is done in the first, which ends with it as if the power failed.
    :return: enters what is done in the second, whose name is the scenario's.
    """

    def enter(after: Callable[[Agent], None]) -> Callable[[Agent], None]:
        def both(lab: Lab) -> None:
            disk = lab.new_disk()
            for each in (before, after):
                agent = lab.boot(disk)
                lab.run(each, agent)
                agent.vm.reset()

        SCENARIOS[after.__name__] = both
        return after

    return enter
