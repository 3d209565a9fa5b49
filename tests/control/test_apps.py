"""Tests for :mod:`xohook.control.apps`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.talking import app_settings
from xohook.config.settings import AppSettings
from xohook.control import apps
from xohook.control.apps import Apps, Registration, Wishes, is_own
from xohook.control.limited_lines import MOST as MOST_LINES
from xohook.control.limited_lines import PERIOD
from xohook.control.socket import Peer
from xohook.control.wire import NOT_ALLOWED, TAKEN, TOO_MANY
from xohook.errors import CallError
from xohook.host.accounts import Account

ANYBODY = Peer(uid=1000, pid=7)
OWNER = Account("orders", 1001, 1001, (1001,), "/home/orders")


class Silent:
    """The end of a connection on which nobody answers."""

    def __init__(self) -> None:
        self.is_open = True

    def call(self, method: str, params: Mapping[str, Any]) -> Deferred[Any]:
        """Never answer."""
        return Deferred()

    def close(self) -> None:
        """End."""
        self.is_open = False


class AppsTestCase(SynchronousTestCase):
    """The registrations of an agent."""

    def apps(self, *settings: AppSettings) -> Apps:
        return Apps(Clock(), settings)

    def register(self, apps: Apps, name: str, peer: Peer = ANYBODY, **wishes: Any) -> Registration:
        return apps.register(name, peer, Wishes(**wishes), Silent())

    def refused(self, apps: Apps, name: str, peer: Peer = ANYBODY) -> CallError:
        with self.assertRaises(CallError) as caught:
            self.register(apps, name, peer)
        error: CallError = caught.exception
        return error


class RegisterTests(AppsTestCase):
    """Who may take which name."""

    def test_describe(self) -> None:
        """It is told of with what counts for it."""
        apps = self.apps()
        registration = self.register(apps, "orders")
        told = {
            "name": "orders",
            "uid": 1000,
            "pid": 7,
            "order": 20,
            "freeze_timeout": 30.0,
            "thaw_timeout": 30.0,
            "on_failure": "abort",
        }
        self.assertEqual((registration.describe(), apps.describe()), (told, [told]))

    def test_taken(self) -> None:
        """A name that is taken is refused, to its own user too, until it is free again."""
        apps = self.apps()
        registration = self.register(apps, "orders")
        error = self.refused(apps, "orders")
        self.assertEqual((error.code, str(error)), (TAKEN, "orders is taken by process 7"))
        self.assertEqual(len(apps.describe()), 1)
        apps.unregister(registration)
        self.assertEqual(apps.describe(), [])
        self.register(apps, "orders")

    def test_owner_later(self) -> None:
        """A name that the configuration keeps for somebody else by now is taken away."""
        apps = self.apps()
        remote = Silent()
        registration = apps.register("orders", ANYBODY, Wishes(), remote)
        other = self.register(apps, "bills")
        apps.configure([app_settings("orders", account=OWNER)])
        self.assertEqual([each["name"] for each in apps.describe()], ["bills"])
        self.assertFalse(remote.is_open)
        # Its connection ends after that.
        apps.unregister(registration)
        owner = Peer(uid=OWNER.uid, pid=9)
        mine = self.register(apps, "orders", owner)
        apps.unregister(registration)
        apps.configure([app_settings("orders", account=OWNER)])
        self.assertEqual(apps.describe(), [other.describe(), mine.describe()])

    def test_owner(self) -> None:
        """A name that is a user's own is refused to everybody else, root excepted."""
        apps = self.apps(app_settings("orders", account=OWNER))
        error = self.refused(apps, "orders")
        self.assertEqual(error.code, NOT_ALLOWED)
        self.assertIn("for the user orders, and this is user 1000", str(error))
        for uid in (OWNER.uid, 0):
            apps.unregister(self.register(apps, "orders", Peer(uid=uid, pid=8)))
        self.register(apps, "another")

    def test_too_many(self) -> None:
        """There is an end to the names, and one that goes makes room."""
        self.patch(apps, "MOST", 2)
        registered = self.apps()
        first = self.register(registered, "a")
        self.register(registered, "b")
        self.assertEqual(self.refused(registered, "c").code, TOO_MANY)
        registered.unregister(first)
        self.register(registered, "c")

    def test_watchers(self) -> None:
        """Watchers are told of each beginning and end; one may go while it is told."""
        apps = self.apps()
        told: list[tuple[str, bool]] = []

        def once(registration: Registration, begins: bool) -> None:
            told.append(("once", begins))
            apps.watchers.remove(once)

        apps.watchers += [
            once,
            lambda registration, begins: told.append((registration.name, begins)),
        ]
        apps.unregister(self.register(apps, "orders"))
        self.assertEqual(told, [("once", True), ("orders", True), ("orders", False)])


class WishesTests(AppsTestCase):
    """What counts where the app and the configuration both say something."""

    def terms(self, apps: Apps) -> tuple[object, ...]:
        [told] = apps.describe()
        return tuple(
            told[each] for each in ("order", "freeze_timeout", "thaw_timeout", "on_failure")
        )

    def test_wishes(self) -> None:
        """An app has what it wishes, be it nought or no."""
        apps = self.apps()
        self.register(apps, "a", order=0, freeze_timeout=0.5, thaw_timeout=600.0, abort=False)
        self.assertEqual(self.terms(apps), (0, 0.5, 600.0, "continue"))

    def test_configuration_wins(self) -> None:
        """What the configuration says counts more, each thing by itself."""
        apps = self.apps(app_settings("a", order=0, abort=False))
        self.register(apps, "a", order=7, freeze_timeout=5.0, abort=True)
        self.assertEqual(self.terms(apps), (0, 5.0, 30.0, "continue"))

    def test_configure(self) -> None:
        """Another configuration counts at once, and its going brings the wishes back."""
        apps = self.apps()
        self.register(apps, "a", order=7)
        apps.configure([app_settings("a", order=30, thaw_timeout=2.0)])
        self.assertEqual(self.terms(apps), (30, 30.0, 2.0, "abort"))
        apps.configure([])
        self.assertEqual(self.terms(apps), (7, 30.0, 30.0, "abort"))

    def test_before_filesystems(self) -> None:
        """It may not wish to come after the first filesystem; the configuration may place it so."""
        apps = Apps(Clock(), (), 89)
        late, early = self.register(apps, "late", order=999), self.register(apps, "early", order=5)
        self.assertEqual((late.app.order, early.app.order), (89, 5))
        apps.configure([app_settings("late", order=95)], 9)
        self.assertEqual((late.app.order, early.app.order), (95, 5))
        self.assertEqual(self.register(apps, "silent").app.order, 9)

    def test_told_of_change(self) -> None:
        """Watchers are told of those whose terms are changed, and of no others."""
        apps = self.apps()
        self.register(apps, "a")
        self.register(apps, "b")
        told: list[tuple[str, bool]] = []
        apps.watchers.append(lambda each, is_there: told.append((each.name, is_there)))
        apps.configure([app_settings("a", order=7)])
        self.assertEqual(told, [("a", True)])


class ParticipantsTests(AppsTestCase):
    """Who takes part in a window that opens now."""

    def test_registered(self) -> None:
        """Every app that is registered."""
        apps = self.apps(app_settings("b"))
        first = self.register(apps, "a")
        second = self.register(apps, "b")
        self.assertEqual(apps.participants(), [first.app, second.app])
        apps.unregister(first)
        self.assertEqual(apps.participants(), [second.app])

    def test_absent(self) -> None:
        """One that has to be and is not registered takes part, in its place, and fails."""
        apps = self.apps(app_settings("a", required=True, order=5, abort=False), app_settings("b"))
        self.assertEqual(apps.absent(), ["a"])
        [missing] = apps.participants()
        self.assertEqual((missing.name, missing.order, missing.abort), ("app:a", 5, False))
        registration = self.register(apps, "a")
        self.assertEqual((apps.absent(), apps.participants()), ([], [registration.app]))

    def test_configure(self) -> None:
        """Who has to be there changes with the configuration."""
        apps = self.apps(app_settings("a", required=True))
        apps.configure([app_settings("a"), app_settings("b", required=True)])
        self.assertEqual(apps.absent(), ["b"])


class OwnTests(SynchronousTestCase):
    """Who may do what only an administrator may."""

    def test_is_own(self) -> None:
        """Root and the agent's own user, and nobody else."""
        self.patch(os, "geteuid", lambda: 1234)
        answers = [is_own(Peer(uid=uid, pid=1)) for uid in (0, 1234, 1235)]
        self.assertEqual(answers, [True, True, False])


class LogTests(AppsTestCase):
    """Registrations in the log."""

    def texts(self, uid: int, times: int) -> list[str]:
        """Have a name registered and unregistered so often; read the log of that minute."""
        clock = Clock()
        apps = Apps(clock, ())
        with capturedLogs() as events:
            for _ in range(times):
                apps.unregister(self.register(apps, "a", Peer(uid, 7)))
            clock.advance(PERIOD)
        self.assertEqual(clock.getDelayedCalls(), [])
        return [formatEvent(event) for event in events]

    def test_few(self) -> None:
        """Each has a line."""
        told = f"app a (process 7 of user {ANYBODY.uid})"
        self.assertEqual(self.texts(ANYBODY.uid, 1), [f"{told} registered", f"{told} unregistered"])

    def test_many(self) -> None:
        """A user has so many lines a minute, and one for all the rest."""
        texts = self.texts(ANYBODY.uid, MOST_LINES)
        self.assertEqual(len(texts), MOST_LINES + 1)
        self.assertEqual(
            texts[-1],
            f"apps of user {ANYBODY.uid} registered or unregistered {MOST_LINES} more times in"
            " 60 s",
        )

    def test_own(self) -> None:
        """Root's are all there."""
        self.assertEqual(len(self.texts(0, MOST_LINES)), 2 * MOST_LINES)
