"""Filesystems, frozen by FIFREEZE and thawed by FITHAW under a guard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from xohook.config.settings import FilesystemSettings
from xohook.errors import ParticipantError
from xohook.host.mounts import freezable, hidden_filesystems, hiding, mount_at, table
from xohook.participants import Operation
from xohook.participants.base import Configured
from xohook.participants.guarded import GuardedFilesystems
from xohook.participants.targets import Identity, fresh, fresh_at
from xohook.processes.process import IProcessReactor


class Filesystem(Configured):
    """A ``[filesystem:NAME]`` participant.

    :param reactor: the source of processes.
    :param settings: its section of the configuration.
    """

    holds = True
    freezes_filesystem = True

    def __init__(self, reactor: IProcessReactor, settings: FilesystemSettings) -> None:
        super().__init__(settings)
        self._reactor = reactor
        self._mount = settings.mount
        self._guarded: GuardedFilesystems | None = None

    @classmethod
    def from_record(
        cls, reactor: IProcessReactor, name: str, data: Mapping[str, Any]
    ) -> Filesystem:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the source of processes.
        :param name: its name.
        :param data: what :meth:`recovery_data` returned then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        settings = FilesystemSettings(
            name=name,
            order=0,
            mount=None,
            freeze_timeout=0.0,
            thaw_timeout=float(data["timeout"]),
            abort=False,
        )
        # A record of release 1.0 has the mount points alone.
        known = data.get("filesystems", [{"point": point} for point in data["mounts"]])
        identities = [Identity(**each) for each in known]
        leftover = data["guard"] and tuple(data["guard"])
        found = cls(reactor, settings)
        if identities:
            found._guarded = GuardedFilesystems.from_record(reactor, name, identities, leftover)
        return found

    @property
    def unthawed(self) -> GuardedFilesystems | None:
        """What may be frozen, for all that is known; None where nothing is."""
        guarded = self._guarded
        return guarded if guarded is not None and guarded.may_be_frozen else None

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record.
        """
        nothing: Mapping[str, Any] = {"mounts": (), "filesystems": (), "guard": None}
        known = self._guarded.recovery_data() if self._guarded is not None else nothing
        return {**known, "timeout": self.thaw_timeout}

    def prepare(self, operation: Operation) -> Deferred[None]:
        """Start the guard, which opens the filesystems.

        :param operation: the freeze that will be asked for.
        :return: fires when the guard is ready.
        """
        return Deferred.fromCoroutine(self._prepare(operation))

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Freeze all of them, or none.

        :param operation: what is asked for.
        :return: fires when they are frozen.
        """
        return Deferred.fromCoroutine(self._freeze(operation))

    def extend(self, until: float) -> None:
        """Hold until another time.

        :param until: the time of the monotonic clock.
        """
        if self._guarded is not None:
            self._guarded.extend(until)

    def thaw(self, operation: Operation) -> Deferred[bytes]:
        """Thaw them, in reverse order; where their guard is no more, in its place.

        :param operation: what is asked for.
        :return: fires when they are thawed, and were frozen until then.
        """
        return Deferred.fromCoroutine(self._thaw(operation))

    def tail(self) -> bytes:
        """Tell nothing: its guard has no output of its own.

        :return: nothing.
        """
        return b""

    def when_quiet(self) -> Deferred[None]:
        """Wait for nothing: a late freeze is waited for by the thaw.

        :return: fires at once.
        """
        return succeed(None)

    async def _prepare(self, operation: Operation) -> None:
        guarded = self._guarded = GuardedFilesystems(self._reactor, self.name, operation.let_go)
        if self._mount is None:
            await guarded.open(_every_filesystem(), operation.until)
            return
        try:
            await guarded.open([fresh_at(str(self._mount))], operation.until)
        except ParticipantError:
            # The guard sees where a path leads, and the mount table what hides a mount there.
            mounts = table()
            if any(each.point == self._mount for each in mounts):
                mount_at(self._mount, mounts)
            raise

    async def _freeze(self, operation: Operation) -> bytes:
        if self._guarded is None:
            raise ParticipantError("its guard is not there")
        await self._guarded.freeze(lambda: operation.persist({}))
        return b""

    async def _thaw(self, operation: Operation) -> bytes:
        operation.persist({})
        if self._guarded is not None:
            await self._guarded.thaw()
        return b""


def _every_filesystem() -> list[str]:
    mounts = table()
    hidden = hidden_filesystems(mounts)
    if hidden:
        raise ParticipantError("; ".join(hiding(*each) for each in hidden))
    found = freezable(mounts, Path("/sys"))
    if not found:
        raise ParticipantError("no filesystem here can be frozen")
    return [fresh(each) for each in found]
