"""How soon all is let go after a death or a failure, in each way that the tests have too."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import attrs

from bench.held import Held, LetGo
from tests.integration.agent import eventually
from tests.integration.disks import run
from tests.integration.footprint import children
from tests.integration.holds import kill
from tests.integration.hook_client import PATIENCE
from xohook.coordinator.executor import GUARD_GRACE

#: Each way is tried so often, and the longest time told.
ROUNDS = 3

#: Seconds of the hold limit where that is what lets go; else it is ten minutes, and never passes.
SHORT_LIMIT = 2

#: Seconds between the deaths of agent and guards, where one follows the other.
BETWEEN = 1.0

GUARDS = ("freezer", "session")


def killed(*who: str, then: tuple[str, ...] = ()) -> Callable[[Held], LetGo]:
    """Make a way of dying by SIGKILL.

    :param who: who is killed, at once, see :meth:`~bench.held.Held.find`.
    :param then: who is killed a second later.
    :return: does it, and tells how soon all was let go from the first death on.
    """

    def die(held: Held) -> LetGo:
        held.hold()
        first = [pid for each in who for pid in held.find(each)]
        later = [pid for each in then for pid in held.find(each)]
        begin = time.monotonic()
        kill(*first)
        if later:
            time.sleep(BETWEEN)
            kill(*later)
        return held.when_let_go(begin)

    return die


def terminated(held: Held) -> LetGo:
    """Send the agent SIGTERM.

    :param held: what is held.
    :return: how soon all was let go.
    """
    held.hold()
    begin = time.monotonic()
    held.agent.kill(signal.SIGTERM)
    return held.when_let_go(begin)


def stopped(held: Held) -> LetGo:
    """Stop the agent with SIGSTOP.

    :param held: what is held, with the short limit.
    :return: how soon after the limit all was let go.
    """
    held.hold()
    held.agent.kill(signal.SIGSTOP)
    return held.when_let_go(time.monotonic() + SHORT_LIMIT)


def restarted(held: Held) -> LetGo:
    """Kill agent and guards at once, and start the agent again.

    :param held: what is held.
    :return: how soon after that start all was let go.
    """
    held.hold()
    kill(held.agent.pid, *held.find("freezer"), *held.find("session"))
    held.agent.wait()
    begin = time.monotonic()
    held.agent.start()
    taken = held.when_let_go(begin)
    # A client that notices its closed standard input has ended before.
    return attrs.evolve(taken, session=max(0.0, taken.session))


def full(held: Held) -> LetGo:
    """Fill the filesystem that the record is on, then ask for the thaw.

    :param held: what is held.
    :return: how soon all was let go.
    """
    held.hold()
    run("sh", "-c", 'cat /dev/zero >"$0" 2>&- || :', held.agent.runtime_directory / "filler")
    begin = time.monotonic()
    held.agent.get("/post-sync")
    return held.when_let_go(begin)


def refused(held: Held) -> LetGo:
    """Have the second of three filesystems refuse its freeze.

    :param held: what is to be held.
    :return: how soon after the request all was let go.
    """
    held.disks[1].freeze()
    begin = time.monotonic()
    answer = held.agent.get("/sync")
    if answer.status != 500:
        raise AssertionError(f"/sync was answered {answer.status} with a filesystem not frozen")
    held.disks[1].thaw()
    for waiter in (*held.writers, held.locker):
        waiter.wait()
    return held.when_let_go(begin)


def waiting(held: Held) -> LetGo:
    """Kill the agent while its session waits for the lock, with the filesystems frozen.

    :param held: what is to be held, the lock last.
    :return: how soon the filesystems were let go, and the session's client had ended.
    """
    holder = held.lock.hold()
    try:
        with held.agent.connect() as connection:
            connection.start("GET", "/sync", held.agent.credentials)
            eventually(
                lambda: any(children(client) for client in held.find("client")),
                "the session waits for the lock",
            )
            [client] = held.find("client")
            descriptor = os.pidfd_open(client)
            for writer in held.writers:
                writer.wait()
            begin = time.monotonic()
            held.agent.kill()
            written = max(writer.moment() for writer in held.writers)
            select.select([descriptor], [], [], PATIENCE)
            ended = time.monotonic()
            os.close(descriptor)
            return LetGo(written - begin, ended - begin)
    finally:
        holder.kill()
        holder.wait()


@attrs.frozen
class Way:
    """One way.

    :param name: what happens.
    :param happen: makes it happen, and tells how soon all was let go.
    :param kinds: the filesystems that are held.
    :param limit: the hold limit.
    :param lock_options: lines of the session's section.
    """

    name: str
    happen: Callable[[Held], LetGo]
    kinds: tuple[str, ...] = ("ext4", "xfs")
    limit: str = "10m"
    lock_options: str = ""

    def longest(self, directory: Path) -> LetGo:
        """Have it happen a few times.

        :param directory: a directory for it.
        :return: the longest times.
        """
        rounds = []
        for number in range(ROUNDS):
            with ExitStack() as stack:
                limit = f"hold_limit = {self.limit}"
                held = Held(directory / str(number), stack, self.kinds, limit, self.lock_options)
                rounds.append(self.happen(held))
        return LetGo(max(each.filesystems for each in rounds), max(each.session for each in rounds))


WAYS = (
    Way("kill -9 of the agent", killed("agent")),
    Way("kill -9 of the filesystems' guards", killed("freezer")),
    Way("kill -9 of the session's guard", killed("session")),
    Way("kill -9 of the session's client", killed("client")),
    Way("kill -9 of the agent, guards 1 s later", killed("agent", then=GUARDS)),
    Way("kill -9 of all guards, agent 1 s later", killed(*GUARDS, then=("agent",))),
    Way("kill -9 of all at once, from the start", restarted),
    Way("SIGTERM of the agent", terminated),
    Way("SIGSTOP of the agent, from the limit", stopped, limit=f"{SHORT_LIMIT}s"),
    Way("/post-sync, the record's disk full", full),
    Way("/sync, the second of three not frozen", refused, kinds=("ext4", "xfs", "ext4")),
    Way("kill -9 of the agent, session waiting", waiting, lock_options="order = 99"),
)


def report(directory: Path) -> None:
    """Measure, and print the table.

    :param directory: a directory for what is measured.
    """
    print(f"Until all is let go, the longest of {ROUNDS} (aim: filesystems 1 s, sessions 3 s).")
    print(f"{'':40}{'filesystems':>12}{'session':>10}  (s)")
    for number, way in enumerate(WAYS):
        taken = way.longest(directory / str(number))
        print(f"{way.name:40}{taken.filesystems:12.3f}{taken.session:10.3f}", flush=True)
    print(f"Guards let go {GUARD_GRACE:g} s after the limit: the agent's own turn comes before.")
