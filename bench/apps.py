"""What apps cost in a window, beside the least that a Twisted server can do for as many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Protocol

import attrs

from bench.program import Program
from tests.integration.agent import Agent
from tests.integration.hook_client import Connection

#: Windows that are not measured, at each size.
WARM_UP = 2


@attrs.frozen
class Size:
    """So many names.

    :param connections: the connections that they are registered on.
    :param names: the names on each connection.
    :param windows: the windows that are measured.
    """

    connections: int
    names: int
    windows: int

    @property
    def total(self) -> int:
        """The names in all."""
        return self.connections * self.names


SIZES = (
    Size(1, 1, 100),
    Size(100, 1, 50),
    Size(1_000, 1, 11),
    Size(100, 10, 11),
    Size(100, 100, 7),
)

#: Two sizes that differ in nothing but the names, tenfold.
LARGER, LARGEST = SIZES[-2:]


@attrs.frozen
class Round:
    """A freeze and a thaw.

    :param freeze: the seconds that the freeze took.
    :param thaw: the seconds that the thaw took.
    """

    freeze: float
    thaw: float

    @property
    def both(self) -> float:
        """The seconds that both took."""
        return self.freeze + self.thaw


class Turn(Protocol):
    """Who can be measured."""

    def round(self) -> Round:
        """Have all names freeze and thaw."""


class Hook:
    """The agent, asked as Xen Orchestra asks.

    :param agent: the agent.
    :param connection: a connection to it, for all windows.
    """

    def __init__(self, agent: Agent, connection: Connection) -> None:
        self._agent = agent
        self._connection = connection
        self._credentials = agent.credentials

    def round(self) -> Round:
        """Run a window.

        :return: the seconds from each request to its answer.
        """
        return Round(self._ask("/sync"), self._ask("/post-sync"))

    def _ask(self, path: str) -> float:
        begin = time.perf_counter()
        answer = self._connection.get(path, self._credentials)
        taken = time.perf_counter() - begin
        if answer.status != 200:
            raise AssertionError(f"{path}: {answer.status} {answer.body!r}\n{self._agent.log}")
        return taken


class Bare:
    """The server with nothing but the lines.

    :param server: it.
    """

    def __init__(self, server: Program) -> None:
        self._server = server

    def round(self) -> Round:
        """Send both lines to each name.

        :return: the seconds from the first line sent to the last one received.
        """
        return Round(self._send("freeze"), self._send("thaw"))

    def _send(self, what: str) -> float:
        self._server.say(what)
        return float(self._server.hear())


@attrs.frozen
class Cost:
    """What one size cost, each in the order of the windows.

    :param size: the size.
    :param agent: windows with so many names.
    :param empty: windows with none.
    :param bare: the same lines without a window.
    """

    size: Size
    agent: Sequence[Round]
    empty: Sequence[Round]
    bare: Sequence[Round]

    @property
    def own(self) -> list[float]:
        """The seconds of each window with names, less those of the window without beside it."""
        return [ours.both - empty.both for ours, empty in zip(self.agent, self.empty, strict=True)]

    @property
    def a_name(self) -> float:
        """The seconds that a name cost in a window."""
        return median(self.own) / self.size.total

    @property
    def ratio(self) -> float:
        """How much more the names cost than the bare lines beside them."""
        return median(own / bare.both for own, bare in zip(self.own, self.bare, strict=True))

    def line(self) -> str:
        """Write a line of the table."""
        times = [
            1000 * median(taken)
            for rounds in (self.agent, self.bare)
            for taken in ([each.freeze for each in rounds], [each.thaw for each in rounds])
        ]
        columns = "".join(f"{each:12.2f}" for each in times)
        names, a_name = self.size.total, self.a_name * 1e6
        return f"{names:7}{self.size.connections:13}{columns}{a_name:12.1f}{self.ratio:8.2f}"


def measure(directory: Path, size: Size) -> Cost:
    """Measure one size, by turns, so that what disturbs the machine disturbs all alike.

    :param directory: a directory for it.
    :param size: the size.
    :return: what it cost.
    """
    with ExitStack() as stack:
        empty = stack.enter_context(Agent(directory / "empty"))
        agent = stack.enter_context(Agent(directory / "agent"))
        socket = directory / "bare.sock"
        server = stack.enter_context(Program("bench.line_protocol", socket, size.total))
        server.hear()
        for path in (agent.control, socket):
            words = ("bench.answering", path, size.connections, size.names)
            stack.enter_context(Program(*words)).hear()
        hooks = [Hook(each, stack.enter_context(each.connect())) for each in (agent, empty)]
        turns: list[Turn] = [*hooks, Bare(server)]
        rounds = [[each.round() for each in turns] for _ in range(WARM_UP + size.windows)]
    return Cost(size, *(list(taken) for taken in zip(*rounds[WARM_UP:], strict=True)))


def report(directory: Path) -> None:
    """Measure, and print the table.

    :param directory: a directory for what is measured.
    """
    print(
        "Apps in a window: freeze from /sync to its 200, thaw from /post-sync to its 200, medians."
        "\nBare: a Twisted LineReceiver sends lines as long to as many names and waits for all"
        " answers.\nA name: its freeze and thaw, where a window with no app is taken off; ratio:"
        " the same to bare."
    )
    heads = ("freeze", "thaw", "bare freeze", "bare thaw")
    print(f"{'names':>7}{'connections':>13}" + "".join(f"{head:>12}" for head in heads), end="")
    print(f"{'a name':>12}{'ratio':>8}")
    print(f"{'':20}" + f"{'(ms)':>12}" * len(heads) + f"{'(µs)':>12}")
    costs = {}
    for size in SIZES:
        cost = costs[size] = measure(directory / f"{size.names}-on-{size.connections}", size)
        print(cost.line(), flush=True)
    growth = costs[LARGEST].a_name / costs[LARGER].a_name
    print(
        f"Of {LARGEST.total:,} names each costs {growth:.2f} times what it does of"
        f" {LARGER.total:,} on as many connections: 1 is linear."
    )
