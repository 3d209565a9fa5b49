"""The writer: writes to disks, and to whatever else may be stuck, in place of the agent.

A write to a frozen filesystem blocks its process, and no signal ends that. So the agent gives what
it writes to a process of this kind, which has none of the agent's locks and sockets. The agent
waits for none of its writes without a limit.

The arguments name its one task:

``output``
    the log goes to standard output;
``file PATH``
    the log goes to a file, which is rotated as twistd does it;
``syslog PREFIX``
    the log goes to syslog;
``stamp PATH``
    it writes and removes the agent's stamp.

Standard input is a socket. The agent sends its orders over it, a frame each, and closes it when it
ends. Then the writer carries out what it has got, and ends too. The orders of a log are

``("write", TEXT)``, ``("syslog", PRIORITY, TEXT)``
    write this;
``("rotate",)``
    rotate the file now;
``("detach",)``
    leave the standard output and error that it was started with: the agent is a daemon;
``("sync", NUMBER)``
    answer ``(NUMBER, "")`` when all that came before is written.

Whatever the agent writes to its own standard output and error comes in by descriptor 3, a pipe,
and goes to standard error. The orders of a stamp are ``("press", NUMBER, DATA)`` and ``("lift",
NUMBER)``. Each is answered with ``(NUMBER, PROBLEM)``, where an empty text means that it was done.
"""

import errno
import os
import re
import select
import signal
import stat
import sys
from pathlib import Path

from xohook.processes.guards.frames import agent_is_there, answer, take_frames
from xohook.processes.guards.stamping import Stamp

ROTATE_AT = 1_000_000
"""Bytes of a log file from which on it is rotated: what twistd's own log files have
(``twisted.python.logfile.LogFile``)."""

TRY_AGAIN_AFTER = 1000
"""Milliseconds between two tries to write to a disk that is full."""

RAW = 3
"""The descriptor of the pipe with what the agent writes to its standard output and error."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Output:
    """One of the descriptors that the writer was started with.

    :param descriptor: its number.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Write, and wait as long as the reader is stuck, or the disk full.

        :param data: what to write; it is dropped where it can never be written.
        """
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Others may have made it non-blocking: it is shared with them.
                watch = select.poll()
                watch.register(self._descriptor, select.POLLOUT)
                watch.poll()
            except OSError as error:
                if error.errno not in _FULL or not agent_is_there(TRY_AGAIN_AFTER):
                    return

    def rotate(self) -> None:
        """Do nothing: it is no file that this could rotate."""


class File:
    """A log file, opened, written and rotated as twistd does it.

    :param path: its absolute path.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0

    def open(self) -> int:
        """Open it unless it is open.

        :return: its descriptor.
        :raises OSError: where it cannot be opened.
        """
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
            self._descriptor = os.open(self._path, flags, 0o666)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def write(self, data: bytes) -> None:
        """Write, and try again while the disk is full, or the file cannot be opened.

        :param data: what to write; it is dropped where the agent ends before that is possible.
        """
        while data:
            try:
                if self._size >= ROTATE_AT:
                    self.rotate()
                written = os.write(self.open(), data)
            except OSError:
                if not agent_is_there(TRY_AGAIN_AFTER):
                    return
            else:
                self._size += written
                data = data[written:]

    def rotate(self) -> None:
        """Begin a new file; where that fails, go on with the old one for as long again."""
        self._size = 0
        try:
            old = os.fstat(self.open())
            if not stat.S_ISREG(old.st_mode):
                return
            self._move_on()
            new = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        os.fchmod(new, stat.S_IMODE(old.st_mode))
        os.close(self.open())
        self._descriptor = new

    def _move_on(self) -> None:
        path = Path(self._path)
        name = re.compile(rf"{re.escape(path.name)}\.([1-9]\d*)")
        matches = [name.fullmatch(each.name) for each in path.parent.iterdir()]
        for number in sorted((int(match[1]) for match in matches if match), reverse=True):
            path.with_name(f"{path.name}.{number}").rename(f"{path}.{number + 1}")
        path.rename(f"{path}.1")


class Log:
    """The log.

    :param task: the name of the task, and its object.
    """

    def __init__(self, task: "list[str]") -> None:
        self._out: Output | File = Output(1)
        self._raw = Output(2)
        self._watch: select.poll | None = None
        if task[0] == "file":
            self._out = File(task[1])
        elif task[0] == "syslog":
            import syslog

            self._syslog = syslog.syslog
            syslog.openlog(task[1])

    def obey(self, word: str, *values: "str | int | bytes") -> None:
        """Carry out an order.

        :param word: what to do.
        :param values: what it needs.
        """
        if word == "write":
            self._out.write(str(values[0]).encode(errors="backslashreplace"))
        elif word == "syslog":
            self._syslog(int(values[0]), str(values[1]))
        elif word == "rotate":
            self._out.rotate()
        elif word == "detach":
            self._detach()
        else:
            self.pass_on()
            answer(int(values[0]), self._problem())

    def _problem(self) -> str:
        """Find out why the log cannot be written; its directory may be there only after a thaw."""
        if isinstance(self._out, File):
            try:
                self._out.open()
            except OSError as error:
                return error.strerror or str(error)
        return ""

    def watch(self, watch: select.poll) -> None:
        """Have the agent's own output watched.

        :param watch: where to register it.
        """
        self._watch = watch
        watch.register(RAW, select.POLLIN)

    def pass_on(self) -> None:
        """Pass on what the agent has written to its own standard output and error."""
        here = select.poll()
        here.register(RAW, select.POLLIN)
        while any(events & select.POLLIN for _, events in here.poll(0)):
            part = os.read(RAW, 65536)
            if not part:
                break
            self._raw.write(part)
        if self._watch is not None and here.poll(0):
            # Nobody has its other end any more, and it would be ready for ever.
            self._watch.unregister(RAW)
            self._watch = None

    def _detach(self) -> None:
        self.pass_on()
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        os.close(null)


def serve(task: "Log | Stamp") -> None:
    """Carry out the agent's orders in turn, until it has ended and all are done.

    :param task: who carries them out.
    """
    watch = select.poll()
    watch.register(0, select.POLLIN)
    task.watch(watch)
    pending = bytearray()
    while True:
        ready = [descriptor for descriptor, _ in watch.poll()]
        if RAW in ready:
            task.pass_on()
        if 0 not in ready:
            continue
        try:
            part = os.read(0, 65536)
        except ConnectionResetError:
            # The agent was killed before it had read all answers (unix(7)).
            part = b""
        if not part:
            task.pass_on()
            return
        pending += part
        for order in take_frames(pending):
            task.obey(*order)  # type: ignore[arg-type] # The first is the word.


def main() -> None:
    """Do the task that the arguments name."""
    os.setsid()
    # The agent's end ends it, and nothing else: until then it may have something to write.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    task = sys.argv[3:]
    serve(Stamp(task[1]) if task[0] == "stamp" else Log(task))
    # The interpreter's own end takes long enough for systemd to see a process that outlives the
    # agent, and to log that the unit ends uncleanly. There is nothing left to flush.
    os._exit(0)
