"""What happens in a transition of the state machine, kept from doing harm. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from twisted.logger import Logger

_log = Logger()

_P = ParamSpec("_P")


def safe(
    register: Callable[[Callable[_P, None]], object],
) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """Let no exception out of an output of the state machine.

    Automat would drop every input that it has postponed until that output returns, and the
    exception would meet whoever happens to have caused the transition.

    :param register: makes a function the output of a transition.
    :return: a decorator that does the same with a function that logs what it raises.
    """

    def decorate(output: Callable[_P, None]) -> Callable[_P, None]:
        @wraps(output)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:
                output(*args, **kwargs)
            except Exception:  # noqa: BLE001 - what comes next must still be heard.
                _log.failure("a fault of xohook itself")

        register(run)
        return output

    return decorate
