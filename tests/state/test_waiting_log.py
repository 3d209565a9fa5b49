"""Tests for :mod:`xohook.state.waiting_log`."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xohook.state.waiting_log import MOST_WAITING, WaitingLog


@implementer(ILogObserver)
class Book:
    """Keeps all that is written.

    :param publisher: where to say something more whenever a certain event is written.
    :param after: the number of that event.
    """

    def __init__(self, publisher: LogPublisher | None = None, after: int = 0) -> None:
        self.events: list[LogEvent] = []
        self._publisher = publisher
        self._after = after

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)
        if self._publisher is not None and event["number"] == self._after:
            self._publisher({"number": 10 * self._after})


class WaitingLogTests(SynchronousTestCase):
    """Nothing is written while it holds back, and nothing is lost."""

    def setUp(self) -> None:
        self.book = Book()
        self.publisher = LogPublisher(self.book)
        self.log = WaitingLog()
        self.log.attach(self.publisher)

    def say(self, *numbers: int) -> None:
        for number in numbers:
            self.publisher({"number": number, "log_time": 1000.0 + number})

    @property
    def numbers(self) -> list[int]:
        return [event["number"] for event in self.book.events]

    def test_attach(self) -> None:
        """It stands in for a publisher's observers: each event still comes once."""
        books = Book(), Book()
        publisher = LogPublisher(*books)
        WaitingLog().attach(publisher)
        publisher({"number": 1})
        self.assertEqual([len(book.events) for book in books], [1, 1])

    def test_at_once(self) -> None:
        """Events are written at once, before it has held anything back and afterwards."""
        self.say(1)
        self.assertEqual(self.numbers, [1])
        self.log.pause()
        self.log.resume()
        self.say(2)
        self.assertEqual(self.numbers, [1, 2])

    def test_waits(self) -> None:
        """What is held back comes out later, in order, each event with its own time."""
        self.say(1)
        self.log.pause()
        self.say(2, 3)
        self.assertEqual(self.numbers, [1])
        self.log.resume()
        self.say(4)
        self.assertEqual(self.numbers, [1, 2, 3, 4])
        times = [event["log_time"] for event in self.book.events]
        self.assertEqual(times, [1001, 1002, 1003, 1004])

    def test_twice(self) -> None:
        """To hold back twice loses nothing; to let out twice writes nothing again."""
        self.log.pause()
        self.say(1)
        self.log.pause()
        self.say(2)
        self.assertEqual(self.numbers, [])
        self.log.resume()
        self.log.resume()
        self.assertEqual(self.numbers, [1, 2])

    def test_said_while_resuming(self) -> None:
        """An observer that says something itself while all comes out is heard too."""
        publisher = LogPublisher()
        book = Book(publisher, after=1)
        publisher.addObserver(book)
        log = WaitingLog()
        log.attach(publisher)
        log.pause()
        publisher({"number": 1})
        publisher({"number": 2})
        log.resume()
        self.assertEqual(sorted(event["number"] for event in book.events), [1, 2, 10])

    def test_bound(self) -> None:
        """Beyond so many the oldest give way, and are counted."""
        self.log.pause()
        self.say(*range(MOST_WAITING + 3))
        self.log.resume()
        self.assertEqual(self.numbers, list(range(3, MOST_WAITING + 3)))

    def test_lost(self) -> None:
        """How many were lost is told once, after those that were not."""
        told = Book()
        self.patch(WaitingLog, "_log", Logger("xohook.state.waiting_log", observer=told))
        self.log.pause()
        self.say(*range(MOST_WAITING + 3))
        self.log.resume()
        self.log.pause()
        self.log.resume()
        self.assertEqual([event["lost"] for event in told.events], [3])
