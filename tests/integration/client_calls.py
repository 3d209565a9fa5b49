"""What tests of the client share: callbacks that note their calls, and what a process has open."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import eventually
from xohook.client import Freeze, Thaw


def open_files() -> list[str]:
    """List this process's sockets and pipes.

    :return: what each is.
    """
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(each))  # noqa: PTH115 - Path.readlink() makes paths of them.
        except FileNotFoundError:
            # It was the listing's own.
            continue
    return sorted(each for each in found if each.startswith(("socket:", "pipe:")))


class Called:
    """Callbacks of the plain form, which note their calls and do what a test says."""

    def __init__(self) -> None:
        self.calls: list[Freeze | Thaw] = []
        self.on_freeze: Callable[[], object] = bool
        self.on_thaw: Callable[[], object] = bool

    def freeze(self, freeze: Freeze) -> object:
        """Note it.

        :param freeze: what the client gave.
        :return: what the test gave.
        """
        self.calls.append(freeze)
        return self.on_freeze()

    def thaw(self, thaw: Thaw) -> None:
        """Note it.

        :param thaw: what the client gave.
        """
        self.calls.append(thaw)
        self.on_thaw()

    @property
    def outcomes(self) -> list[str]:
        """The outcome of each thaw, in order."""
        return [each.outcome for each in self.calls if isinstance(each, Thaw)]

    def wait_for(self, *outcomes: str) -> None:
        """Wait until that many thaws were called, and see that each freeze has one.

        :param outcomes: the outcome of each.
        :raises AssertionError: where it is otherwise.
        """
        eventually(lambda: len(self.outcomes) >= len(outcomes), f"thawed {outcomes}")
        windows = [each.window for each in self.calls]
        kinds = [type(each) for each in self.calls]
        assert self.outcomes == list(outcomes), self.calls
        assert kinds == [Freeze, Thaw] * len(outcomes), self.calls
        assert windows[::2] == windows[1::2], self.calls


class AsyncCalled(Called):
    """The same as coroutine functions."""

    def __init__(self) -> None:
        super().__init__()
        self.in_freeze: Callable[[], Awaitable[object]] = self.nothing
        self.in_thaw: Callable[[], Awaitable[object]] = self.nothing

    async def nothing(self) -> None:
        """Do nothing."""

    async def async_freeze(self, freeze: Freeze) -> None:
        """Note it.

        :param freeze: what the client gave.
        """
        self.freeze(freeze)
        await self.in_freeze()

    async def async_thaw(self, thaw: Thaw) -> None:
        """Note it.

        :param thaw: what the client gave.
        """
        self.thaw(thaw)
        await self.in_thaw()


class ClientTestCase(SynchronousTestCase):
    """Tests during which the client's log does not go to standard error."""

    def setUp(self) -> None:
        silence = logging.NullHandler()
        logging.getLogger("xohook.client").addHandler(silence)
        self.addCleanup(logging.getLogger("xohook.client").removeHandler, silence)
