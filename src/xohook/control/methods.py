"""What can be asked for over the control socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred

from xohook.config.options import LAST_ORDER, LONGEST_TIMEOUT, NAME, SHORTEST
from xohook.control.apps import Apps, Registration, Wishes, is_own
from xohook.control.reports import describe, describe_unthawed, status
from xohook.control.socket import Peer
from xohook.control.wire import (
    INVALID_PARAMS,
    NOT_ALLOWED,
    NOT_REGISTERED,
    NOT_RELOADED,
    UNKNOWN_METHOD,
)
from xohook.coordinator.coordinator import Coordinator
from xohook.coordinator.participant_runs import ParticipantRun
from xohook.errors import CallError
from xohook.participants.app import Remote
from xohook.text import printable
from xohook.window.answers import Answer, Requester

PROTOCOL = 1
"""The version of what is spoken (docs/protocol.rst)."""

Params = Mapping[str, Any]


class Caller(Remote, Protocol):
    """Who asks.

    :param peer: its process.
    :param registrations: what it has registered, by name.
    :param unsubscribe: ends its subscription; None where it has none.
    """

    peer: Peer
    registrations: dict[str, Registration]
    unsubscribe: Callable[[], None] | None

    def notify(self, method: str, params: Params) -> None:
        """Tell it something that wants no answer.

        :param method: what.
        :param params: the parameters by name.
        """


class Methods:
    """The methods of one agent.

    :param coordinator: opens, holds and closes windows.
    :param apps: the apps that are registered.
    :param reload: reads the configuration again, when no window is open; tells a line for each
        mistake.
    :param missing: tells what participants need and is not there, a line each.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        apps: Apps,
        reload: Callable[[], Deferred[tuple[str, ...]]],
        missing: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._missing = missing
        self._started = time.time()
        self._coordinator = coordinator
        self._apps = apps
        self._reload = reload
        self._leaving: dict[Registration, tuple[Caller, Deferred[dict[str, Any]]]] = {}
        self._is_leave_planned = False
        self._methods: Mapping[str, Callable[[Caller, Params], Any]] = {
            "register": self._register,
            "unregister": self._unregister,
            "status": self._status,
            "subscribe": self._subscribe,
            "thaw_now": self._thaw_now,
            "reload": self._read_again,
        }

    def call(self, caller: Caller, method: str, params: Params) -> Any:
        """Do what is asked for.

        :param caller: who asks.
        :param method: the method's name.
        :param params: the parameters by name.
        :return: the result in plain values, or a Deferred of it.
        :raises CallError: where it cannot be done.
        """
        found = self._methods.get(method)
        if found is None:
            known = ", ".join(self._methods)
            raise CallError(UNKNOWN_METHOD, f"no method {printable(method)!r}; known are {known}")
        return found(caller, params)

    def _register(self, caller: Caller, params: Params) -> dict[str, Any]:
        known = ("name", "order", "freeze_timeout", "thaw_timeout", "on_failure")
        _refuse_others(params, *known)
        name = _name(params)
        wishes = Wishes(
            order=_order(params),
            freeze_timeout=_seconds(params, "freeze_timeout"),
            thaw_timeout=_seconds(params, "thaw_timeout"),
            abort=_abort(params),
        )
        registered = self._apps.register(name, caller.peer, wishes, caller)
        caller.registrations[name] = registered
        return {"name": name, "protocol": PROTOCOL}

    def _unregister(self, caller: Caller, params: Params) -> Deferred[dict[str, Any]]:
        _refuse_others(params, "name")
        name = _name(params)
        registration = caller.registrations.get(name)
        if registration is None:
            raise CallError(NOT_REGISTERED, f"{name} is not registered on this connection")
        if registration in self._leaving:
            raise CallError(
                NOT_REGISTERED, f"{name} is unregistered already, as soon as the window ends"
            )
        left: Deferred[dict[str, Any]] = Deferred()
        self._leaving[registration] = caller, left
        if not self._is_leave_planned:
            # One change for all: those whose connections end meanwhile leave nothing behind.
            self._is_leave_planned = True
            self._coordinator.between_windows(self._leave)
        return left

    def _leave(self) -> None:
        self._is_leave_planned = False
        leaving, self._leaving = self._leaving, {}
        for registration, (caller, left) in leaving.items():
            del caller.registrations[registration.name]
            self._apps.unregister(registration)
            left.callback({})

    def forget(self, registration: Registration) -> None:
        """Forget that an app wants to leave: its connection has ended.

        :param registration: what it had registered.
        """
        self._leaving.pop(registration, None)

    def _status(self, caller: Caller, params: Params) -> dict[str, Any]:
        _refuse_others(params)
        return status(
            self._coordinator,
            self._apps,
            self._started,
            self._missing(),
            in_full=is_own(caller.peer),
        )

    def _subscribe(self, caller: Caller, params: Params) -> dict[str, Any]:
        now = self._status(caller, params)
        in_full = is_own(caller.peer)

        def tell(answer: Answer, changed: Sequence[ParticipantRun]) -> None:
            caller.notify("event", describe(answer, changed, in_full=in_full))

        def tell_of_app(registration: Registration, is_there: bool) -> None:
            if is_there:
                caller.notify("event", {"registered": registration.describe()})
            else:
                caller.notify("event", {"unregistered": registration.name})

        def end() -> None:
            self._coordinator.watchers.remove(tell)
            self._apps.watchers.remove(tell_of_app)

        if caller.unsubscribe is None:
            self._coordinator.watchers.append(tell)
            self._apps.watchers.append(tell_of_app)
            caller.unsubscribe = end
        return now

    def _thaw_now(self, caller: Caller, params: Params) -> Deferred[dict[str, Any]]:
        _refuse_others(params, "forget")
        _refuse_strangers(caller, "thaw_now")
        forget = params.get("forget")
        if forget is not None:
            self._forget(forget)
        ended: Deferred[Answer] = Deferred()
        source = f"user {caller.peer.uid} over the control socket"
        self._coordinator.thaw_now(Requester(source, ended.callback))
        return Deferred.fromCoroutine(self._thawed(ended))

    async def _thawed(self, ended: Deferred[Answer]) -> dict[str, Any]:
        answer = await ended
        await self._coordinator.unthawed.retry()
        runs = self._coordinator.runs(answer.window) if answer.window else ()
        failed = [run for run in runs if run.thaw_problem and not run.is_thawed_early]
        is_thawed = not (failed or self._coordinator.unthawed)
        return {
            **describe(answer, runs),
            "unthawed": describe_unthawed(self._coordinator, in_full=True),
            "thawed": is_thawed,
        }

    def _forget(self, name: Any) -> None:
        known = [each.entry.name for each in self._coordinator.unthawed]
        if not isinstance(name, str) or not self._coordinator.unthawed.forget(name):
            allowed = f"one of {', '.join(known)}" if known else "none, for everything is thawed"
            raise _wrong("forget", allowed)

    def _read_again(self, caller: Caller, params: Params) -> Deferred[dict[str, Any]]:
        _refuse_others(params)
        _refuse_strangers(caller, "reload")

        def told(problems: tuple[str, ...]) -> dict[str, Any]:
            if problems:
                problem = "the configuration has mistakes, and nothing has changed"
                raise CallError(NOT_RELOADED, problem, {"problems": list(problems)})
            return {}

        return self._between_windows(lambda: self._reload().addCallback(told))

    def _between_windows(self, change: Callable[[], Any]) -> Deferred[dict[str, Any]]:
        result: Deferred[dict[str, Any]] = Deferred()
        self._coordinator.between_windows(lambda: maybeDeferred(change).chainDeferred(result))
        return result


def _refuse_strangers(caller: Caller, method: str) -> None:
    if not is_own(caller.peer):
        problem = f"{method} is for root and the agent's own user, and this is user"
        raise CallError(NOT_ALLOWED, f"{problem} {caller.peer.uid}")


def _refuse_others(params: Params, *known: str) -> None:
    unknown = sorted(set(params) - set(known))
    if unknown:
        allowed = f"known are {', '.join(known)}" if known else "it takes none"
        raise CallError(INVALID_PARAMS, f"unknown params: {printable(str(unknown))}; {allowed}")


def _name(params: Params) -> str:
    name = params.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _wrong("name", "1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return name


def _order(params: Params) -> int | None:
    order = params.get("order")
    # In Python True is an integer too.
    if order is None or (type(order) is int and 0 <= order <= LAST_ORDER):
        return order
    raise _wrong("order", f"an integer from 0 to {LAST_ORDER}")


def _seconds(params: Params, name: str) -> float | None:
    seconds = params.get(name)
    if seconds is None:
        return None
    if type(seconds) in (int, float) and SHORTEST <= seconds <= LONGEST_TIMEOUT:
        return float(seconds)
    raise _wrong(name, f"seconds, from {SHORTEST:g} to {LONGEST_TIMEOUT:g}")


def _abort(params: Params) -> bool | None:
    on_failure = params.get("on_failure")
    if on_failure in (None, "abort", "continue"):
        return None if on_failure is None else on_failure == "abort"
    raise _wrong("on_failure", "abort or continue")


def _wrong(param: str, allowed: str) -> CallError:
    return CallError(INVALID_PARAMS, f"{param}: what is allowed is {allowed}")
