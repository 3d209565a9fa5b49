"""Tests for :mod:`xohook.control.methods`, by way of a connection in memory."""

from __future__ import annotations

from typing import Any

from tests.control.methods_case import MethodsTestCase
from tests.talking import BUDGET, STRANGER
from xohook.control import apps
from xohook.control.wire import (
    INVALID_PARAMS,
    NOT_ALLOWED,
    NOT_REGISTERED,
    NOT_RELOADED,
    OWN_FAULT,
    TAKEN,
    TOO_MANY,
    UNKNOWN_METHOD,
)


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

    def test_many_of_a_user(self) -> None:
        """A user has so many names over all connections, root as many as there are."""
        self.patch(apps, "MOST_OF_A_USER", 2)
        first = self.scene.app("a", STRANGER)
        self.scene.app("b", STRANGER)
        line = self.scene.connect(STRANGER)
        error = self.refused(line, "register", name="c")
        self.assertEqual(error["code"], TOO_MANY)
        self.assertIn(f"user {STRANGER} has registered 2 names", error["message"])
        for name in ("d", "e", "f"):
            self.scene.app(name)
        self.scene.app("g", STRANGER + 1)
        first.close()
        self.scene.register(line, "c")

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

    def test_again_and_again(self) -> None:
        """Connections that ask in a window to leave, and end, leave nothing behind in memory."""
        line = self.scene.app("a")
        self.hold(line)
        planned: list[object] = []
        self.patch(self.scene.coordinator, "between_windows", planned.append)
        for _ in range(3):
            other = self.scene.app("b")
            other.call("unregister", name="b")
            other.close()
        self.assertEqual(len(planned), 1)

    def test_another_connections(self) -> None:
        """A name is not unregistered on another connection than its own."""
        self.scene.app("a")
        other = self.scene.connect()
        self.assertEqual(self.refused(other, "unregister", name="a")["code"], NOT_REGISTERED)
        for params in ({}, {"name": 1}, {"name": "a", "window": "w"}):
            self.assertEqual(self.refused(other, "unregister", **params)["code"], INVALID_PARAMS)


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
