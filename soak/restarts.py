"""The agent is killed and started again, under registered clients of every form."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from soak.forms import Asked, Client, every_form
from soak.growth import Sample, growth
from soak.rest import PATIENCE, footprint_at_rest
from tests.integration.agent import Agent, eventually
from tests.integration.control_client import ControlClient

#: How many samples are taken at most.
SAMPLES = 20

#: Fewer samples tell nothing of growth.
LEAST = 4


def ask(agent: Agent, path: str, *allowed: int) -> None:
    """Send a request of the hook's.

    :param agent: the agent.
    :param path: the request's path.
    :param allowed: the statuses that it may be answered with.
    :raises AssertionError: where it is answered with another.
    """
    answer = agent.get(path)
    if answer.status not in allowed:
        raise AssertionError(f"{path}: {answer.status} {answer.body!r}\n{agent.log}")


def die_at_rest(agent: Agent) -> None:
    """Kill the agent while no window is open.

    :param agent: the agent.
    """
    agent.kill()


def die_after_a_window(agent: Agent) -> None:
    """Run a whole window, then kill the agent.

    :param agent: the agent.
    """
    ask(agent, "/sync", 200)
    ask(agent, "/post-sync", 200)
    agent.kill()


def die_in_a_hold(agent: Agent) -> None:
    """Kill the agent while all is frozen.

    :param agent: the agent.
    """
    ask(agent, "/sync", 200)
    agent.kill()


def die_in_a_freeze(agent: Agent) -> None:
    """Kill the agent while it waits for an app that does not answer, and perhaps for others.

    :param agent: the agent.
    """
    with ControlClient(agent.control) as silent, agent.connect() as connection:
        # Who registers last is asked last.
        silent.register("silent")
        connection.start("GET", "/sync", agent.credentials)
        silent.asked("freeze")
        agent.kill()


#: How it dies, by turns.
DEATHS: Sequence[Callable[[Agent], None]] = (
    die_after_a_window,
    die_in_a_hold,
    die_at_rest,
    die_in_a_freeze,
)


class Restarts:
    """An agent, its clients, and what they took up after some of the restarts.

    :param directory: a directory for all of it.
    :param stack: ends all of it.
    """

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._agent = stack.enter_context(Agent(directory / "agent"))
        self._clients = list(every_form(self._agent.control, directory, stack))
        self._names = {name for client in self._clients for name in client.names}
        self._samples: dict[Client, list[Sample]] = {client: [] for client in self._clients}
        self._wait_until_registered()

    def restart(self, die: Callable[[Agent], None]) -> None:
        """Kill the agent, start it again, and see everybody come back.

        :param die: kills it.
        :raises AssertionError: where somebody does not, or stays frozen.
        """
        die(self._agent)
        self._agent.wait()
        self._agent.start()
        self._wait_until_registered()
        # As Xen Orchestra does after its snapshot, whatever became of the window.
        ask(self._agent, "/post-sync", 200, 500)
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self._frozen(), "every client is thawed", PATIENCE)
        if frozen := self._frozen():
            raise AssertionError(f"not thawed as often as frozen: {frozen}\n{self._agent.log}")

    def sample(self, restarts: int) -> None:
        """Look at every client, and print what it takes up.

        :param restarts: how many restarts there have been.
        """
        for client, samples in self._samples.items():
            files = samples[0].footprint.files if samples else None
            footprint = footprint_at_rest(client.pid, files)
            counted = {"tasks": client.ask().tasks}
            samples.append(Sample(f"{restarts} restarts", footprint, counted))
            print(f"{client.names[0]:10} {samples[-1]}", flush=True)

    def judge(self) -> list[str]:
        """Tell what went wrong.

        :return: a sentence for each thing.
        """
        found = []
        for client, samples in self._samples.items():
            who = client.names[0]
            found += [f"{who}: {sentence}" for sentence in growth(samples)]
            apps = client.ask().apps.values()
            thaws = sum((Counter(app.thaws) for app in apps), Counter[str]())
            freezes = sum(app.freezes for app in apps)
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(thaws.items()))
            print(f"{who:10} {freezes} freezes, {thaws.total()} thaws: {told}")
            if not thaws["broken"]:
                found.append(f"{who}: it was never frozen while the agent died.")
        return found

    def _frozen(self) -> dict[str, Asked]:
        asked = [each for client in self._clients for each in client.ask().apps.items()]
        return {name: app for name, app in asked if app.is_frozen}

    def _wait_until_registered(self) -> None:
        def registered() -> bool:
            # The agent opens this socket a moment after the hook's.
            with (
                contextlib.suppress(ConnectionRefusedError, FileNotFoundError),
                ControlClient(self._agent.control) as control,
            ):
                return self._names == {app["name"] for app in control.call("status")["apps"]}
            return False

        eventually(registered, "every client is registered")


def soak(directory: Path, restarts: int) -> list[str]:
    """Restart the agent, and print a line for each sample of a client.

    :param directory: a directory for all of it.
    :param restarts: how often, at least :data:`LEAST`.
    :return: a sentence for each thing that went wrong.
    """
    begin = time.monotonic()
    with ExitStack() as stack:
        watched = Restarts(directory, stack)
        for number in range(1, restarts + 1):
            watched.restart(DEATHS[number % len(DEATHS)])
            if number % max(1, restarts // SAMPLES) == 0:
                watched.sample(number)
        found = watched.judge()
    print(f"{restarts} restarts took {time.monotonic() - begin:.0f} s.")
    return found
