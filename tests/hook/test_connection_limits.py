"""Which connections are kept."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from xohook.hook.connection_limits import (
    MOST,
    MOST_CONTROL,
    MOST_OF_AN_ADDRESS,
    RESERVED_FILES,
    Connections,
    Room,
    make_room,
)

ALL = Room(hook=MOST, control=MOST_CONTROL)
WANTED = MOST + MOST_CONTROL + RESERVED_FILES


class NotedConnection:
    """A connection that notes whether it was closed."""

    is_aborted = False

    def abort(self) -> None:
        """Note it."""
        self.is_aborted = True

    def loseConnection(self) -> None:
        """Refuse: whoever gives way does so at once."""
        raise AssertionError("closed where it should have been aborted")


class ConnectionsTests(SynchronousTestCase):
    """Counting, and who gives way."""

    def add(self, connections: Connections, count: int, host: str = "") -> list[NotedConnection]:
        """Add so many, of one host or of a different one each."""
        added = [NotedConnection() for _ in range(count)]
        for number, each in enumerate(added):
            connections.add(each, host or f"192.0.2.{number}")
        return added

    def aborted(self, added: list[NotedConnection]) -> list[int]:
        """Tell which of them gave way."""
        return [number for number, each in enumerate(added) if each.is_aborted]

    def test_contract(self) -> None:
        """It is 256 connections an address and 1,024 in all, and 2,048 of the control socket."""
        self.assertEqual((MOST_OF_AN_ADDRESS, MOST, MOST_CONTROL), (256, 1024, 2048))
        connections = Connections(MOST)
        added = self.add(connections, 257, "192.0.2.1")
        self.assertEqual(self.aborted(added), [0])
        for host in ("192.0.2.2", "192.0.2.3", "192.0.2.4"):
            added += self.add(connections, 256, host)
        self.assertEqual((len(connections.all()), self.aborted(added)), (1024, [0]))
        added += self.add(connections, 1, "192.0.2.5")
        self.assertEqual((len(connections.all()), self.aborted(added)), (1024, [0, 1]))

    def test_oldest_of_an_address(self) -> None:
        """With too many of one address the oldest stranger of that address gives way."""
        connections = Connections(10, most_of_an_address=2)
        other = self.add(connections, 1, "192.0.2.9")
        added = self.add(connections, 4, "192.0.2.1")
        self.assertEqual((self.aborted(other), self.aborted(added)), ([], [0, 1]))

    def test_oldest_of_all(self) -> None:
        """With too many in all the oldest stranger gives way."""
        connections = Connections(3)
        added = self.add(connections, 5)
        self.assertEqual(self.aborted(added), [0, 1])
        self.assertEqual(connections.all(), tuple(added[2:]))

    def test_mapped_address(self) -> None:
        """An IPv4 address is the same one when it is mapped into IPv6."""
        connections = Connections(10, most_of_an_address=1)
        first = self.add(connections, 1, "192.0.2.1")
        self.add(connections, 1, "::ffff:192.0.2.1")
        self.assertEqual(self.aborted(first), [0])

    def test_trusted_stay(self) -> None:
        """Who has proved itself does not give way; the newest stranger does if it must."""
        connections = Connections(2, most_of_an_address=2)
        trusted = self.add(connections, 2, "192.0.2.1")
        for each in trusted:
            connections.trust(each)
        same = self.add(connections, 2, "192.0.2.1")
        other = self.add(connections, 1, "192.0.2.2")
        self.assertEqual(self.aborted(trusted), [])
        self.assertEqual((self.aborted(same), self.aborted(other)), ([0, 1], [0]))
        self.assertEqual(connections.all(), tuple(trusted))

    def test_removed(self) -> None:
        """What has closed is counted no more, trusted or not."""
        connections = Connections(2)
        added = self.add(connections, 2)
        connections.trust(added[0])
        for each in added:
            connections.remove(each)
        self.assertEqual(connections.all(), ())
        self.assertEqual(self.aborted(self.add(connections, 2)), [])

    def test_gave_way_already(self) -> None:
        """One that gave way is not trusted or removed a second time."""
        connections = Connections(1)
        first, second = self.add(connections, 2)
        connections.trust(first)
        connections.remove(first)
        self.assertEqual(connections.all(), (second,))


class MakeRoomTests(SynchronousTestCase):
    """Raising the limit of open files."""

    def room(self, soft: int, hard: int, *, has_control: bool = True) -> tuple[Room, list[int]]:
        """Make room under these limits; tell how much, and the soft limits that were set."""
        set_to: list[int] = []
        self.patch(resource, "getrlimit", lambda _: (soft, hard))
        self.patch(resource, "setrlimit", lambda _, limits: set_to.append(limits[0]))
        return make_room(has_control=has_control), set_to

    def test_enough(self) -> None:
        """A limit that suffices stays."""
        self.assertEqual(self.room(WANTED, WANTED), (ALL, []))
        self.assertEqual(self.room(10 * WANTED, 10 * WANTED), (ALL, []))

    def test_no_control_socket(self) -> None:
        """Without a control socket the hook has what there is, and no more is asked for."""
        room, _ = self.room(1024, 1024, has_control=False)
        self.assertEqual(room.hook, 1024 - RESERVED_FILES)
        room, set_to = self.room(256, resource.RLIM_INFINITY, has_control=False)
        self.assertEqual((room.hook, set_to), (MOST, [MOST + RESERVED_FILES]))
        self.assertEqual(self.room(set_to[0], WANTED, has_control=False), (room, []))

    def test_raised(self) -> None:
        """One that does not is raised as far as needed."""
        for hard in (10 * WANTED, resource.RLIM_INFINITY):
            self.assertEqual(self.room(256, hard), (ALL, [WANTED]))

    def test_hard_limit(self) -> None:
        """Where the system lets no more, the hook has half of what the reserve leaves."""
        self.assertEqual(self.room(256, 512), (Room(hook=192, control=192), [512]))
        self.assertEqual(self.room(256, 513), (Room(hook=192, control=193), [513]))

    def test_hook_full(self) -> None:
        """What the hook has no use for, the control socket has."""
        limit = RESERVED_FILES + MOST + MOST + 100
        self.assertEqual(self.room(256, limit), (Room(hook=MOST, control=MOST + 100), [limit]))

    def test_no_room(self) -> None:
        """There is room for one of each in any case."""
        for limit in (64, RESERVED_FILES, RESERVED_FILES + 1):
            self.assertEqual(self.room(limit, limit), (Room(hook=1, control=1), [limit]))
