"""Tests for :mod:`xohook.methods`, by way of a connection in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.acting import Actor
from tests.talking import BUDGET, LIMIT, STRANGER, Line, Scene, app_settings
from xohook import __version__
from xohook.errors import ParticipantError
from xohook.wire import (
    INVALID_PARAMS,
    NOT_ALLOWED,
    NOT_REGISTERED,
    NOT_RELOADED,
    OWN_FAULT,
    TAKEN,
    UNKNOWN_METHOD,
)


class MethodsTestCase(SynchronousTestCase):
    """An agent's inside, and connections to it."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.scene = Scene(self.directory)

    def call(self, line: Line, method: str, **params: Any) -> Any:
        """Call a method that answers at once."""
        answer = line.answer(line.call(method, **params))
        self.scene.turn()
        assert answer is not None, method
        self.assertNotIn("error", answer)
        return answer["result"]

    def refused(self, line: Line, method: str, **params: Any) -> dict[str, Any]:
        """Call a method that refuses at once."""
        answer = line.answer(line.call(method, **params))
        self.scene.turn()
        assert answer is not None, method
        self.assertIn("error", answer, params)
        error: dict[str, Any] = answer["error"]
        return error

    def reply_all(self, line: Line, method: str) -> None:
        """Answer each request of a kind that has come."""
        for request in line.requests(method):
            line.reply(request["id"])
        self.scene.turn(2)

    def hold(self, *lines: Line) -> None:
        """Open a window in which each of these connections' apps is frozen."""
        self.scene.sync()
        for line in lines:
            self.reply_all(line, "freeze")


class RegisterTests(MethodsTestCase):
    """``register``."""

    def test_result(self) -> None:
        """The answer has the name and the protocol's version; the wishes count."""
        line = self.scene.connect()
        wishes = {
            "order": 999,
            "freeze_timeout": 600,
            "thaw_timeout": 0.1,
            "on_failure": "continue",
        }
        result = self.call(line, "register", name="a.B-_9" + "x" * 58, **wishes)
        self.assertEqual(result, {"name": "a.B-_9" + "x" * 58, "protocol": 1})
        [told] = self.scene.apps.describe()
        self.assertEqual({key: told[key] for key in wishes}, wishes)

    def test_null(self) -> None:
        """A wish of null is none."""
        line = self.scene.connect()
        nulls = dict.fromkeys(("order", "freeze_timeout", "thaw_timeout", "on_failure"))
        self.call(line, "register", name="a", **nulls)
        self.assertEqual(self.scene.apps.describe()[0]["order"], 20)

    def test_wrong(self) -> None:
        """What is out of bounds is refused with what is allowed, and nothing is registered."""
        line = self.scene.connect()
        wrong: dict[str, list[Any]] = {
            "name": [None, 1, "", "x" * 65, "a b", "a\n", "é", "a/b", ["a"], True],
            "order": [-1, 1000, 1.0, "1", True, [1], 10**30],
            "freeze_timeout": [0, 0.09, 600.1, -1, "30", True, [], 10**400],
            "thaw_timeout": [0, 0.09, 600.1, -1, "30s", False, {}],
            "on_failure": ["", "Abort", 1, True, ["abort"], {}],
        }
        for param, values in wrong.items():
            for value in values:
                error = self.refused(line, "register", **{"name": "a", param: value})
                self.assertEqual(error["code"], INVALID_PARAMS, (param, value))
                self.assertIn(f"{param}: what is allowed is", error["message"])
        self.assertEqual(self.refused(line, "register")["code"], INVALID_PARAMS)
        self.assertEqual(self.scene.apps.describe(), [])

    def test_infinite(self) -> None:
        """A number that is too large for any is out of bounds."""
        line = self.scene.connect()
        line.send(
            b'{"jsonrpc":"2.0","id":1,"method":"register",'
            b'"params":{"name":"a","freeze_timeout":1e999}}\n'
        )
        [answer] = line.received
        self.assertEqual(answer["error"]["code"], INVALID_PARAMS)

    def test_unknown(self) -> None:
        """Params that nobody knows are refused, and told in print."""
        line = self.scene.connect()
        error = self.refused(line, "register", name="a", **{"ordre": 1, "\x1b[2J": 2})
        self.assertEqual(error["code"], INVALID_PARAMS)
        self.assertIn("ordre", error["message"])
        self.assertNotIn("\x1b", error["message"])
        self.assertIn("known are name, order, freeze_timeout", error["message"])

    def test_several(self) -> None:
        """A connection may have several names; each of them is everybody's only one."""
        line = self.scene.connect()
        for name in ("a", "b"):
            self.scene.register(line, name)
        self.assertEqual(self.refused(line, "register", name="a")["code"], TAKEN)
        self.assertEqual(self.refused(self.scene.connect(), "register", name="b")["code"], TAKEN)

    def test_in_a_window(self) -> None:
        """Who registers during a window takes part from the next one on."""
        first = self.scene.app("first")
        self.hold(first)
        second = self.scene.app("second")
        self.scene.post_sync()
        self.reply_all(first, "thaw")
        self.assertEqual(second.requests("freeze") + second.requests("thaw"), [])
        self.scene.sync()
        self.assertEqual(len(second.requests("freeze")), 1)


class UnregisterTests(MethodsTestCase):
    """``unregister``."""

    def test_idle(self) -> None:
        """With no window open it takes effect at once."""
        line = self.scene.app("a")
        self.assertEqual(self.call(line, "unregister", name="a"), {})
        self.assertEqual(self.scene.apps.describe(), [])
        self.assertEqual(self.refused(line, "unregister", name="a")["code"], NOT_REGISTERED)
        self.scene.register(line, "a")

    def test_in_a_window(self) -> None:
        """In a window it is answered, and takes effect, when that ends: the window is synced."""
        line = self.scene.app("a")
        self.hold(line)
        number = line.call("unregister", name="a")
        self.assertIsNone(line.answer(number))
        self.assertEqual(len(self.scene.apps.describe()), 1)
        self.scene.post_sync()
        self.assertIsNone(line.answer(number))
        self.reply_all(line, "thaw")
        answer = line.answer(number)
        assert answer is not None
        self.assertEqual(answer["result"], {})
        self.assertEqual((self.scene.apps.describe(), self.scene.outcome), ([], "synced"))

    def test_twice(self) -> None:
        """Asked for again before that, it is refused: there is one answer to wait for."""
        line = self.scene.app("a")
        self.hold(line)
        line.call("unregister", name="a")
        self.scene.turn()
        error = self.refused(line, "unregister", name="a")
        self.assertEqual(error["code"], NOT_REGISTERED)
        self.assertIn("unregistered already", error["message"])

    def test_ends_before(self) -> None:
        """A connection that ends before its turn takes its name along, free for another."""
        line = self.scene.app("a", on_failure="continue")
        self.hold(line)
        line.call("unregister", name="a")
        line.close()
        again = self.scene.app("a")
        self.scene.post_sync()
        self.assertEqual(self.scene.outcome, "synced")
        self.assertEqual([each["name"] for each in self.scene.apps.describe()], ["a"])
        self.call(again, "unregister", name="a")

    def test_another_connections(self) -> None:
        """A name is not unregistered on another connection than its own."""
        self.scene.app("a")
        other = self.scene.connect()
        self.assertEqual(self.refused(other, "unregister", name="a")["code"], NOT_REGISTERED)
        for params in ({}, {"name": 1}, {"name": "a", "window": "w"}):
            self.assertEqual(self.refused(other, "unregister", **params)["code"], INVALID_PARAMS)


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
        self.assertEqual((self.scene.keeper.watchers, self.scene.apps.watchers), ([], []))

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


class ReloadTests(MethodsTestCase):
    """``reload``."""

    def test_good(self) -> None:
        """It is answered when the configuration has been read."""
        self.assertEqual(self.call(self.scene.connect(), "reload"), {})
        self.assertEqual(self.scene.reloads, 1)

    def test_mistakes(self) -> None:
        """Mistakes are told, a line each."""
        self.scene.problems = ["x.ini:1: one", "x.ini:2: two"]
        error = self.refused(self.scene.connect(), "reload")
        self.assertEqual(
            (error["code"], error["data"]),
            (NOT_RELOADED, {"problems": ["x.ini:1: one", "x.ini:2: two"]}),
        )

    def test_in_a_window(self) -> None:
        """In a window it waits for its end."""
        app, line = self.scene.app("a"), self.scene.connect()
        self.hold(app)
        number = line.call("reload")
        self.assertEqual((self.scene.reloads, line.answer(number)), (0, None))
        self.scene.post_sync()
        self.reply_all(app, "thaw")
        self.assertEqual(self.scene.reloads, 1)
        self.assertIsNotNone(line.answer(number))

    def test_fault(self) -> None:
        """A fault of the program itself is answered, in a window too, and ends nothing."""
        self.patch(self.scene.methods, "_reload", lambda: 1 / 0)
        line = self.scene.connect()
        self.assertEqual(self.refused(line, "reload")["code"], OWN_FAULT)
        app = self.scene.app("a")
        self.hold(app)
        number = line.call("reload")
        self.scene.post_sync()
        self.reply_all(app, "thaw")
        answer = line.answer(number)
        assert answer is not None
        self.assertEqual(answer["error"]["code"], OWN_FAULT)
        self.assertEqual(self.scene.statuses, [200, 200])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_strangers(self) -> None:
        """It is for root and the agent's own user."""
        error = self.refused(self.scene.connect(STRANGER), "reload")
        self.assertEqual((error["code"], self.scene.reloads), (NOT_ALLOWED, 0))


class UnknownTests(MethodsTestCase):
    """Methods that there are not."""

    def test_unknown(self) -> None:
        """They are refused with those that there are; the name is told in print."""
        line = self.scene.connect()
        for method in ("history", "rehearse", "freeze", "thaw", "event", "", "__init__", "\x1b[2J"):
            error = self.refused(line, method)
            self.assertEqual(error["code"], UNKNOWN_METHOD)
            self.assertIn("known are register, unregister, status", error["message"])
            self.assertNotIn("\x1b", error["message"])

    def test_budget_is_not_touched(self) -> None:
        """What is asked for over the control socket changes no window's time."""
        app = self.scene.app("a", freeze_timeout=600)
        self.scene.sync()
        for _ in range(5):
            self.scene.wait(BUDGET / 5)
            self.call(app, "status")
        self.reply_all(app, "thaw")
        self.assertEqual(self.scene.statuses, [500])
