"""Becomes a participant's program: ``python -I -S -B launch.py``.

The agent cannot give a child its own session, user or directory without blocking itself on a slow
disk, so this small program does. It waits for the whole of its orders on standard input, which
arrive when the record names its process, and does nothing where they do not: an agent that dies
in between has started nothing. What keeps the program from running is told on standard error,
which is otherwise closed unused; the program's own goes where its standard output goes.

Orders are ``(arguments, environment, directory, account)`` in the format of :mod:`marshal`, which
is built in and the same on both sides; an account is ``(uid, gid, groups)`` or None.
"""

import errno
import marshal
import os
import sys

# The signal module's own core, without its enumerations: their import would be half of the start.
from _signal import (  # type: ignore[import-not-found] # typeshed has only the module around it.
    SIG_DFL,
    SIGPIPE,
    SIGXFSZ,
    signal,
)

EXIT_TRY_AGAIN = 75
"""The status where the system is short of something (sysexits(3head), EX_TEMPFAIL)."""

SHORTAGES = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What execve(2) says of a shortage that will pass."""

EXIT_CANNOT_RUN = 127
"""The status of a program that cannot be run, by the convention of the shell (POSIX, 2.8.2)."""


def read_orders() -> bytes:
    """Read standard input to its end.

    :return: all that came.
    """
    parts = []
    while part := os.read(0, 65536):
        parts.append(part)
    return b"".join(parts)


def become(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    directory: str,
    account: "tuple[int, int, tuple[int, ...]] | None",
) -> None:
    """Turn this process into the program.

    :param arguments: the program and its arguments.
    :param environment: the program's whole environment.
    :param directory: its working directory.
    :param account: the numbers of its user and groups, None for those of the agent.
    :raises OSError: where it cannot be run.
    """
    if account is not None:
        uid, gid, groups = account
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    os.chdir(directory)
    # Python ignores these; a program expects them as the system has them (signal(7)).
    signal(SIGPIPE, SIG_DFL)
    signal(SIGXFSZ, SIG_DFL)
    reason: OSError | None = None
    for place in places(arguments[0], environment):
        try:
            os.execve(place, arguments, environment)  # noqa: S606 - to run it is the purpose.
        except OSError as error:
            # What is there and cannot be run says more than what is not there.
            if reason is None or isinstance(reason, (FileNotFoundError, NotADirectoryError)):
                reason = error
    assert reason is not None
    raise reason


def places(program: str, environment: "dict[str, str]") -> "list[str]":
    """List where a program may be, as execvp(3) does.

    Python's own :func:`os.execvpe` imports a module for this, which the program's user may not be
    able to read.

    :param program: the program as it was named.
    :param environment: the environment whose ``PATH`` is searched.
    :return: the paths to try, in order.
    """
    if "/" in program:
        return [program]
    return [f"{directory or '.'}/{program}" for directory in environment["PATH"].split(":")]


def explain(error: OSError, program: str, environment: "dict[str, str]", directory: str) -> str:
    """Tell why a program cannot be run, where the system's own words would mislead.

    :param error: what the system said.
    :param program: the program as it was named.
    :param environment: the program's environment.
    :param directory: its working directory.
    :return: the reason, in one line.
    """
    if error.filename == directory:
        return f"in the directory {directory}: {error.strerror}"
    if not isinstance(error, FileNotFoundError):
        return str(error.strerror)
    if "/" not in program:
        return f"no such program in {environment['PATH']}"
    # execve(2) says of a missing interpreter what it says of a missing file.
    is_there = os.access(program, os.F_OK)
    return "what runs it (see its first line) is missing" if is_there else "no such program"


def main() -> None:
    """Wait for the orders and carry them out."""
    os.setsid()
    orders = read_orders()
    if not orders:
        sys.exit(0)
    arguments, environment, directory, account = marshal.loads(orders)  # noqa: S302 - from the agent.
    report = os.dup(2)
    os.dup2(1, 2)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    try:
        become(arguments, environment, directory, account)
    except OSError as error:
        why = explain(error, arguments[0], environment, directory)
        os.write(report, f"{arguments[0]}: {why}".encode())
        os._exit(EXIT_TRY_AGAIN if error.errno in SHORTAGES else EXIT_CANNOT_RUN)


if __name__ == "__main__":
    main()
