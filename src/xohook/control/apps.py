"""The apps that are registered, and those that have to be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xohook.config.options import LAST_ORDER
from xohook.config.settings import AppSettings
from xohook.control.limited_lines import LimitedLines
from xohook.control.socket import Peer
from xohook.control.wire import NOT_ALLOWED, TAKEN, TOO_MANY
from xohook.errors import CallError
from xohook.participants import Participant
from xohook.participants.app import ORDER, TIMEOUT, App, Remote, absent

MOST = 16_384
"""Names that may be registered in all (docs/protocol.rst, register)."""

MOST_OF_A_USER = 1024
"""The same for one user other than root and the agent's own."""


@attrs.frozen(kw_only=True)
class Wishes:
    """How an app would like to take part; None where it does not say.

    :param order: its place; lower orders freeze first.
    :param freeze_timeout: seconds that its freeze may take.
    :param thaw_timeout: seconds that its thaw may take.
    :param abort: whether a freeze of it that fails ends the window.
    """

    order: int | None = None
    freeze_timeout: float | None = None
    thaw_timeout: float | None = None
    abort: bool | None = None


_SILENT = Wishes()


@attrs.frozen(eq=False)
class Registration:
    """One name that an app has registered.

    :param name: the name.
    :param peer: the process that has.
    :param wishes: how it would like to take part.
    :param app: the participant.
    """

    name: str
    peer: Peer
    wishes: Wishes
    app: App

    def describe(self) -> dict[str, Any]:
        """Tell of it in plain values.

        :return: what ``docs/protocol.rst`` describes.
        """
        return {
            "name": self.name,
            "uid": self.peer.uid,
            "pid": self.peer.pid,
            "order": self.app.order,
            "freeze_timeout": self.app.freeze_timeout,
            "thaw_timeout": self.app.thaw_timeout,
            "on_failure": "abort" if self.app.abort else "continue",
        }


Watcher = Callable[[Registration, bool], None]
"""Is told of a registration that is new, changed or over, and whether it is there."""


class Apps:
    """The registrations of one agent.

    :param clock: the clock of the windows.
    :param settings: what the configuration says of apps.
    :param last_wish: the highest order that an app may wish for.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        settings: Sequence[AppSettings],
        last_wish: int = LAST_ORDER,
    ) -> None:
        self._clock = clock
        self._registrations: dict[str, Registration] = {}
        self._counts: Counter[int] = Counter()
        self._lines = LimitedLines(clock)
        self.watchers: list[Watcher] = []
        self.configure(settings, last_wish)

    def configure(self, settings: Sequence[AppSettings], last_wish: int = LAST_ORDER) -> None:
        """Go by another configuration; who has a name keeps it, unless it is another user's now.

        :param settings: what it says of apps.
        :param last_wish: the highest order that an app may wish for.
        """
        self._last_wish = last_wish
        self._settings: Mapping[str, AppSettings] = {each.name: each for each in settings}
        for each in tuple(self._registrations.values()):
            if self._refusal(each.name, each.peer):
                self._dismiss(each)
                continue
            before = each.describe()
            self._agree(each.app, each.wishes)
            if each.describe() != before:
                self._tell(each, is_there=True)

    def register(self, name: str, peer: Peer, wishes: Wishes, remote: Remote) -> Registration:
        """Let an app take part, from the next window on.

        :param name: the name that it takes.
        :param peer: the process that asks.
        :param wishes: how it would like to take part; what the configuration says counts more.
        :param remote: its end of the connection.
        :return: the registration.
        :raises CallError: where the name is taken, or not this user's to take.
        """
        refusal = self._refusal(name, peer)
        if refusal:
            raise CallError(NOT_ALLOWED, refusal)
        taken = self._registrations.get(name)
        if taken is not None:
            raise CallError(TAKEN, f"{name} is taken by process {taken.peer.pid}")
        if len(self._registrations) >= MOST:
            raise CallError(TOO_MANY, f"{MOST} names are registered, and no more can be")
        if self._counts[peer.uid] >= MOST_OF_A_USER and not is_own(peer):
            problem = f"user {peer.uid} has registered {MOST_OF_A_USER} names"
            raise CallError(TOO_MANY, f"{problem}, and no more can be")
        app = App(self._clock, name, remote)
        self._agree(app, wishes)
        registration = self._registrations[name] = Registration(name, peer, wishes, app)
        self._counts[peer.uid] += 1
        self._note(registration, is_there=True)
        return registration

    def unregister(self, registration: Registration) -> None:
        """Let an app take part no more.

        :param registration: the registration, which may have ended.
        """
        if self._registrations.get(registration.name) is registration:
            del self._registrations[registration.name]
            self._counts[registration.peer.uid] -= 1
            self._note(registration, is_there=False)

    def participants(self) -> list[Participant]:
        """Tell who takes part in a window that opens now.

        :return: every app that is registered, and one that fails for each that has to be.
        """
        missing = [absent(self._clock, name) for name in self.absent()]
        for app in missing:
            self._agree(app, _SILENT)
        return [*(each.app for each in self._registrations.values()), *missing]

    def absent(self) -> list[str]:
        """Tell which apps have to take part and are not registered.

        :return: their names.
        """
        required = (each for each in self._settings.values() if each.required)
        names = (each.name.removeprefix("app:") for each in required)
        return [name for name in names if name not in self._registrations]

    def describe(self) -> list[dict[str, Any]]:
        """Tell of every registration in plain values.

        :return: what ``docs/protocol.rst`` describes.
        """
        return [each.describe() for each in self._registrations.values()]

    def _refusal(self, name: str, peer: Peer) -> str:
        """Tell why a process may not have a name; empty where it may."""
        settings = self._settings.get(f"app:{name}")
        owner = settings.account if settings is not None else None
        if owner is None or peer.uid in (0, owner.uid):
            return ""
        problem = f"the configuration keeps the name {name} for the user {owner.name}"
        return f"{problem}, and this is user {peer.uid}"

    def _dismiss(self, registration: Registration) -> None:
        """End a registration that the configuration does not allow any more."""
        self._log.warn(
            "app {name} (process {pid}) is not registered any more: {why}",
            name=registration.name,
            pid=registration.peer.pid,
            why=self._refusal(registration.name, registration.peer),
        )
        self.unregister(registration)
        registration.app.dismiss()

    def _agree(self, app: App, wishes: Wishes) -> None:
        settings = self._settings.get(app.name, _SILENT)
        wish = _first(wishes.order, ORDER)
        app.order = _first(settings.order, min(wish, self._last_wish))
        app.freeze_timeout = _first(settings.freeze_timeout, wishes.freeze_timeout, TIMEOUT)
        app.thaw_timeout = _first(settings.thaw_timeout, wishes.thaw_timeout, TIMEOUT)
        app.is_thaw_wished = settings.thaw_timeout is None
        app.abort = _first(settings.abort, wishes.abort, True)

    def _note(self, registration: Registration, *, is_there: bool) -> None:
        if is_own(registration.peer) or self._lines.admit(registration.peer.uid):
            self._log.info(
                "app {name} (process {pid} of user {uid}) {what}",
                name=registration.name,
                pid=registration.peer.pid,
                uid=registration.peer.uid,
                what="registered" if is_there else "unregistered",
            )
        self._tell(registration, is_there=is_there)

    def _tell(self, registration: Registration, *, is_there: bool) -> None:
        for watcher in tuple(self.watchers):
            try:
                watcher(registration, is_there)
            except Exception:  # noqa: BLE001 - an app does not wait for who looks on.
                self._log.failure("a fault of xohook itself")


def _first(*choices: Any) -> Any:
    return next(choice for choice in choices if choice is not None)


def is_own(peer: Peer) -> bool:
    """Tell whether a process may do what only an administrator may.

    :param peer: the process.
    :return: whether it is root's or the agent's own user's.
    """
    return peer.uid in (0, os.geteuid())
