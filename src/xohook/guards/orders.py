"""What a guard is told by the agent, and when it has to let go."""

import os
import select
import signal
import time
from collections.abc import Collection


class Orders:
    """The lines of standard input, until it closes, SIGTERM comes or the time is up.

    The line ``until SECONDS`` sets that time, of the monotonic clock (clock_gettime(2)); only the
    last one counts. It is obeyed here; the other lines are the guard's own.
    """

    def __init__(self) -> None:
        self._until: float | None = None
        self._pending = b""
        self._lines: list[str] = []
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

    def take(self) -> list[str]:
        """Take the lines that have come.

        :return: the lines, without their ends.
        """
        lines, self._lines = self._lines, []
        return lines

    def next(self) -> str:
        """Wait for one line.

        :return: the line; empty when it is time to let go.
        """
        while not self._lines and not self.are_over():
            self.wait()
        return self._lines.pop(0) if self._lines else ""

    def _wake(self) -> None:
        # Each byte is the number of a signal; others than SIGTERM only end the wait.
        self._is_closed |= signal.SIGTERM in os.read(self._woken, 256)

    def _read(self) -> None:
        part = os.read(0, 65536)
        self._is_closed |= not part
        *lines, self._pending = (self._pending + part).split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="surrogateescape").partition(" ")
            if word == "until":
                self._until = float(rest)
            else:
                self._lines.append(f"{word} {rest}" if rest else word)
