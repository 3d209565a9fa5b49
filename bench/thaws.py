"""From the bytes that ask for a thaw to the thaw, as a blocked writer sees it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from bench import guest_agent
from bench.guest_agent import GuestAgent
from bench.waiting import Waiter
from tests.integration.agent import Agent
from tests.integration.disks import Disk, make_image
from tests.integration.holds import filesystem
from tests.integration.hook_client import Connection

#: Windows that are measured, after a few that are not.
COUNT = 30
WARM_UP = 3


def thaw_after(freeze: Callable[[], None], thaw: Callable[[], None], writer: Waiter) -> float:
    """Freeze, and thaw again under a blocked writer.

    :param freeze: freezes.
    :param thaw: sends the bytes that ask for the thaw, at once.
    :param writer: writes to what is frozen.
    :return: the seconds from the call of ``thaw`` to the end of the write.
    """
    freeze()
    writer.wait()
    begin = time.monotonic()
    thaw()
    return writer.moment() - begin


def ask(agent: Agent, connection: Connection, path: str) -> None:
    """Send a request of the hook's.

    :param agent: the agent.
    :param connection: a connection to it.
    :param path: the request's path.
    :raises AssertionError: where the answer is not 200.
    """
    answer = connection.get(path, agent.credentials)
    if answer.status != 200:
        raise AssertionError(f"{path}: {answer.status} {answer.body!r}\n{agent.log}")


def line(what: str, seconds: Sequence[float]) -> str:
    """Write a line of the table.

    :param what: what took these times.
    :param seconds: the times.
    :return: the line, in milliseconds.
    """
    median, longest = statistics.median(seconds) * 1000, max(seconds) * 1000
    return f"{what:30}{median:10.2f}{longest:10.2f}"


def report(directory: Path) -> None:
    """Measure, by turns, and print the table.

    :param directory: a directory for what is measured.
    """
    directory.mkdir()
    with ExitStack() as stack:
        disk = stack.enter_context(
            closing(Disk(make_image(directory / "image"), directory / "mount"))
        )
        # Who holds the disk is ended, whatever happens, before who may be stuck on it.
        writer = stack.enter_context(Waiter("write", disk.mount / "written"))
        agent = Agent(directory / "agent", sections=filesystem(disk, "disk"))
        stack.enter_context(agent)
        # As Xen Orchestra has it: /post-sync rides on the connection of /sync.
        connection = stack.enter_context(agent.connect())
        ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "agent, /post-sync": (
                lambda: ask(agent, connection, "/sync"),
                lambda: ask(agent, connection, "/post-sync"),
            )
        }
        if guest_agent.is_installed():
            other = stack.enter_context(GuestAgent(directory / "guest-agent", disk))
            ways["qemu-ga, guest-fsfreeze-thaw"] = (other.freeze, other.thaw)
        else:
            print(f"{guest_agent.PROGRAM} is not installed (apt install {guest_agent.PACKAGE}).")
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(WARM_UP + COUNT):
            for way, (freeze, thaw) in ways.items():
                taken[way].append(thaw_after(freeze, thaw, writer))
    print(
        f"{COUNT} thaws of one ext4, from the bytes that ask for it to a blocked writer's going on."
    )
    print(f"{'':30}{'median':>10}{'longest':>10}  (ms)")
    for way, seconds in taken.items():
        print(line(way, seconds[WARM_UP:]))
