"""The guard of a session: stands between the agent and a client that holds a lock.

Its orders are those of :mod:`xohook.processes.guards.orders`:

``start JSON``
    the first order; JSON has the client's ``arguments``, ``environment``, ``directory``,
    ``account`` (``[uid, gid, groups]`` or null) and ``thaw_input``;
``send TEXT``
    write the text, a JSON string, to the client;
``thaw``
    write ``thaw_input`` to the client. The answer, ``thawing``, comes before any line of the client
    that follows it;
``held SECONDS``
    the client has frozen: give it so many seconds to thaw where this guard lets go;
``close``
    let go, ``thaw_input`` not written again, and end.

Unasked it reports ``started PID``, ``line TEXT`` for each line of the client (standard error
included), ``long TEXT`` with the first 16 KiB of a longer one,
``released`` when it lets go without an order, ``unkillable`` where it may not signal the
client, and ``ended HOW``. When standard input closes, the time is up or SIGTERM comes, it lets go:
``thaw_input`` is written, the client's standard input closed, its process group ended by SIGTERM
after a second and by SIGKILL two seconds later. A query in flight, or a wait for a lock, does not
notice a closed standard input. A client that has frozen gets the time for its thaw instead of that
second, because some locks outlive their client's end.
"""

import json
import os
import select
import signal
import sys
import time

from xohook.processes.guards.launch import EXIT_CANNOT_RUN, become, explain
from xohook.processes.guards.orders import Orders

TERM_AFTER = 1.0
"""Seconds from the closing of the client's standard input to SIGTERM (``docs/hook.rst``), unless
the client has frozen."""

KILL_AFTER = 2.0
"""Seconds from SIGTERM to SIGKILL (``docs/hook.rst``)."""

MOST_UNREAD = 1024 * 1024
"""Bytes that wait for an agent that does not read. The client waits with it then, unless it is
being let go: what it says beyond is thrown away then."""

_GLANCE = 0.1
"""Seconds between two looks whether the client has ended."""

_READ = 65536
_LONGEST_LINE = 16 * 1024
"""Bytes of a client's line that are passed on."""


class Client:
    """The client, with what it has not read yet.

    :param arguments: the program and its arguments.
    :param environment: its whole environment.
    :param directory: its working directory.
    :param account: the numbers of its user, group and groups; None for those of the agent.
    :param thaw_input: what is written to it to thaw.
    """

    def __init__(
        self,
        arguments: "list[str]",
        environment: "dict[str, str]",
        directory: str,
        account: "tuple[int, int, tuple[int, ...]] | None",
        thaw_input: str,
    ) -> None:
        self.thaw_input = thaw_input
        self.patience = TERM_AFTER
        theirs, self.input = os.pipe()
        self.output, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _take_places(theirs, ours)
                _become_client(arguments, environment, directory, account)
            finally:
                os._exit(EXIT_CANNOT_RUN)
        os.close(theirs)
        os.close(ours)
        os.set_blocking(self.input, False)
        self.unwritten = b""
        self.is_closing = False
        self.has_said_all = False
        self._pending = b""

    def send(self, text: str) -> None:
        """Write a text to it, as soon as it reads.

        :param text: the text; an end of line is put behind it.
        """
        if not self.is_closing:
            self.unwritten += f"{text}\n".encode()

    def write(self) -> None:
        """Write some of what it has not read yet."""
        try:
            written = os.write(self.input, self.unwritten)
        except BlockingIOError:
            return
        except OSError:
            # It reads no more; its end will tell.
            written = len(self.unwritten)
        self.unwritten = self.unwritten[written:]
        self._close_when_written()

    def close(self) -> None:
        """Close its standard input once everything is written."""
        self.is_closing = True
        self._close_when_written()

    def read(self) -> "list[str]":
        """Read some of what it says.

        :return: a report for each whole line.
        """
        part = os.read(self.output, _READ)
        self.has_said_all = not part
        part = part.replace(b"\0", b"")
        *lines, self._pending = (self._pending + part).split(b"\n")
        if self.has_said_all and self._pending:
            lines.append(self._pending)
        # One byte more tells that a line was longer.
        self._pending = self._pending[: _LONGEST_LINE + 1]
        return [_report(line) for line in lines]

    def end(self, number: int) -> bool:
        """Signal its whole process group.

        :param number: the signal.
        :return: whether this program may do so: a client that runs as another user, by sudo for
            instance, may not be signalled.
        """
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return True

    def reap(self) -> str:
        """Look whether it has ended.

        :return: how; empty while it has not.
        """
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return ""
        code = os.waitstatus_to_exitcode(status)
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name

    def _close_when_written(self) -> None:
        if self.is_closing and not self.unwritten and self.input >= 0:
            os.close(self.input)
            self.input = -1


def _report(line: bytes) -> str:
    """Put a client's line into a report; of one that is too long, its beginning."""
    word = "line" if len(line) <= _LONGEST_LINE else "long"
    return f"{word} {line[:_LONGEST_LINE].decode(errors='replace').rstrip(chr(13))}"


def _take_places(theirs: int, ours: int) -> None:
    os.setsid()
    os.dup2(theirs, 0)
    os.dup2(ours, 1)
    os.dup2(ours, 2)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _become_client(
    arguments: "list[str]",
    environment: "dict[str, str]",
    directory: str,
    account: "tuple[int, int, tuple[int, ...]] | None",
) -> None:
    program = arguments[0]
    try:
        become(tuple(arguments), environment, directory, account)
    except OSError as error:
        why = explain(error, program, environment, directory)
    except Exception as error:  # noqa: BLE001 - whatever it is, nobody else can tell it.
        why = str(error)
    os.write(2, f"cannot run {program}: {why}\n".encode(errors="replace"))


class Agent:
    """The agent's end of standard output, which may be slow, stopped or gone."""

    def __init__(self) -> None:
        self.unread = bytearray()
        os.set_blocking(1, False)

    @property
    def has_enough(self) -> bool:
        """Whether too much waits for it already."""
        return len(self.unread) >= MOST_UNREAD

    def tell(self, line: str, number: int = 0) -> None:
        """Tell a line as soon as the agent reads.

        :param line: the line.
        :param number: the number of the order that it answers; 0 where it answers none.
        """
        self.unread += f"{number} {line}\n".encode(errors="replace")

    def write(self) -> None:
        """Write some of what waits."""
        try:
            written = os.write(1, self.unread)
        except BlockingIOError:
            return
        except OSError:
            written = len(self.unread)
        del self.unread[:written]


def serve(ready: "set[int]", client: Client, agent: Agent) -> None:
    """Pass on what can be passed on.

    :param ready: the files that can be read or written to.
    :param client: the client.
    :param agent: the agent.
    """
    if client.output in ready:
        is_kept = not agent.has_enough
        for line in client.read():
            if is_kept:
                agent.tell(line)
    if client.input in ready:
        client.write()
    if agent.unread:
        agent.write()


def readers(client: Client) -> "list[int]":
    """Tell which files to wait for until they can be read.

    :param client: the client.
    :return: its output, unless it has said all.
    """
    return [] if client.has_said_all else [client.output]


def writers(client: Client, agent: Agent) -> "list[int]":
    """Tell which files to wait for until they can be written to.

    :param client: the client.
    :param agent: the agent.
    :return: those that something waits for.
    """
    return [
        *([client.input] if client.unwritten else []),
        *([1] if agent.unread else []),
    ]


def hold(orders: Orders, client: Client, agent: Agent) -> str:
    """Carry out the orders until it is time to let go, or the client ends.

    :param orders: the orders.
    :param client: the client.
    :param agent: the agent.
    :return: how the client has ended; empty while it has not.
    """
    while not orders.are_over():
        listen = [] if agent.has_enough else readers(client)
        serve(orders.wait(listen, writers(client, agent)), client, agent)
        for number, word, rest in orders.take():
            if word == "send":
                client.send(json.loads(rest))
            elif word == "thaw":
                agent.tell("thawing", number)
                client.send(client.thaw_input)
            elif word == "held":
                client.patience = max(TERM_AFTER, float(rest))
            elif word == "close":
                client.patience = TERM_AFTER
                return client.reap()
        how = client.reap()
        if how:
            return how
    agent.tell("released")
    client.send(client.thaw_input)
    return client.reap()


def let_go(client: Client, agent: Agent) -> str:
    """End the client: its standard input closed first, then by signals.

    :param client: the client.
    :param agent: the agent.
    :return: how it has ended.
    """
    client.close()
    how = ""
    for patience, number in ((client.patience, signal.SIGTERM), (KILL_AFTER, signal.SIGKILL)):
        until = time.monotonic() + patience
        while not how and time.monotonic() < until:
            wait = min(_GLANCE, max(0.0, until - time.monotonic()))
            readable, writable, _ = select.select(readers(client), writers(client, agent), [], wait)
            serve({*readable, *writable}, client, agent)
            how = client.reap()
        if not how and not client.end(number):
            agent.tell("unkillable")
            return f"process {client.pid} may not be signalled"
    return how or "SIGKILL"


def main() -> None:
    """Start the client, hold and let go."""
    os.setsid()
    orders = Orders()
    first = orders.next()
    if first is None:
        sys.exit(0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    client, agent = Client(**json.loads(first[2])), Agent()
    agent.tell(f"started {client.pid}")
    how = hold(orders, client, agent) or let_go(client, agent)
    client.end(signal.SIGTERM)
    while not client.has_said_all and select.select([client.output], [], [], 0)[0]:
        serve({client.output}, client, agent)
    agent.tell(f"ended {how}")
    agent.write()


if __name__ == "__main__":
    main()
