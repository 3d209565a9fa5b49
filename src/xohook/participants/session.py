"""A client that holds for as long as it lives, under a guard."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs
from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from xohook.errors import NotHeldError, ParticipantError
from xohook.guarding import PATIENCE, Guard, GuardGoneError
from xohook.guards import session
from xohook.participants import Operation
from xohook.participants.configured import Configured
from xohook.participants.programs import Surroundings
from xohook.pids import start_time
from xohook.process import IProcessReactor, end_leftover
from xohook.settings import SessionSettings
from xohook.text import printable

_Process: TypeAlias = "tuple[int, int | None]"
_Leftovers: TypeAlias = "tuple[_Process | None, _Process | None]"

LINES_KEPT = 200
"""Lines of a client's output that are kept, the last ones."""


class Session(Configured):
    """A ``[session:NAME]`` participant.

    :param reactor: the clock and the source of processes.
    :param settings: its section of the configuration.
    :param leftovers: the processes of guard and client that an earlier run of the agent left.
    :param surroundings: where and as whom the client runs, where that is not to be made from the
        section.
    """

    holds = True
    freezes_filesystem = False
    unthawed = None
    prepare = None
    _log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        settings: SessionSettings,
        leftovers: _Leftovers = (None, None),
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(settings)
        self._reactor = reactor
        self._settings = settings
        self._surroundings = surroundings or Surroundings(
            settings.account, settings.directory, settings.environment
        )
        self._refuse = re.compile(settings.freeze_refuse) if settings.freeze_refuse else None
        self._talk: _Talk | None = None
        self._leftovers = leftovers

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
        return cls(reactor, settings, leftovers, then)

    def recovery_data(self) -> Mapping[str, Any]:
        """Return what the next start needs to thaw it.

        :return: plain values for the record.
        """
        guard, client = self._leftovers if self._talk is None else self._talk.processes
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
        if self._talk is not None:
            self._talk.order(f"until {until}")

    def freeze(self, operation: Operation) -> Deferred[bytes]:
        """Start the client, and have it say that it holds.

        :param operation: what is asked for.
        :return: fires with its output when it has said so.
        """
        return Deferred.fromCoroutine(self._freeze(operation))

    def thaw(self, operation: Operation) -> Deferred[bytes]:
        """Have the client say that it has held until now, and end it.

        :param operation: what is asked for.
        :return: fires with its output when it has said so.
        """
        return Deferred.fromCoroutine(self._thaw(operation))

    def tail(self) -> bytes:
        """Tell what its client has said so far.

        :return: the end of it.
        """
        return b"" if self._talk is None else self._talk.output

    def when_quiet(self) -> Deferred[None]:
        """Wait for nothing: the thaw waits for a client that is being ended.

        :return: fires at once.
        """
        return succeed(None)

    async def _freeze(self, operation: Operation) -> bytes:
        talk = self._talk = self._start(operation)
        talk.order(f"until {operation.until}")
        talk.order(f"send {json.dumps(self._settings.freeze_input)}")
        try:
            await talk.expect(self._settings.freeze_expect, self._refuse)
        except BaseException:
            talk.release()
            raise
        return talk.hold(operation.let_go)

    async def _thaw(self, operation: Operation) -> bytes:
        operation.persist({})
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.lost = None
            self._leftovers = talk.processes
        if talk is None or (talk.has_ended and not talk.is_released):
            return await self._rescue(operation)
        if talk.is_released:
            await talk.when_ended
            self._see_ended(talk.processes[1])
            return talk.output
        patience = operation.timeout - min(PATIENCE, operation.timeout / 2)
        word = talk.thaw(self._settings.thaw_expect).addTimeout(patience, self._reactor)
        try:
            await word
            talk.order("close")
        except defer.TimeoutError:
            # The guard may have been stopped, and would neither let go nor end by itself.
            guard, _ = talk.processes
            if guard is not None:
                await end_leftover(self._reactor, *guard, 0.0)
            await self._rescue(operation)
            raise ParticipantError(
                "no word of its thaw; let go in its place", talk.output
            ) from None
        finally:
            talk.release()
        return talk.output

    async def _rescue(self, operation: Operation) -> bytes:
        """Thaw in the place of a client or a guard that is no more, over a connection of its own.

        Nothing is proved by it, but locks that outlive their client are let go.
        """
        guard, client = self._leftovers
        if guard is not None:
            await end_leftover(self._reactor, *guard, PATIENCE)
        if client is not None:
            await end_leftover(self._reactor, *client)
        talk = self._start(operation)
        try:
            await talk.thaw(self._settings.thaw_expect)
            talk.order("close")
        except ParticipantError as error:
            self._log.info(
                "{name}: nothing left to release, its lock ended with its client ({error})",
                name=self.name,
                error=error,
            )
        finally:
            talk.release()
        self._see_ended(client)
        return talk.output

    def _see_ended(self, client: _Process | None) -> None:
        """See that a client has ended that nobody is left to talk to."""
        if client is not None and client[1] is not None and start_time(client[0]) == client[1]:
            raise ParticipantError(
                f"its client (process {client[0]}) runs as another user and cannot be ended: it may"
                f" hold its lock still; end it by hand, as root: kill {client[0]}"
            )

    def _start(self, operation: Operation) -> _Talk:
        talk = _Talk(self.name)
        try:
            guard = Guard(self._reactor, session, talk)
        except OSError as error:
            raise ParticipantError(f"no process can be started: {error.strerror}") from error
        talk.begin(guard)
        try:
            operation.persist({})
        except BaseException:
            talk.release()
            raise
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
        talk.order(f"start {json.dumps(orders)}")
        return talk


@attrs.define
class _Awaited:
    """A line that is waited for."""

    line: str
    refuse: re.Pattern[str] | None
    result: Deferred[None]


class _Talk:
    """What is said between the agent and one client, by way of its guard."""

    _log = Logger()

    def __init__(self, name: str) -> None:
        self._name = name
        self._guard: Guard | None = None
        self._awaited: _Awaited | None = None
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._last = ""
        self._how = ""
        self._error = ParticipantError
        self._client: _Process | None = None
        self.lost: Callable[[str], None] | None = None
        self.is_released = False
        self.when_ended: Deferred[None] = Deferred()

    @property
    def has_ended(self) -> bool:
        """Whether guard or client have ended, or the guard has let go."""
        return bool(self._how)

    @property
    def processes(self) -> _Leftovers:
        """The processes of guard and client."""
        return (self._guard.identity if self._guard is not None else None, self._client)

    @property
    def output(self) -> bytes:
        """The end of what the client has said."""
        return "\n".join(self._said).encode()

    def begin(self, guard: Guard) -> None:
        """Take the guard whose listener this is."""
        self._guard = guard

    def order(self, line: str) -> None:
        """Give the guard an order that has no answer."""
        if self._guard is not None:
            self._guard.tell(line)

    def release(self) -> None:
        """Have the guard let go, and end."""
        self.is_released = True
        if self._guard is not None:
            self._guard.release()

    def hold(self, lost: Callable[[str], None]) -> bytes:
        """Report from now on when it lets go; what it said before is none of its last words.

        :return: what the client has said until now.
        """
        self.lost = lost
        self._last = ""
        return self.output

    def expect(self, line: str, refuse: re.Pattern[str] | None) -> Deferred[None]:
        """Wait for a whole line."""
        result: Deferred[None] = Deferred(lambda _: setattr(self, "_awaited", None))
        if self._how:
            result.errback(self._error(self._how, self.output))
        else:
            self._awaited = _Awaited(line, refuse, result)
        return result

    def thaw(self, line: str) -> Deferred[None]:
        """Have the client thaw, and wait for a whole line that it says after that."""
        if self._guard is None or self._how:
            return self.expect(line, None)
        thawing = self._guard.ask("thaw")
        # The guard's end is told by ended() as well.
        thawing.addErrback(lambda failure: failure.trap(GuardGoneError))
        return thawing.addCallback(lambda _: self.expect(line, None))

    def heard(self, line: str) -> None:
        """Take what the guard reports."""
        word, _, rest = line.partition(" ")
        if word in ("line", "long"):
            self._take(rest, is_whole=word == "line")
        elif word == "started":
            self._client = (int(rest), start_time(int(rest)))
        elif word == "unkillable":
            self._log.warn(
                "{name}: its client (process {pid}) runs as another user, and cannot be ended:"
                " have the client run without sudo, or end it by hand",
                name=self._name,
                pid=self._client and self._client[0],
            )
        elif word == "released" and not self.is_released:
            self._error = NotHeldError
            self._end("its guard let go before the agent asked it to")
        elif word == "ended":
            last = f"; its last words: {printable(self._last)}" if self._last else ""
            self._end(f"its client has ended ({rest}){last}")

    def ended(self, reason: str) -> None:
        """Take the guard's end."""
        self._end(reason)
        self.when_ended.callback(None)

    def _take(self, line: str, *, is_whole: bool) -> None:
        self._said.append(line)
        self._last = line
        awaited = self._awaited
        if awaited is None:
            return
        if awaited.refuse is not None and awaited.refuse.search(line):
            self._awaited = None
            awaited.result.errback(ParticipantError(printable(line), self.output))
        elif is_whole and line.strip() == awaited.line:
            self._awaited = None
            awaited.result.callback(None)

    def _end(self, reason: str) -> None:
        if self._how:
            return
        self._how = reason
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.result.errback(self._error(reason, self.output))
        elif self.lost is not None:
            self.lost(reason)
