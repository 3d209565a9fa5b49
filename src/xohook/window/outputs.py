"""Keeps the exceptions of the state machine's outputs from doing harm. Pure."""

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
    """Log every exception of an output instead of letting it out.

    Automat would drop every input that it has postponed until that output returns, and whoever
    caused the transition would get the exception.

    :param register: makes a function the output of a transition.
    :return: a decorator that registers a function which logs what it raises.
    """

    def decorate(output: Callable[_P, None]) -> Callable[_P, None]:
        @wraps(output)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:
                output(*args, **kwargs)
            except Exception:  # noqa: BLE001 - the postponed inputs must still be taken.
                _log.failure("a fault of xohook itself")

        register(run)
        return output

    return decorate
