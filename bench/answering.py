"""Clients that answer whatever they are asked, as fast as they can: ``python -m bench.answering``.

They cost as little as Python lets them, so that it is the server which is measured: one process for
all of them, nothing parsed, the answer made by putting the request's id into its place.
"""

from __future__ import annotations

import argparse
import re
import select
import socket
from itertools import islice

from xohook.hook.connection_limits import make_room

#: Both servers write the id in this way; nothing else in what they send looks like it.
_ID = re.compile(rb'"id":(\d+),')

_ANSWER = b'{"jsonrpc":"2.0","id":%b,"result":{}}\n'

_REGISTER = b'{"jsonrpc":"2.0","id":%d,"method":"register","params":{"name":"app-%d"}}\n'

#: Bytes that are read at once: all that a socket's buffer holds.
_PIECE = 1 << 20


def register(path: str, numbers: list[int]) -> socket.socket:
    """Open a connection, and register names on it.

    :param path: the server's UNIX socket.
    :param numbers: the numbers that the names end with.
    :return: the connection, when the server has answered for each name.
    :raises SystemExit: where it refuses.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(b"".join(_REGISTER % (number, number) for number in numbers))
    answers = connection.makefile("rb", buffering=0)
    for answer in islice(answers, len(numbers)):
        if b'"error"' in answer:
            raise SystemExit(answer.decode())
    return connection


def answer_all(connections: dict[int, socket.socket]) -> None:
    """Answer every request on every connection, until one of them ends.

    :param connections: the connections by their descriptors.
    """
    begun = dict.fromkeys(connections, b"")
    poll = select.epoll(len(connections))
    for descriptor in connections:
        poll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            connection = connections[descriptor]
            came = connection.recv(_PIECE)
            if not came:
                return
            lines, end, begun[descriptor] = (begun[descriptor] + came).rpartition(b"\n")
            if end:
                answers = [_ANSWER % identity for identity in _ID.findall(lines)]
                connection.sendall(b"".join(answers))


def main() -> None:
    """Register, say so on standard output, and answer until the server ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.answering", description=__doc__)
    parser.add_argument("path", help="the server's UNIX socket")
    parser.add_argument("connections", type=int, help="how many connections")
    parser.add_argument("names", type=int, help="how many names on each of them")
    asked = parser.parse_args()
    make_room()
    connections = {}
    for first in range(0, asked.connections * asked.names, asked.names):
        connection = register(asked.path, list(range(first, first + asked.names)))
        connections[connection.fileno()] = connection
    print("registered", flush=True)
    answer_all(connections)


if __name__ == "__main__":
    main()
