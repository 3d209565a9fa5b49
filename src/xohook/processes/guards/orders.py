"""The orders that a guard gets from the agent, and when it has to let go.

An order is a line, ``NUMBER WORD REST``. The agent counts its orders from 1, and an answer begins
with the number of the order that it answers. What a guard reports unasked begins with 0, so that
it cannot be taken for the answer to an order.
"""

import os
import select
import signal
import time
from collections.abc import Collection


class Orders:
    """The orders on standard input, until it closes, SIGTERM comes or the time is up.

    The order ``until SECONDS`` sets that time, of the monotonic clock (clock_gettime(2)); only the
    last one counts. It is obeyed here; the other orders are the guard's own. Each of those is a
    tuple of its number, its word and its rest.
    """

    def __init__(self) -> None:
        self._until: float | None = None
        self._pending = b""
        self._orders: list[tuple[int, str, str]] = []
        self._is_closed = False
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        # A handler that raised could do so between a freeze and the note of it; a pipe cannot.
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)

    def are_over(self) -> bool:
        """Look whether it is time to let go.

        :return: whether standard input has closed, SIGTERM has come or the time is up.
        """
        watch = select.poll()
        watch.register(0, select.POLLIN)
        watch.register(self._woken, select.POLLIN)
        for ready, events in watch.poll(0):
            if ready == self._woken:
                self._wake()
            elif not events & select.POLLIN:
                # Closed, and nothing left in it to be read.
                self._is_closed = True
        return self._is_closed or (self._until is not None and time.monotonic() >= self._until)

    def wait(self, readers: Collection[int] = (), writers: Collection[int] = ()) -> set[int]:
        """Wait until there is something to do, or it is time to let go.

        :param readers: further files to wait for until they can be read.
        :param writers: further files to wait for until they can be written to.
        :return: which of these can be.
        """
        left = None if self._until is None else max(0.0, self._until - time.monotonic())
        readable, writable, _ = select.select([0, self._woken, *readers], writers, [], left)
        if 0 in readable:
            self._read()
        if self._woken in readable:
            self._wake()
        return {each for each in (*readable, *writable) if each not in (0, self._woken)}

    def take(self) -> "list[tuple[int, str, str]]":
        """Take the orders that have come.

        :return: the orders, the first one first.
        """
        orders, self._orders = self._orders, []
        return orders

    def next(self) -> "tuple[int, str, str] | None":
        """Wait for one order.

        :return: the order; None when it is time to let go.
        """
        while not self._orders and not self.are_over():
            self.wait()
        return self._orders.pop(0) if self._orders else None

    def _wake(self) -> None:
        # Each byte is the number of a signal; others than SIGTERM only end the wait.
        self._is_closed |= signal.SIGTERM in os.read(self._woken, 256)

    def _read(self) -> None:
        part = os.read(0, 65536)
        self._is_closed |= not part
        *lines, self._pending = (self._pending + part).split(b"\n")
        for line in lines:
            number, _, order = line.decode(errors="surrogateescape").partition(" ")
            word, _, rest = order.partition(" ")
            if word == "until":
                self._until = float(rest)
            else:
                self._orders.append((int(number), word, rest))
