"""How the agent runs a part of itself in another process, which has none of its locks and sockets.

Whatever may wait for a disk without end is done there: the process can be left behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from xohook.processes.process import Program

_START = (
    "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); "
    "__import__(sys.argv[2], fromlist=['main']).main(sys.argv[3])"
)
_NOT_FOR_CHILDREN = ("NOTIFY_SOCKET", "LISTEN_")


def part(module: str, argument: str, environ: Mapping[str, str]) -> Program:
    """Name the program that runs one module's ``main``.

    :param module: the module.
    :param argument: the argument of its ``main``.
    :param environ: the agent's environment; what systemd passes to the agent alone is left out.
    :return: the program, with the modules of this process and the same user.
    """
    return Program(
        arguments=(
            *(sys.executable, "-I", "-S", "-B", "-c", _START),
            *(os.pathsep.join(filter(None, sys.path)), module, argument),
        ),
        environment={
            name: value for name, value in environ.items() if not name.startswith(_NOT_FOR_CHILDREN)
        },
        directory="/",
        account=None,
    )
