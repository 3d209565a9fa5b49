"""Becomes a participant's program: ``python -I -S -B launch.py``.

The agent cannot give a child its own session, user or directory without blocking itself on a slow
disk, so this small program does. It waits for the whole of its orders on standard input, which
arrive when the record names its process, and does nothing where they do not: an agent that dies
in between has started nothing. What keeps the program from running is told on standard error,
which is otherwise closed unused; the program's own goes where its standard output goes.

Orders are ``(arguments, environment, directory, account)`` in the format of :mod:`marshal`, which
is built in and the same on both sides; an account is ``(uid, gid, groups)`` or None.
"""

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
    os.execvpe(arguments[0], arguments, environment)  # noqa: S606 - to run it is the purpose.


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
        what = error.filename or arguments[0]
        os.write(report, f"{what}: {error.strerror}".encode())
        os._exit(EXIT_CANNOT_RUN)


if __name__ == "__main__":
    main()
