"""Filesystems, frozen by FIFREEZE and thawed by FITHAW under a guard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from xohook.errors import ParticipantError
from xohook.guarding import PATIENCE, Guard, GuardGoneError
from xohook.guards import freezer
from xohook.mounts import freezable, hidden_filesystems, hiding, mount_at, table
from xohook.participants import Phase
from xohook.participants.configured import Configured
from xohook.process import IProcessReactor, end_leftover
from xohook.settings import FilesystemSettings


class Filesystem(Configured):
    """A ``[filesystem:NAME]`` participant.

    :param reactor: the source of processes.
    :param settings: its section of the configuration.
    :param mounts: where they may be frozen already, the mount points in the order of the freeze.
    :param leftover: the process of a guard that an earlier run of the agent left.
    """

    holds = True
    stills = True
    _log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: FilesystemSettings,
        mounts: tuple[str, ...] = (),
        leftover: tuple[int, int | None] | None = None,
    ) -> None:
        super().__init__(settings)
        self._reactor = reactor
        self._mount = settings.mount
        self._mounts = mounts
        self._may_be_frozen = bool(mounts)
        self._leftover = leftover
        self._guard: Guard | None = None
        self._phase: Phase | None = None

    @classmethod
    def from_record(
        cls, reactor: IProcessReactor, name: str, owed: Mapping[str, Any]
    ) -> Filesystem:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the source of processes.
        :param name: its name.
        :param owed: what :meth:`owed` told then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value.
        """
        settings = FilesystemSettings(
            name=name,
            order=0,
            mount=None,
            freeze_timeout=0.0,
            thaw_timeout=float(owed["timeout"]),
            abort=False,
        )
        guard = owed["guard"] and tuple(owed["guard"])
        return cls(reactor, settings, tuple(owed["mounts"]), guard)

    def owed(self) -> Mapping[str, Any]:
        """Tell what the next start needs to thaw it.

        :return: plain values for the record.
        """
        guard = self._guard.identity if self._guard is not None else None
        mounts = self._mounts if self._may_be_frozen else ()
        return {"mounts": mounts, "guard": guard, "timeout": self.thaw_timeout}

    def prepare(self, phase: Phase) -> Deferred[None]:
        """Start the guard, which opens the mount points.

        :param phase: the freeze that will be asked for.
        :return: fires when the guard is ready.
        """
        self._phase = None
        self._may_be_frozen = False
        return Deferred.fromCoroutine(self._prepare(phase))

    def freeze(self, phase: Phase) -> Deferred[bytes]:
        """Freeze all of them, or none.

        :param phase: what is asked for.
        :return: fires when they are frozen.
        """
        return Deferred.fromCoroutine(self._freeze(phase))

    def extend(self, until: float) -> None:
        """Hold until another time.

        :param until: the time of the monotonic clock.
        """
        if self._guard is not None and not self._guard.has_ended:
            self._guard.order(f"until {until}")

    def thaw(self, phase: Phase) -> Deferred[bytes]:
        """Thaw them, in reverse order; where their guard is no more, in its place.

        :param phase: what is asked for.
        :return: fires when they are thawed, and were frozen until then.
        """
        return Deferred.fromCoroutine(self._thaw(phase))

    def tail(self) -> bytes:
        """Tell nothing: its guard has no output of its own.

        :return: nothing.
        """
        return b""

    @property
    def is_stuck(self) -> bool:
        """Whether it is frozen still, for all that is known, after its thaw has failed."""
        return self._may_be_frozen

    def when_quiet(self) -> Deferred[None]:
        """Wait for nothing: a late freeze is waited for by the thaw.

        :return: fires at once.
        """
        return succeed(None)

    async def _prepare(self, phase: Phase) -> None:
        if self._mount is not None:
            # What is frozen instead would be the filesystem around it, / perhaps.
            mount_at(self._mount.resolve(), table())
            self._mounts = (str(self._mount),)
        else:
            mounts = table()
            for mount, hider in hidden_filesystems(mounts):
                raise ParticipantError(hiding(mount, hider))
            self._mounts = tuple(str(mount.point) for mount in freezable(mounts, Path("/sys")))
        if not self._mounts:
            raise ParticipantError("no filesystem here can be frozen")
        guard = self._guard = await self._start()
        guard.order(f"until {phase.until}")

    async def _freeze(self, phase: Phase) -> bytes:
        guard = self._guard
        if guard is None:
            raise ParticipantError("its guard is not there")
        self._may_be_frozen = True
        phase.note({})
        guard.order("freeze")
        try:
            said = await guard.next_line()
        except BaseException:
            # Whatever the guard is doing, it thaws as soon as that returns.
            guard.release()
            raise
        if said != "frozen":
            raise ParticipantError(said.removeprefix("refused "))
        if guard.has_ended:
            raise ParticipantError("its guard ended right after the freeze")
        self._phase = phase
        return b""

    async def _thaw(self, phase: Phase) -> bytes:
        was_held, self._phase = self._phase is not None, None
        phase.note({})
        guard, self._guard = self._guard, None
        if guard is None or guard.has_ended:
            return await self._rescue()
        guard.order("thaw")
        word = Deferred.fromCoroutine(self._last_word(guard))
        if was_held:
            # One that is still freezing is left to itself: killed, it could leave a late freeze.
            word.addTimeout(min(PATIENCE, phase.timeout / 2), self._reactor)
        try:
            self._judge(await word)
        except GuardGoneError:
            return await self._rescue()
        except defer.TimeoutError:
            # It may have been stopped, and would neither thaw nor end by itself.
            await end_leftover(self._reactor, *guard.identity, 0.0)
            await self._rescue()
            raise ParticipantError("its guard was stuck; thawed in its place") from None
        finally:
            guard.release()
        return b""

    async def _rescue(self) -> bytes:
        if not self._may_be_frozen:
            # What is frozen all the same is another's.
            return b""
        leftover, self._leftover = self._leftover, None
        if leftover is not None:
            # It may be in the middle of a long freeze, which it undoes by itself.
            patience = max(PATIENCE, self.thaw_timeout - PATIENCE)
            await end_leftover(self._reactor, *leftover, patience)
        self._log.warn("{name} is thawed in the place of its guard", name=self.name)
        guard = await self._start()
        guard.order("rescue")
        guard.release()
        self._judge(await self._last_word(guard))
        return b""

    def _judge(self, said: str) -> None:
        """Take the guard's last word, after which it holds nothing any more."""
        self._may_be_frozen = False
        if said != "thawed":
            raise ParticipantError(said.removeprefix("undone "))

    async def _start(self) -> Guard:
        try:
            guard = Guard(self._reactor, freezer, self._ended)
        except OSError as error:
            raise ParticipantError(f"no process can be started: {error.strerror}") from error
        try:
            await self._until_ready(guard)
        except BaseException:
            guard.release()
            raise
        return guard

    async def _until_ready(self, guard: Guard) -> None:
        guard.order("\0".join(self._mounts))
        said = await guard.next_line()
        if said == "unlocked":
            self._log.warn("{name}: its guard cannot be locked in memory", name=self.name)
            said = await guard.next_line()
        if said != "ready":
            raise ParticipantError(said.removeprefix("refused "))

    async def _last_word(self, guard: Guard) -> str:
        """Wait for the answer to a thaw, past that of a freeze that came too late."""
        while True:
            said = await guard.next_line()
            if said == "thawed" or said.startswith("undone "):
                return said

    def _ended(self, reason: str) -> None:
        if self._phase is not None:
            self._phase.let_go(reason)
