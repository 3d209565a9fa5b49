"""Tests of what needs no other process; ``make test`` runs these and the integration tests."""

from __future__ import annotations

import signal

from twisted.trial.unittest import FailTest

MOST_SHOWN = 20_000
"""Characters of a failed assertion's text that are shown: a comparison may hold a whole log."""


def shortened(text: str) -> str:
    """Cut the middle out of a long text.

    :param text: the text.
    :return: the text, with at most :data:`MOST_SHOWN` of its characters.
    """
    left_out = len(text) - MOST_SHOWN
    if left_out <= 0:
        return text
    half = MOST_SHOWN // 2
    return f"{text[:half]}\n[{left_out} characters left out]\n{text[-half:]}"


def _show(self: FailTest) -> str:
    return shortened(super(FailTest, self).__str__())


def _stop_inheriting_ignored_signals() -> None:
    """Give the programs that tests start the default action of SIGHUP and SIGINT.

    ``nohup`` ignores SIGHUP, and a shell has what it starts with ``&`` ignore SIGINT (sh(1)). A
    program inherits an ignored signal, but not a handler (execve(2)). So a handler that does
    nothing keeps the tests themselves running, and the programs that they start end as usual.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


# Each assertion of every test raises it, so this is the one place to shorten them all.
setattr(FailTest, "__str__", _show)  # noqa: B010 - mypy allows no assignment to a method.
_stop_inheriting_ignored_signals()
