"""A client that holds for as long as it lives, under a guard."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from xohook.config.settings import SessionSettings
from xohook.durations import format_duration
from xohook.errors import NotRunError, ParticipantError, XohookError
from xohook.host.pids import start_time, unkillable
from xohook.participants import Operation
from xohook.participants.owed_thaw import OwesThaw
from xohook.participants.programs import Surroundings
from xohook.participants.session_channel import Leftovers, SessionChannel
from xohook.processes.guarding import PATIENCE, Guard
from xohook.processes.guards import session
from xohook.processes.process import ENDING, IProcessReactor, end_leftover

_MARGIN = 0.5
"""Seconds before the end of its time at which a thaw gives up, so that it can say why; a quarter of
a shorter time."""


class Session(OwesThaw):
    """A ``[session:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param leftovers: the processes of guard and client that an earlier run of the agent left.
    :param surroundings: where and as whom the client runs, where that is not to be made from the
        section.
    """

    holds = True
    _log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: SessionSettings,
        leftovers: Leftovers = (None, None),
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(reactor, settings)
        self._settings = settings
        self._surroundings = surroundings or Surroundings(
            settings.account, settings.directory, settings.environment
        )
        self._refuse = re.compile(settings.freeze_refuse) if settings.freeze_refuse else None
        self._channel: SessionChannel | None = None
        self._leftovers = leftovers
        self._may_hold = False

    @classmethod
    def from_record(cls, reactor: IProcessReactor, name: str, data: Mapping[str, Any]) -> Session:
        """Make the participant that an earlier run of the agent owes a thaw.

        :param reactor: the clock and the source of processes.
        :param name: its name.
        :param data: what :meth:`recovery_data` returned then.
        :return: a participant that can only thaw.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        then = Surroundings.from_record(data)
        settings = SessionSettings(
            name=name,
            order=0,
            command=tuple(data["command"]),
            freeze_input="",
            freeze_expect="",
            freeze_refuse=None,
            thaw_input=data["thaw_input"],
            thaw_expect=data["thaw_expect"],
            account=then.account,
            directory=Path(then.directory),
            environment=data["environment"],
            freeze_timeout=0.0,
            thaw_timeout=float(data["timeout"]),
            abort=False,
        )
        guard, client = data["guard"], data["client"]
        leftovers = (guard and tuple(guard), client and tuple(client))
        made = cls(reactor, settings, leftovers, then)
        made._may_hold = True
        return made

    @property
    def attempt_timeout(self) -> float:
        """Seconds that an owed thaw may take, the end of what is left of the first one included."""
        return self.thaw_timeout + PATIENCE + ENDING

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record.
        """
        guard, client = self._leftovers if self._channel is None else self._channel.processes
        return {
            "guard": guard,
            "client": client,
            "command": self._settings.command,
            "thaw_input": self._settings.thaw_input,
            "thaw_expect": self._settings.thaw_expect,
            "timeout": self.thaw_timeout,
            **self._surroundings.recovery_data(),
        }

    def extend(self, until: float) -> None:
        """Hold until another time.

        :param until: the time of the monotonic clock.
        """
        if self._channel is not None:
            self._channel.order(f"until {until}")

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Start the client, and have it confirm that it holds.

        :param operation: what is asked for.
        :return: fires with its output when it has confirmed that.
        """
        return Deferred.fromCoroutine(self._freeze(operation))

    async def run_thaw(self, operation: Operation) -> bytes:
        """Have the client confirm that it has held until now, and end it.

        A client that was ended without a confirmation may leave its lock behind. Another client
        releases it then.

        :param operation: what is asked for.
        :return: the client's output.
        :raises NotRunError: where the lock may be held still.
        :raises ParticipantError: where it was released, but may not have been held until now.
        """
        timeout = operation.timeout - min(_MARGIN, operation.timeout / 4)
        thaw = Deferred.fromCoroutine(self._thaw(operation))
        try:
            return await thaw.addTimeout(timeout, self._reactor)
        except defer.TimeoutError:
            problem = f"its client did not confirm the thaw within {format_duration(timeout)}"
            raise NotRunError(problem) from None

    def cut_off(self) -> NotRunError | None:
        """Return what is still due of a thaw whose time was up.

        :return: the error that names it; None if the lock was released.
        """
        if not self._may_hold:
            return None
        return NotRunError("the time was up before its client confirmed the thaw")

    def tail(self) -> bytes:
        """Return what its client has written so far.

        :return: the end of it.
        """
        return b"" if self._channel is None else self._channel.output

    def when_quiet(self) -> Deferred[None]:
        """Wait for nothing: the thaw waits for a client that is being ended.

        :return: fires at once.
        """
        return succeed(None)

    async def _freeze(self, operation: Operation) -> bytes:
        channel = self._start(operation)
        channel.order(f"until {operation.until}")
        channel.order(f"send {json.dumps(self._settings.freeze_input)}")
        try:
            await channel.frozen(self._refuse)
        except BaseException:
            channel.release()
            raise
        return channel.hold(operation.let_go, self.thaw_timeout)

    async def _thaw(self, operation: Operation) -> bytes:
        if not self._may_hold:
            return b""
        operation.persist({})
        channel, self._channel = self._channel, None
        if channel is None:
            return await self._release_lock(operation)
        channel.lost = None
        self._leftovers = channel.processes
        if channel.is_released or channel.has_ended:
            return await self._settle(channel, operation)
        try:
            await self._confirmed(channel, operation.timeout)
        except ParticipantError as error:
            channel.release()
            await self._settle(channel, operation)
            raise type(error)(f"{error}; released by the agent", channel.output) from None
        finally:
            channel.release()
        self._may_hold = False
        return channel.output

    async def _confirmed(self, channel: SessionChannel, timeout: float) -> None:
        patience = timeout - min(PATIENCE, timeout / 2)
        try:
            await channel.thaw().addTimeout(patience, self._reactor)
            channel.order("close")
        except defer.TimeoutError:
            # The guard may have been stopped, and would not end by itself.
            guard, _ = channel.processes
            if guard is not None:
                await end_leftover(self._reactor, *guard, 0.0)
            raise ParticipantError("its client did not confirm the thaw") from None

    async def _settle(self, channel: SessionChannel, operation: Operation) -> bytes:
        """Release the lock, unless the client has done so when the guard released it."""
        with suppress(defer.TimeoutError):
            await channel.when_ended.addTimeout(PATIENCE, self._reactor)
        if channel.guard_has_ended and (channel.has_thawed or channel.left_unfrozen):
            self._may_hold = False
            return channel.output
        return await self._release_lock(operation)

    async def _release_lock(self, operation: Operation) -> bytes:
        """End what is left of guard and client, and release the lock by another client.

        The first client had no confirmation to give, so nothing is proved by it.
        """
        guard, client = self._leftovers
        if guard is not None:
            await end_leftover(self._reactor, *guard, PATIENCE)
        if client is not None:
            await end_leftover(self._reactor, *client)
            self._see_ended(*client)
        channel = self._start(operation)
        try:
            await channel.thaw()
            channel.order("close")
        except ParticipantError as error:
            if channel.cannot_run:
                raise NotRunError(str(error)) from None
            self._log.info(
                "{name}: nothing left to release, its lock ended with its client ({error})",
                name=self.name,
                error=error,
            )
        finally:
            channel.release()
            self._leftovers, self._channel = channel.processes, None
        self._may_hold = False
        return channel.output

    def _see_ended(self, pid: int, started: int | None) -> None:
        """See that a client has ended that nobody is left to talk to."""
        if started is None or start_time(pid) != started:
            return
        why = "runs as another user and cannot be ended" if unkillable(pid) else "does not end"
        raise NotRunError(
            f"its client (process {pid}) {why}: it may hold its lock still; end it by hand, as"
            f" root: kill {pid}",
            process={"pid": pid, "started": started},
        )

    def _start(self, operation: Operation) -> SessionChannel:
        expected = (self._settings.freeze_expect, self._settings.thaw_expect)
        channel = SessionChannel(self.name, *expected)
        try:
            channel.begin(Guard(self._reactor, session, channel))
        except OSError as error:
            raise NotRunError(f"no process can be started: {error.strerror}") from error
        self._channel = channel
        try:
            operation.persist({})
        except BaseException:
            self._channel = None
            channel.release()
            raise
        self._may_hold = True
        channel.started = lambda: self._persist_client(operation)
        account = self._surroundings.account
        orders = {
            "arguments": self._settings.command,
            "environment": self._surroundings.environment(
                "thaw" if operation.outcome else "freeze", operation
            ),
            "directory": self._surroundings.directory,
            "account": account and (account.uid, account.gid, account.groups),
            "thaw_input": self._settings.thaw_input,
        }
        channel.order(f"start {json.dumps(orders)}")
        return channel

    def _persist_client(self, operation: Operation) -> None:
        try:
            operation.persist({})
        except XohookError as error:
            # The guard is in the record, and ends its client.
            self._log.error("{name}: {error}", name=self.name, error=error)
