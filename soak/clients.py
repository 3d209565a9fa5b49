"""An application that registers several names, in one form: ``python -m soak.clients``.

For each line on standard input it prints how often each name was frozen and thawed, and how many
tasks there are: those of asyncio, or what Twisted's reactor waits for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

from xohook.client import AsyncRegistration, Freeze, Registration, Thaw


class App:
    """One name, and what it was asked for.

    :param name: the name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.freezes = 0
        self.thaws: Counter[str] = Counter()

    def freeze(self, _: Freeze) -> None:
        """Count."""
        self.freezes += 1

    def thaw(self, thaw: Thaw) -> None:
        """Count.

        :param thaw: why.
        """
        self.thaws[thaw.outcome] += 1

    async def freeze_soon(self, freeze: Freeze) -> None:
        """Count, then let others have their turn: it may be cancelled there.

        :param freeze: as :meth:`freeze` takes it.
        """
        self.freeze(freeze)
        await asyncio.sleep(0)

    async def thaw_soon(self, thaw: Thaw) -> None:
        """Count, after others had their turn.

        :param thaw: as :meth:`thaw` takes it.
        """
        await asyncio.sleep(0)
        self.thaw(thaw)


def tell(apps: Sequence[App], tasks: int) -> None:
    """Print how it stands.

    :param apps: the names.
    :param tasks: how many tasks there are.
    """
    asked = {app.name: [app.freezes, app.thaws] for app in apps}
    print(json.dumps({"apps": asked, "tasks": tasks}), flush=True)


def run_threads(apps: Sequence[App], control: str) -> None:
    """Register in the plain form, a thread for each name.

    :param apps: the names.
    :param control: the agent's socket.
    """
    registrations = [
        Registration(app.name, freeze=app.freeze, thaw=app.thaw, control=control) for app in apps
    ]
    for registration in registrations:
        registration.start()
    for _ in sys.stdin:
        tell(apps, 0)


def run_asyncio(apps: Sequence[App], control: str) -> None:
    """Register in the form for asyncio.

    :param apps: the names.
    :param control: the agent's socket.
    """

    async def run() -> None:
        registrations = [
            AsyncRegistration(app.name, freeze=app.freeze_soon, thaw=app.thaw_soon, control=control)
            for app in apps
        ]
        for registration in registrations:
            registration.start()
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
        )
        while await lines.readline():
            tell(apps, len(asyncio.all_tasks()))

    asyncio.run(run())


def run_twisted(apps: Sequence[App], control: str) -> None:
    """Register in the form for Twisted.

    :param apps: the names.
    :param control: the agent's socket.
    """
    # The other forms run without Twisted.
    from twisted.internet import reactor, stdio
    from twisted.protocols.basic import LineReceiver

    from xohook import txclient

    class Orders(LineReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            delayed = reactor.getDelayedCalls()
            readers = reactor.getReaders()
            tell(apps, len(delayed) + len(readers))

        def connectionLost(self, reason: object = None) -> None:
            reactor.stop()

    for app in apps:
        # The reactor's type names few of its interfaces.
        txclient.Registration(
            cast(Any, reactor), app.name, freeze=app.freeze, thaw=app.thaw, control=control
        ).startService()
    stdio.StandardIO(Orders())
    reactor.run()


FORMS: dict[str, Callable[[Sequence[App], str], None]] = {
    "threads": run_threads,
    "asyncio": run_asyncio,
    "twisted": run_twisted,
}


def main() -> None:
    """Register, and tell how it stands as often as asked, until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m soak.clients", description=__doc__)
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("control", help="the agent's socket")
    parser.add_argument("names", nargs="+", metavar="name")
    asked = parser.parse_args()
    # Each restart of the agent is a warning of each name; errors are still told.
    logging.disable(logging.WARNING)
    FORMS[asked.form]([App(name) for name in asked.names], asked.control)


if __name__ == "__main__":
    main()
