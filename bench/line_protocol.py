"""The least that a Twisted server does for the same round trips.

``python -m bench.line_protocol PATH NAMES`` sends a line to each name and waits until each has
answered with one. It looks into no answer, bounds nothing, logs nothing and keeps no time but the
whole round's.
"""

from __future__ import annotations

import sys
import time
from typing import Any, cast

from twisted.internet import reactor, stdio
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

from xohook.hook.connection_limits import make_room

#: What the agent sends to an app, to the byte but for the numbers.
_LINES = {
    b"freeze": b'{"jsonrpc":"2.0","id":%d,"method":"freeze","params":{"name":"app-%d",'
    b'"window":"20260301T020000Z-4f1c02","timeout":30.0,"hold":170.494}}',
    b"thaw": b'{"jsonrpc":"2.0","id":%d,"method":"thaw","params":{"name":"app-%d",'
    b'"window":"20260301T020000Z-4f1c02","outcome":"synced"}}',
}

_REGISTERED = b'{"jsonrpc":"2.0","id":0,"result":{"name":"app-0","protocol":1}}'


class Rounds:
    """The rounds that all names take part in.

    :param names: how many names there will be.
    """

    def __init__(self, names: int) -> None:
        self._names = names
        self._peers: list[Peer] = []
        self._missing = 0
        self._begin = 0.0

    def take(self, peer: Peer) -> None:
        """Take a line: a name's first registers it, each further one is an answer.

        :param peer: the connection that it came on.
        """
        if len(self._peers) < self._names:
            self._peers.append(peer)
            peer.sendLine(_REGISTERED)
            return
        self._missing -= 1
        if not self._missing:
            print(time.perf_counter() - self._begin, flush=True)

    def begin(self, line: bytes) -> None:
        """Send a line to each name; when each has answered, print the seconds that it took.

        :param line: the line.
        """
        self._missing = self._names
        self._begin = time.perf_counter()
        for number, peer in enumerate(self._peers):
            peer.sendLine(line % (number, number))


class Peer(LineReceiver):
    """One connection.

    :param rounds: the rounds.
    """

    delimiter = b"\n"

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    def lineReceived(self, line: bytes) -> None:
        """Take a line.

        :param line: what it says, which does not matter.
        """
        self._rounds.take(self)


class Orders(LineReceiver):
    """Standard input: a line for each round, ``freeze`` or ``thaw``; its end is the server's.

    :param rounds: the rounds.
    """

    delimiter = b"\n"

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    def lineReceived(self, line: bytes) -> None:
        """Begin a round.

        :param line: which.
        """
        self._rounds.begin(_LINES[line])

    def connectionLost(self, reason: object = None) -> None:
        """End.

        :param reason: of no interest.
        """
        reactor.stop()


def main() -> None:
    """Listen, say so on standard output, and run the rounds that are asked for."""
    path, names = sys.argv[1:]
    make_room()
    rounds = Rounds(int(names))
    factory = Factory.forProtocol(lambda: Peer(rounds))
    # The reactor's type does not name all of its interfaces.
    cast(Any, reactor).listenUNIX(path, factory)
    stdio.StandardIO(Orders(rounds))
    print("listening", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
