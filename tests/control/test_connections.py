"""Tests for :mod:`xohook.control.connections`, with connections in memory."""

from __future__ import annotations

from tests.control.connections_case import ControlTestCase
from xohook.control.connections import CLOSE_PATIENCE
from xohook.control.wire import INVALID_PARAMS, INVALID_REQUEST, LONGEST_IN, OWN_FAULT, PARSE_ERROR


class RequestTests(ControlTestCase):
    """Requests, and what is none."""

    def test_error(self) -> None:
        """What is no message is told so, and the connection goes on."""
        line = self.scene.connect()
        line.send(b"what\n[]\n")
        line.tell(id="x", method="status", params=[])
        line.tell(id="y", method="unregister", params={"name": "orders"})
        self.scene.turn(5)
        told = [(each["id"], each["error"]["code"]) for each in line.received]
        self.assertEqual(
            told,
            [(None, PARSE_ERROR), (None, INVALID_REQUEST), ("x", INVALID_PARAMS), ("y", -32003)],
        )

    def test_not_answered(self) -> None:
        """Notifications are not answered, known or not; nor are answers that nobody waits for."""
        line = self.scene.connect()
        line.tell(method="status")
        line.tell(method="register", params={"name": "orders"})
        line.tell(method="what")
        for identity in (None, 1, "1", -1, 10**30):
            line.tell(id=identity, result={})
            line.tell(id=identity, error={"code": 1, "message": "no"})
        self.scene.turn(20)
        self.assertEqual((line.received, self.scene.apps.describe()), ([], []))

    def test_one_a_turn(self) -> None:
        """Many requests at once are served one a turn, others between them."""
        first, second = self.scene.connect(), self.scene.connect()
        first.send(b"\n" * 1000)
        second.tell(id=1, method="unregister", params={"name": "a"})
        self.assertEqual((len(first.received), len(second.received)), (1, 1))
        self.scene.turn(10)
        self.assertEqual(len(first.received), 11)
        self.scene.turn(1000)
        self.assertEqual(len(first.received), 1000)

    def test_not_read(self) -> None:
        """While requests are being served nothing more is read."""
        line = self.scene.connect()
        line.send(b"\n" * 3)
        self.assertTrue(line.is_paused)
        line.send(b"\n")
        self.scene.turn(2)
        self.assertTrue(line.is_paused)
        self.scene.turn(5)
        self.assertFalse(line.is_paused)
        self.assertEqual(len(line.received), 4)

    def test_answers_between(self) -> None:
        """An answer that comes after a request is taken after it."""
        line = self.scene.app("a")
        self.scene.sync()
        [freeze] = line.requests("freeze")
        line.call("status")
        line.reply(freeze["id"])
        self.assertEqual(self.scene.statuses, [])
        self.scene.turn(2)
        self.assertEqual(self.scene.statuses, [200])

    def test_too_long(self) -> None:
        """After a line that is too long the connection is closed; what came before is answered."""
        line = self.scene.connect()
        line.tell(id=1, method="what")
        line.send(b"x" * (LONGEST_IN + 1))
        line.tell(id=2, method="what")
        self.scene.turn(10)
        self.assertEqual([each["id"] for each in line.received], [1, None])
        self.assertEqual(line.received[1]["error"]["code"], INVALID_REQUEST)
        self.assertTrue(line.is_closed)
        self.assertEqual(self.scene.clock.getDelayedCalls(), [])

    def test_fault(self) -> None:
        """A fault of the program itself is answered as one, tells nothing, and is logged."""
        self.patch(self.scene.apps, "describe", lambda: 1 / 0)
        line = self.scene.connect()
        answer = line.answer(line.call("status"))
        assert answer is not None
        self.assertEqual(
            answer["error"], {"code": OWN_FAULT, "message": "a fault of xohook itself"}
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_half_closed(self) -> None:
        """Who says that nothing more will come has the answers to what came, then the end."""
        line = self.scene.connect()
        line.is_reading = False
        line.tell(id=1, method="what")
        self.scene.turn(2)
        line.close_half()
        self.scene.turn()
        self.assertFalse(line.is_closed)
        line.read()
        self.scene.turn()
        self.assertEqual([each["id"] for each in line.received], [1])
        self.assertTrue(line.is_closed)


class AppTests(ControlTestCase):
    """Apps that answer, and that do not."""

    def test_empty_refusal(self) -> None:
        """An error is a failed freeze, even if it gives no reason."""
        line = self.scene.app("a")
        self.scene.sync()
        self.reply_all(line, "freeze", error={"code": 1, "message": ""})
        self.reply_all(line, "thaw")
        [answer] = self.scene.answers
        self.assertEqual(
            (answer.status, answer.lines), (500, ("app:a: it refused, and gave no reason",))
        )

    def test_crooked_answer(self) -> None:
        """An answer that is neither a result nor an error is a failed freeze."""
        line = self.scene.app("a")
        self.scene.sync()
        self.reply_all(line, "freeze", error="busy")
        self.assertEqual(len(line.requests("thaw")), 1)

    def test_printed(self) -> None:
        """What an app says is told in print, and cut."""
        line = self.scene.app("a")
        self.scene.sync()
        error = {"code": 1, "message": "\x1b[2J\n\ud800" + "x" * 5000}
        self.reply_all(line, "freeze", error=error)
        self.reply_all(line, "thaw")
        [told] = self.scene.answers[0].lines
        self.assertTrue(told.startswith("app:a: \\x1b[2J\\n\\ud800xxx"), told)
        self.assertLess(len(told), 300)

    def test_late(self) -> None:
        """An answer that comes after its time counts for nothing; the thaw comes all the same."""
        line = self.scene.app("a", freeze_timeout=5)
        self.scene.sync()
        [freeze] = line.requests("freeze")
        self.scene.wait(5)
        [thaw] = line.requests("thaw")
        self.assertEqual(thaw["params"]["outcome"], "failed")
        line.reply(freeze["id"])
        self.assertEqual(self.scene.statuses, [])
        line.reply(thaw["id"])
        self.assertEqual(self.scene.statuses, [500])
        self.assertEqual(len(line.requests("thaw")), 1)

    def test_twice(self) -> None:
        """A second answer to the same request counts for nothing."""
        line = self.scene.app("a")
        self.scene.sync()
        [freeze] = line.requests("freeze")
        line.reply(freeze["id"])
        line.reply(freeze["id"], error={"code": 1, "message": "no"})
        self.assertEqual((self.scene.statuses, self.scene.outcome), ([200], "holding"))

    def test_anothers(self) -> None:
        """A connection cannot answer for another."""
        first, second = self.scene.app("a"), self.scene.app("b")
        self.scene.sync()
        for _ in range(2):
            first.reply(first.requests("freeze")[0]["id"])
        self.assertEqual(self.scene.statuses, [])
        second.reply(second.requests("freeze")[0]["id"])
        self.assertEqual(self.scene.statuses, [200])


class EndTests(ControlTestCase):
    """Connections that end."""

    def test_in_a_freeze(self) -> None:
        """It fails the freeze of each of its apps, however many they are, without a fault."""
        line = self.scene.connect()
        for name in ("a", "b", "c"):
            self.scene.register(line, name)
        self.scene.sync()
        line.close()
        self.assertEqual(self.scene.statuses, [500])
        self.assertEqual(self.flushLoggedErrors(), [])
        told = "\n".join(self.scene.answers[0].lines)
        self.assertIn("its connection ended before it answered", told)
        self.assertNotIn("not thawed", told)

    def test_of_little_matter(self) -> None:
        """Where no app of it matters the freeze of others goes on."""
        line, other = self.scene.connect(), self.scene.app("other")
        for name in ("a", "b", "c"):
            self.scene.register(line, name, on_failure="continue")
        self.scene.sync()
        line.close()
        self.reply_all(other, "freeze")
        self.assertEqual(self.scene.statuses, [200])

    def test_in_a_hold(self) -> None:
        """It spoils the window, and none of its apps counts as not thawed: each thaws itself."""
        line = self.scene.connect()
        for name in ("a", "b"):
            self.scene.register(line, name)
        self.hold(line)
        line.close()
        answer = self.scene.coordinator.status().answer
        self.assertEqual(
            (answer.state, answer.lines),
            ("broken", ("app:a: its connection ended while it was frozen",)),
        )
        self.scene.post_sync()
        self.assertEqual(self.scene.statuses, [200, 500])

    def test_leaving_in_a_hold(self) -> None:
        """One that wanted to leave after the window and goes in it is gone."""
        line = self.scene.connect()
        for name in ("a", "b"):
            self.scene.register(line, name)
        self.hold(line)
        line.call("unregister", name="a")
        line.close()
        self.assertEqual((self.scene.outcome, self.scene.apps.describe()), ("broken", []))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_in_a_thaw(self) -> None:
        """One that ends before it has said that it is thawed was not thawed, for all one knows."""
        line = self.scene.app("a")
        self.hold(line)
        self.scene.post_sync()
        line.close()
        self.assertEqual(self.scene.statuses, [200, 500])
        self.assertIn("not thawed: its connection ended", self.scene.answers[1].lines[0])

    def test_half_served(self) -> None:
        """What it had asked for and was not served yet is forgotten."""
        line = self.scene.connect()
        line.send(b"\n" * 10)
        line.call("register", name="late")
        line.close()
        self.scene.turn(20)
        self.assertEqual((len(line.received), self.scene.apps.describe()), (1, []))

    def test_close(self) -> None:
        """All are closed at the agent's end; who does not read is cut off."""
        reading, stalled = self.scene.connect(), self.scene.connect()
        stalled.is_reading = False
        for number in range(2):
            stalled.call("what" * number)
            self.scene.turn(2)
        self.scene.control.close()
        self.scene.control.close()
        self.scene.turn()
        self.assertEqual((reading.is_closed, stalled.is_closed), (True, False))
        self.scene.wait(CLOSE_PATIENCE)
        self.scene.turn()
        self.assertEqual((stalled.is_closed, stalled.is_aborted), (True, True))
        self.assertEqual(self.scene.clock.getDelayedCalls(), [])
