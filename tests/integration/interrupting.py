"""Runs a Python program that dies at a certain step of its way: ``interrupting.py STEP PROGRAM…``.

The interpreter itself tells of each call into the system (:func:`sys.setprofile`), in every thread;
the program knows nothing of it. Before such a call is a step, and after it is another. They are
counted from SIGUSR2 on, and at the one with the given number the process is killed: it alone, and
none of its children.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: What the agent does to the world: it puts files in place and takes them away, waits for a disk,
#: starts programs, and gives orders over pipes.
CALLS = frozenset(
    {
        os.replace,
        os.unlink,
        os.fsync,
        os.fork,
        os.posix_spawn,
        os.posix_spawnp,
        os.write,
        os.kill,
        os.killpg,
    }
)

_Hook = Callable[[FrameType, str, Any], object]


def dying_at(last: int) -> tuple[_Hook, Callable[[], None]]:
    """Make what counts the steps.

    :param last: the number of the step that is not survived.
    :return: what is to be told of each call, and what begins to count.
    """
    process, steps, is_counting = os.getpid(), 0, False

    def look(frame: FrameType, event: str, called: Any) -> None:
        nonlocal steps
        if not is_counting or not event.startswith("c_") or called not in CALLS:
            return
        steps += 1
        # A forked child comes by here too, until it has become another program.
        if steps == last and os.getpid() == process:
            os.kill(process, signal.SIGKILL)

    def begin() -> None:
        nonlocal is_counting
        is_counting = True

    return look, begin


def main() -> None:
    """Run the program."""
    look, begin = dying_at(int(sys.argv[1]))

    def begin_here(*_: object) -> None:
        begin()
        sys.setprofile(look)

    signal.signal(signal.SIGUSR2, begin_here)
    threading.setprofile(look)
    sys.argv = sys.argv[2:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
