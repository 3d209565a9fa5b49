"""Which connections to the hook are kept: so many, and rather those that have proved themselves."""

from __future__ import annotations

import resource
from typing import Protocol

import attrs

from xohook.addresses import parse_address

MOST = 1024
"""Connections to the hook in all (docs/hook.rst, Requests and answers)."""

MOST_CONTROL = 2048
"""Connections to the control socket (docs/protocol.rst, Connecting)."""

MOST_OF_AN_ADDRESS = 256
"""Connections of one address (docs/hook.rst, Requests and answers)."""

RESERVED_FILES = 128
"""Files that connections leave free: some twenty are the agent's own, and each child has three
pipes, so that thirty children find room."""


class Connection(Protocol):
    """A connection as far as it is counted."""

    def abort(self) -> None:
        """Close it at once."""

    def loseConnection(self) -> None:
        """Close it when what was written to it is sent."""


class Connections:
    """Counts the connections; the oldest that have not proved themselves give way.

    :param most: how many there may be.
    :param most_of_an_address: how many there may be from one address.
    """

    def __init__(self, most: int, most_of_an_address: int = MOST_OF_AN_ADDRESS) -> None:
        self._most = most
        self._most_of_an_address = most_of_an_address
        # Each in the order in which the connections came, with their addresses.
        self._strangers: dict[Connection, str] = {}
        self._trusted: dict[Connection, str] = {}

    def add(self, connection: Connection, host: str) -> None:
        """Count a new connection, and abort one if there are too many now.

        :param connection: the connection.
        :param host: the address that it came from.
        """
        address = str(parse_address(host) or host)
        self._strangers[connection] = address
        every = [*self._strangers.values(), *self._trusted.values()]
        of_address = every.count(address)
        if of_address > self._most_of_an_address:
            same = (each for each, its in self._strangers.items() if its == address)
            self._give_way(next(same))
        elif len(every) > self._most:
            self._give_way(next(iter(self._strangers)))

    def trust(self, connection: Connection) -> None:
        """Note that a connection has proved itself.

        :param connection: one that was added.
        """
        if connection in self._strangers:
            self._trusted[connection] = self._strangers.pop(connection)

    def remove(self, connection: Connection) -> None:
        """Count a connection no more.

        :param connection: one that has closed.
        """
        self._strangers.pop(connection, None)
        self._trusted.pop(connection, None)

    def all(self) -> tuple[Connection, ...]:
        """Tell which connections there are.

        :return: all of them.
        """
        return (*self._strangers, *self._trusted)

    def _give_way(self, connection: Connection) -> None:
        del self._strangers[connection]
        connection.abort()


@attrs.frozen
class Room:
    """How many connections there are files for.

    :param hook: connections to the hook, at most :data:`MOST`.
    :param control: connections to the control socket, at most :data:`MOST_CONTROL`.
    """

    hook: int
    control: int


def make_room(*, has_control: bool) -> Room:
    """Raise the limit of open files as far as connections need it and the system lets.

    :param has_control: whether there is a control socket.
    :return: the room that there is; where it is not enough for all, the hook has half of it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted_control = MOST_CONTROL if has_control else 0
    wanted = MOST + wanted_control + RESERVED_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    free = soft - RESERVED_FILES
    hook = max(1, min(MOST, free // 2 if has_control else free))
    return Room(hook=hook, control=max(1, min(wanted_control, free - hook)))
