"""What a window, a start and an idle process cost, the agent's beside the example's."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import attrs

from tests.integration.agent import Agent
from tests.integration.example_server import PAGE, ExampleServer
from tests.integration.footprint import Footprint
from tests.integration.hook_client import Connection, insecure_context

#: Requests before the measurement, in which node compiles what it runs.
WARM_UP = 30

#: Starts of which the median is told.
STARTS = 5


class Server(Protocol):
    """What can be measured."""

    port: int

    @property
    def pid(self) -> int:
        """The number of its process."""

    def start(self) -> None:
        """Start it and wait until it accepts connections."""

    def stop(self) -> None:
        """End it."""


@attrs.frozen
class Cost:
    """What one server cost.

    :param windows: seconds that each window took, from the connection's begin to the second answer.
    :param starts: seconds from each start to the first accepted connection.
    :param footprint: what it took up after the windows.
    """

    windows: Sequence[float]
    starts: Sequence[float]
    footprint: Footprint

    def figures(self) -> dict[str, float]:
        """Tell the lines of the table, each with its unit."""
        return {
            "a whole window, median (ms)": statistics.median(self.windows) * 1000,
            "a whole window, p99 (ms)": statistics.quantiles(self.windows, n=100)[98] * 1000,
            "memory, VmRSS (MB)": self.footprint.resident / 1024,
            "memory, PSS (MB)": self.footprint.proportional / 1024,
            f"start, median of {STARTS} (ms)": statistics.median(self.starts) * 1000,
        }


class Requester:
    """Does what Xen Orchestra does, against one server.

    :param server: the server.
    :param headers: the credential.
    """

    def __init__(self, server: Server, headers: Mapping[str, str]) -> None:
        self._server = server
        self._headers = headers
        self._context = insecure_context()

    def window(self) -> float:
        """Open a connection, ask for ``/sync`` and then for ``/post-sync``.

        :return: the seconds that it took.
        :raises SystemExit: where an answer is not 200.
        """
        begin = time.perf_counter()
        with Connection(self._server.port, context=self._context) as connection:
            answers = [connection.get(path, self._headers) for path in ("/sync", "/post-sync")]
            seconds = time.perf_counter() - begin
        statuses = [answer.status for answer in answers]
        if statuses != [200, 200]:
            sys.exit(f"port {self._server.port} answered {statuses}, not 200 and 200")
        return seconds


def started(server: Server) -> float:
    """Start a server.

    :param server: the server; it is not running yet.
    :return: the seconds until it accepted a connection.
    """
    begin = time.perf_counter()
    server.start()
    return time.perf_counter() - begin


def measure(requesters: Mapping[str, tuple[Server, Mapping[str, str]]], count: int) -> list[Cost]:
    """Measure servers by turns, so that what disturbs the machine disturbs them alike.

    :param requesters: the servers and the credential for each, by name.
    :param count: how many windows each is measured with.
    :return: what each cost, in their order.
    """
    servers = [server for server, _ in requesters.values()]
    starts: list[list[float]] = [[] for _ in servers]
    for _ in range(STARTS):
        for server, seconds in zip(servers, starts, strict=True):
            server.stop()
            seconds.append(started(server))
    asking = [Requester(server, headers) for server, headers in requesters.values()]
    rounds = [[requester.window() for requester in asking] for _ in range(WARM_UP + count)]
    windows = zip(*rounds[WARM_UP:], strict=True)
    return [
        Cost(list(taken), seconds, Footprint.of(server.pid))
        for server, seconds, taken in zip(servers, starts, windows, strict=True)
    ]


def table(names: Sequence[str], costs: Sequence[Cost]) -> str:
    """Lay the figures out.

    :param names: the servers' names, the agent first.
    :param costs: what each cost.
    :return: the table, with a ratio where there are two.
    """
    figures = [cost.figures() for cost in costs]
    heads = [*names, "ratio"] if len(names) > 1 else [*names]
    lines = [f"{'':30}" + "".join(f"{head:>10}" for head in heads)]
    for what in figures[0]:
        values = [each[what] for each in figures]
        if len(values) > 1:
            values.append(values[0] / values[1])
        lines.append(f"{what:30}" + "".join(f"{value:10.2f}" for value in values))
    return "\n".join(lines)


def report(directory: Path, count: int) -> None:
    """Measure, and print the table.

    :param directory: a directory for what is measured.
    :param count: how many windows each is measured with.
    """
    with ExitStack() as stack:
        agent = stack.enter_context(Agent(directory / "agent"))
        measured: dict[str, tuple[Server, Mapping[str, str]]] = {
            "agent": (agent, agent.credentials)
        }
        if shutil.which("node") is None:
            print("node is not installed, so there is no example server to compare with.")
        elif not PAGE.exists():
            print(f"{PAGE} is not there, so there is no example server to compare with.")
        else:
            example = ExampleServer(directory / "example", agent.secret)
            measured["example"] = (stack.enter_context(example), agent.credentials)
        print(
            f"{count} windows without a participant, each on a new TLS connection: "
            "/sync, then /post-sync."
        )
        print(table(list(measured), measure(measured, count)))
