"""A participant that does nothing until the test says so, and notes what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from xohook.participants import Operation, Unthawed


class Actor:
    """A :class:`~xohook.participants.Participant` in a test's hands.

    :param name: its name.
    :param order: its place.
    :param holds: whether it has something to thaw.
    :param abort: whether a freeze of it that fails ends the window.
    :param freezes_filesystem: whether it comes after the others of its order, and pauses the log.
    :param stage: where it notes what is asked of it; several may share one.
    """

    def __init__(
        self,
        name: str,
        stage: list[str],
        order: int = 40,
        *,
        holds: bool = True,
        abort: bool = True,
        freezes_filesystem: bool = False,
    ) -> None:
        self.name = name
        self.order = order
        self.freeze_timeout = 30.0
        self.thaw_timeout = 20.0
        self.abort = abort
        self.holds = holds
        self.freezes_filesystem = freezes_filesystem
        self.unthawed: Unthawed | None = None
        self.prepare: Callable[[Operation], Deferred[None]] | None = None
        self.until = 0.0
        self.operations: list[Operation] = []
        self.quiet: Deferred[None] | None = None
        self._stage = stage
        self._under_way: Deferred[bytes] = Deferred()

    def need_preparing(self) -> None:
        """Have something to do before the first freeze, which waits for the test as well."""

        def prepare(operation: Operation) -> Deferred[None]:
            return self._begin(f"prepare {self.name}", operation).addCallback(lambda _: None)

        self.prepare = prepare

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Note it and wait for the test."""
        return self._begin(f"freeze {self.name}", operation)

    def extend(self, until: float) -> None:
        """Keep the time until which it is to hold."""
        self.until = until

    def thaw(self, operation: Operation) -> Deferred[bytes]:
        """Note it and wait for the test."""
        return self._begin(f"thaw {self.name} {operation.outcome}", operation)

    def tail(self) -> bytes:
        """Have said something before being broken off."""
        return b"so far"

    def when_quiet(self) -> Deferred[None]:
        """Be quiet, unless the test has set what is waited for."""
        result: Deferred[None] = Deferred()
        if self.quiet is None:
            result.callback(None)
        else:
            self.quiet.addCallback(result.callback)
        return result

    def recovery_data(self) -> Mapping[str, Any]:
        """Tell something to find in the record."""
        return {"name": self.name}

    def do(self, output: bytes = b"") -> None:
        """Finish what is under way.

        :param output: its output.
        """
        self._under_way.callback(output)

    def fail(self, error: Exception) -> None:
        """Let what is under way fail.

        :param error: how.
        """
        self._under_way.errback(error)

    def _begin(self, what: str, operation: Operation) -> Deferred[bytes]:
        self.operations.append(operation)
        self._stage.append(what)
        operation.persist({"pid": len(self.operations), "started": 2})
        self._under_way = Deferred(lambda _: self._stage.append(f"{what} cancelled"))
        return self._under_way


class Frozen:
    """An :class:`~xohook.participants.Unthawed` in a test's hands.

    :param name: the participant's name.
    """

    def __init__(self, name: str = "filesystem:a") -> None:
        self.name = name
        self.problem = "its device does not answer"
        self.points = ("/srv",)
        self.may_be_frozen = True
        self.on_thawed: list[Callable[[], None]] = []
        self.changed: Callable[[], None] = lambda: None
        self.process: Mapping[str, Any] = {}
        self.attempts = 0
        self.is_answering = False

    def recovery_data(self) -> Mapping[str, Any]:
        """Name what is frozen."""
        return {"mounts": self.points}

    async def attempt(self) -> None:
        """Count the attempt; it is good once the device answers."""
        self.attempts += 1
        if self.is_answering and self.may_be_frozen:
            self.forget()

    def forget(self) -> None:
        """Be thawed."""
        self.may_be_frozen = False
        for hook in self.on_thawed:
            hook()
