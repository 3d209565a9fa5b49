"""Tests for :mod:`xohook.control.methods`: the methods that show a window or end it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.acting import Actor
from tests.control.methods_case import MethodsTestCase
from tests.talking import LIMIT, STRANGER, Line, Scene, app_settings
from xohook import __version__
from xohook.control.wire import INVALID_PARAMS, NOT_ALLOWED
from xohook.errors import ParticipantError


class StatusTests(MethodsTestCase):
    """``status``."""

    def setUp(self) -> None:
        super().setUp()
        self.stage: list[str] = []
        self.actor = Actor("command:a", self.stage)
        settings = [app_settings("absent", required=True, abort=False)]
        self.directory = Path(self.mktemp())
        self.scene = Scene(self.directory, *settings, participants=[self.actor])
        self.line = self.scene.connect()

    def status(self, line: Line | None = None) -> dict[str, Any]:
        result: dict[str, Any] = self.call(line or self.line, "status")
        return result

    def test_first(self) -> None:
        """Where no window has been yet the state is idle, and everybody waits."""
        self.scene.register(self.line, "b")
        status = self.status()
        for member, value in {
            "window": None,
            "state": "idle",
            "problems": [],
            "version": __version__,
            "pid": os.getpid(),
            "open": False,
            "opened": None,
            "left": None,
            "apps": self.scene.apps.describe(),
            "absent": ["absent"],
        }.items():
            self.assertEqual(status[member], value, member)
        self.assertEqual(
            {each["name"]: each["phase"] for each in status["participants"]},
            dict.fromkeys(("command:a", "app:b", "app:absent"), "waiting"),
        )

    def test_window(self) -> None:
        """In a window it tells how far everybody is, and of the hold how much is left."""
        self.scene.sync()
        freezing = self.status()
        self.assertEqual(
            (freezing["state"], freezing["open"], freezing["left"]), ("freezing", True, None)
        )
        self.assertIsInstance(freezing["opened"], float)
        self.actor.do(b"all well")
        self.scene.wait(20)
        holding = self.status()
        self.assertEqual((holding["state"], holding["left"]), ("holding", LIMIT - 20))
        outcomes = {each["name"]: each["outcome"] for each in holding["participants"]}
        self.assertEqual(outcomes["command:a"], "ok")
        self.assertIn("not registered", outcomes["app:absent"])
        self.scene.wait(LIMIT - 20 + 1)
        thawing = self.status()
        self.assertEqual((thawing["state"], thawing["open"]), ("thawing", True))
        self.assertIsNone(thawing["left"])

    def test_last(self) -> None:
        """With none open it tells of the last one."""
        self.scene.sync()
        self.actor.do()
        self.scene.post_sync()
        self.actor.fail(ParticipantError("exit status 1"))
        status = self.status()
        self.assertEqual((status["state"], status["open"]), ("failed", False))
        self.assertEqual(status["problems"], ["command:a: not thawed: exit status 1"])
        self.assertEqual(status["window"], self.scene.answers[0].window)
        self.assertIsInstance(status["opened"], float)

    def test_output(self) -> None:
        """The ends of outputs are for root and the agent's own user."""
        own = STRANGER + 1
        self.patch(os, "geteuid", lambda: own)
        self.scene.sync()
        self.actor.do(b"x" * 2000 + b"secret\xff")
        for uid, output in ((0, True), (own, True), (STRANGER, False)):
            participants = self.status(self.scene.connect(uid))["participants"]
            told = {each["name"]: each["output"] for each in participants}["command:a"]
            self.assertEqual(told, "x" * 1017 + "secret\ufffd" if output else "", uid)

    def test_params(self) -> None:
        """It takes none."""
        error = self.refused(self.line, "status", window="w1")
        self.assertEqual(error["code"], INVALID_PARAMS)
        self.assertIn("it takes none", error["message"])


class SubscribeTests(MethodsTestCase):
    """``subscribe``."""

    def events(self, line: Line) -> list[dict[str, Any]]:
        events = [each["params"] for each in line.requests("event")]
        line.received.clear()
        return events

    def test_window(self) -> None:
        """After the status, each change of a window is told, with who has changed alone."""
        line, app = self.scene.connect(), self.scene.app("a")
        self.assertEqual(self.call(line, "subscribe")["state"], "idle")
        self.scene.sync()
        self.reply_all(app, "freeze")
        told = [
            (each["state"], [step["phase"] for step in each["participants"]])
            for each in self.events(line)
        ]
        self.assertEqual(
            told,
            [
                ("freezing", []),
                ("freezing", ["freezing"]),
                ("freezing", ["frozen"]),
                ("holding", []),
            ],
        )
        self.scene.post_sync()
        self.reply_all(app, "thaw")
        told = [
            (each["state"], [step["phase"] for step in each["participants"]])
            for each in self.events(line)
        ]
        self.assertEqual(
            told,
            [("thawing", []), ("thawing", ["thawing"]), ("thawing", ["thawed"]), ("synced", [])],
        )

    def test_apps(self) -> None:
        """Registrations are told as they begin and end."""
        line = self.scene.connect()
        self.call(line, "subscribe")
        app = self.scene.app("a")
        told = self.scene.apps.describe()[0]
        app.close()
        self.assertEqual(self.events(line), [{"registered": told}, {"unregistered": "a"}])

    def test_twice(self) -> None:
        """Subscribed twice, each change is told once."""
        line = self.scene.connect()
        for _ in range(2):
            self.call(line, "subscribe")
        self.scene.app("a")
        self.assertEqual(len(self.events(line)), 1)

    def test_end(self) -> None:
        """It ends with the connection."""
        line = self.scene.connect()
        self.call(line, "subscribe")
        line.close()
        self.assertEqual((self.scene.coordinator.watchers, self.scene.apps.watchers), ([], []))

    def test_output(self) -> None:
        """The ends of outputs are not for everybody."""
        actor = Actor("command:a", [])
        self.scene = Scene(Path(self.mktemp()), participants=[actor])
        root, stranger = self.scene.connect(), self.scene.connect(STRANGER)
        for line in (root, stranger):
            self.call(line, "subscribe")
        self.scene.sync()
        actor.do(b"secret")
        for line, output in ((root, "secret"), (stranger, "")):
            outputs = [
                step["output"] for each in self.events(line) for step in each["participants"]
            ]
            self.assertEqual(outputs[-1], output)

    def test_problems(self) -> None:
        """Nor is what went wrong, which may be the last line of an output."""
        actor = Actor("command:a", [])
        self.scene = Scene(Path(self.mktemp()), participants=[actor])
        root, stranger = self.scene.connect(), self.scene.connect(STRANGER)
        self.call(stranger, "subscribe")
        self.scene.sync()
        actor.fail(ParticipantError("exit status 3: password"))
        actor.do()
        self.assertIn("password", str(self.call(root, "status")))
        told = self.call(stranger, "status")
        self.assertEqual((told["state"], told["problems"]), ("failed", []))
        self.assertEqual(told["participants"][0]["outcome"], "failed")
        self.assertNotIn("password", str(self.events(stranger)))


class ThawNowTests(MethodsTestCase):
    """``thaw_now``."""

    def test_idle(self) -> None:
        """With no window open there is nothing to thaw."""
        self.assertEqual(
            self.call(self.scene.connect(), "thaw_now"),
            {
                "window": None,
                "state": "idle",
                "problems": [],
                "participants": [],
                "unthawed": [],
                "thawed": True,
            },
        )

    def test_holding(self) -> None:
        """A hold ends as stopped; the answer comes when all is thawed, /post-sync hears 500."""
        app, line = self.scene.app("a"), self.scene.connect()
        self.hold(app)
        number = line.call("thaw_now")
        self.assertIsNone(line.answer(number))
        [thaw] = app.requests("thaw")
        self.assertEqual(thaw["params"]["outcome"], "stopped")
        app.reply(thaw["id"])
        answer = line.answer(number)
        assert answer is not None
        told = answer["result"]
        self.assertEqual((told["state"], told["thawed"]), ("stopped", True))
        self.assertEqual([each["phase"] for each in told["participants"]], ["thawed"])
        self.assertEqual(told["problems"], ["ended by user 0 over the control socket"])
        self.scene.post_sync()
        self.assertEqual(self.scene.statuses, [200, 500])

    def test_freezing(self) -> None:
        """A freeze is broken off and undone, and who waits hears 500."""
        app, line = self.scene.app("a"), self.scene.connect()
        self.scene.sync()
        number = line.call("thaw_now")
        self.reply_all(app, "thaw")
        answer = line.answer(number)
        assert answer is not None
        self.assertEqual(answer["result"]["state"], "stopped")
        self.assertEqual(self.scene.statuses, [500])

    def test_not_thawed(self) -> None:
        """What could not be thawed is told."""
        app, line = self.scene.app("a"), self.scene.connect()
        self.hold(app)
        number = line.call("thaw_now")
        [thaw] = app.requests("thaw")
        app.reply(thaw["id"], error={"code": 1, "message": "stuck"})
        answer = line.answer(number)
        assert answer is not None
        told = answer["result"]
        self.assertEqual((told["state"], told["thawed"]), ("stopped", False))
        self.assertIn("app:a: not thawed: stuck", told["problems"])

    def test_gone(self) -> None:
        """Who asked for it may go away: it is done all the same."""
        app, line = self.scene.app("a"), self.scene.connect()
        self.hold(app)
        line.call("thaw_now")
        line.close()
        self.reply_all(app, "thaw")
        self.assertEqual(self.scene.outcome, "stopped")

    def test_strangers(self) -> None:
        """It is for root and the agent's own user."""
        app = self.scene.app("a")
        self.hold(app)
        error = self.refused(self.scene.connect(STRANGER), "thaw_now")
        self.assertEqual(error["code"], NOT_ALLOWED)
        self.assertIn(f"this is user {STRANGER}", error["message"])
        self.assertEqual(app.requests("thaw"), [])


class WishedThawTests(MethodsTestCase):
    """The times that apps wish for to thaw."""

    def held(self, line: Line, *names: str) -> None:
        """Open a window in which so many apps of one connection freeze one after the other."""
        for order, name in enumerate(names):
            self.scene.register(line, name, order=order, thaw_timeout=3, on_failure="continue")
        self.scene.sync()
        for _ in names:
            self.reply_all(line, "freeze")
        self.scene.post_sync()

    def test_together(self) -> None:
        """They count once for all: eight that do not thaw end the window when one would."""
        line = self.scene.connect()
        self.held(line, *"abcdefgh")
        self.scene.wait(2.9)
        self.assertEqual(self.scene.statuses, [200])
        self.scene.wait(0.2)
        self.assertEqual(self.scene.statuses, [200, 500])
        self.assertEqual(len(line.requests("thaw")), 8)

    def test_configured(self) -> None:
        """One that the configuration gives a time has it, after the others' is over."""
        self.scene.apps.configure([app_settings("a", thaw_timeout=5)])
        line = self.scene.connect()
        self.held(line, *"abc")
        self.scene.wait(7.9)
        self.assertEqual(self.scene.statuses, [200])
        self.scene.wait(0.2)
        self.assertEqual(self.scene.statuses, [200, 500])

    def test_quick(self) -> None:
        """Those that thaw at once leave the others their time."""
        line = self.scene.connect()
        self.held(line, *"abc")
        for _ in range(2):
            self.reply_all(line, "thaw")
        self.scene.wait(2.9)
        self.reply_all(line, "thaw")
        self.assertEqual(self.scene.statuses, [200, 200])
