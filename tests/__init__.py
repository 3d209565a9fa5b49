"""Tests of what needs no other process; ``make test`` runs these and the integration tests."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult

MOST_SHOWN = 6_000
"""Bytes of a failed test's message that are printed: a comparison may hold a whole log.

With :data:`MOST_FRAMES` calls of about 200 bytes each, a failed test prints less than 10 KB.
"""

MOST_FRAMES = 16
"""Calls of a failed test's traceback that are printed."""


def shortened(text: str) -> str:
    """Cut the middle out of a long text.

    :param text: the text.
    :return: the text, with at most :data:`MOST_SHOWN` bytes of it in UTF-8.
    """
    encoded = text.encode(errors="backslashreplace")
    left_out = len(encoded) - MOST_SHOWN
    if left_out <= 0:
        return text
    # A character that is cut in two is left out.
    half = MOST_SHOWN // 2
    start = encoded[:half].decode(errors="ignore")
    end = encoded[-half:].decode(errors="ignore")
    return f"{start}\n[{left_out} bytes left out]\n{end}"


def _shorten(failure: Failure) -> None:
    text = failure.getErrorMessage()
    if (short := shortened(text)) != text:
        # The traceback names the type that the failure noted, not that of its value.
        failure.value = AssertionError(short)
    half = MOST_FRAMES // 2
    failure.frames = [*failure.frames[:half], *failure.frames[half:][-half:]]


def _extend(method: str) -> None:
    """Have trial's results shorten what failed tests print, and stop after an interrupted one."""
    add: Callable[..., None] = getattr(TestResult, method)

    def extended(self: TestResult, test: Any, failure: Any) -> None:
        if isinstance(failure, Failure):
            _shorten(failure)
            if failure.check(KeyboardInterrupt):
                self.stop()
        add(self, test, failure)

    setattr(TestResult, method, extended)


def _stop_inheriting_ignored_signals() -> frozenset[signal.Signals]:
    """Give the programs that tests start the default action of SIGHUP and SIGINT.

    ``nohup`` ignores SIGHUP, and a shell has what it starts with ``&`` ignore SIGINT (sh(1)). A
    program inherits an ignored signal, but not a handler (execve(2)). So a handler that does
    nothing keeps the tests themselves running, and the programs that they start end as usual.

    :return: those that were ignored.
    """
    numbers = (signal.SIGHUP, signal.SIGINT)
    ignored = frozenset(each for each in numbers if signal.getsignal(each) is signal.SIG_IGN)
    for number in ignored:
        signal.signal(number, lambda *_: None)
    return ignored


# Every failed test of every class passes through one of these two methods of trial's result, in a
# process of its own or not, so this is the one place for what holds for all of them.
_extend("addFailure")
_extend("addError")

IGNORED = _stop_inheriting_ignored_signals()
"""Signals that were ignored when this process began."""
