"""The protocol of one connection, without the connection."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xohook.client import (
    LONGEST,
    Conversation,
    Event,
    Freeze,
    ProtocolError,
    Refused,
    Registered,
    Thaw,
    Withdrawn,
)


def line(**members: Any) -> bytes:
    """Write a message of the agent's.

    :param members: its members but for the version.
    :return: the message with its end.
    """
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"


def freeze(window: str, hold: float = 100) -> bytes:
    """Ask for a freeze.

    :param window: the window's id.
    :param hold: seconds.
    :return: the request, with the id ``freeze WINDOW``.
    """
    params = {"name": "orders", "window": window, "timeout": 30, "hold": hold}
    return line(id=f"freeze {window}", method="freeze", params=params)


def thaw(window: str, outcome: str = "synced") -> bytes:
    """Ask for a thaw.

    :param window: the window's id.
    :param outcome: the window's.
    :return: the request, with the id ``thaw WINDOW``.
    """
    params = {"name": "orders", "window": window, "outcome": outcome}
    return line(id=f"thaw {window}", method="thaw", params=params)


def events(conversation: Conversation) -> list[Event]:
    """Take all events there are.

    :param conversation: what has them.
    :return: the events.
    """
    return list(iter(conversation.next_event, None))


def sent(conversation: Conversation) -> list[dict[str, Any]]:
    """Take all that is to be sent.

    :param conversation: what sends it.
    :return: the messages.
    """
    lines = bytes(conversation.outgoing).splitlines()
    conversation.outgoing.clear()
    return [json.loads(each) for each in lines]


class ConversationTests(SynchronousTestCase):
    """One connection's worth of words."""

    def setUp(self) -> None:
        self.conversation = Conversation("orders")
        self.conversation.outgoing.clear()

    def receive(self, *lines: bytes, now: float = 0) -> list[Event]:
        """Take lines and tell what comes of them."""
        self.conversation.receive(b"".join(lines), now)
        return events(self.conversation)

    def assertAnswered(self, **answers: str) -> None:
        """See what was answered since: empty for a result, else part of the error's message."""
        answered = sent(self.conversation)
        self.assertEqual([each["id"].replace(" ", "_") for each in answered], list(answers))
        for answer, expected in zip(answered, answers.values(), strict=True):
            if expected:
                self.assertEqual(answer["error"]["code"], -32000)
                self.assertIn(expected, answer["error"]["message"])
            else:
                self.assertEqual(answer["result"], {})

    def test_register(self) -> None:
        """The first line registers the name, with the wishes that there are."""
        (request,) = sent(Conversation("orders", order=5, on_failure="continue"))
        params = {"name": "orders", "order": 5, "on_failure": "continue"}
        expected = {"jsonrpc": "2.0", "id": 1, "method": "register", "params": params}
        self.assertEqual(request, expected)

    def test_registered(self) -> None:
        """A result means that the name is registered, whatever else it says."""
        answer = line(id=1, result={"name": "orders", "protocol": 1, "more": []})
        self.assertEqual(self.receive(answer), [Registered()])

    def test_refused(self) -> None:
        """An error means that it is not, and its message is told in one printable line."""
        answer = line(id=1, error={"code": -32002, "message": "taken\n\x1b[2J"})
        (refused,) = self.receive(answer)
        assert isinstance(refused, Refused)
        self.assertIn("orders: taken \\x1b[2J", refused.problem)

    def test_refused_without_id(self) -> None:
        """An error without an id is the answer to the only request there is."""
        (refused,) = self.receive(line(id=None, error={"code": -32004, "message": "too many"}))
        self.assertIsInstance(refused, Refused)

    def test_strange_answers(self) -> None:
        """An answer to another request, or a second one, is ignored."""
        self.assertEqual(self.receive(line(id=7, result={})), [])
        self.assertEqual(self.receive(line(id=1, result={})), [Registered()])
        self.assertEqual(self.receive(line(id=1, error={}), line(id=None, error=1)), [])

    def test_round(self) -> None:
        """A freeze and its thaw are called one after the other, and answered as they end."""
        called = self.receive(freeze("a"))
        self.assertEqual(called, [Freeze("a", timeout=30, hold=100)])
        self.assertAnswered()
        self.conversation.done()
        self.assertAnswered(freeze_a="")
        self.assertEqual(self.receive(thaw("a")), [Thaw("a", "synced")])
        self.assertAnswered()
        self.conversation.done()
        self.assertAnswered(thaw_a="")
        self.assertIsNone(self.conversation.deadline)

    def test_failures(self) -> None:
        """A callback that failed is answered with an error, and a failed freeze is thawed too."""
        self.receive(freeze("a"))
        self.conversation.done("OSError: full")
        self.assertAnswered(freeze_a="OSError: full")
        self.assertEqual(self.receive(thaw("a", "failed")), [Thaw("a", "failed")])
        self.conversation.done("ValueError")
        self.assertAnswered(thaw_a="ValueError")

    def test_thaw_of_nothing(self) -> None:
        """A thaw of what is not frozen is answered well and does nothing."""
        self.assertEqual(self.receive(thaw("a")), [])
        self.assertAnswered(thaw_a="")

    def test_thaw_of_another_window(self) -> None:
        """A thaw of a window that was never frozen leaves the present one alone."""
        self.receive(freeze("a"))
        self.conversation.done()
        self.assertEqual(self.receive(thaw("b")), [])
        self.assertAnswered(freeze_a="", thaw_b="")

    def test_withdrawn(self) -> None:
        """A freeze whose thaw comes while it runs is withdrawn once, and thawed when it ended."""
        self.receive(freeze("a"))
        self.assertEqual(self.receive(thaw("a", "cancelled")), [Withdrawn()])
        self.assertEqual(events(self.conversation), [])
        self.conversation.done()
        self.assertAnswered(freeze_a="was over")
        self.assertEqual(events(self.conversation), [Thaw("a", "cancelled")])
        self.conversation.done()
        self.assertAnswered(thaw_a="")

    def test_not_begun(self) -> None:
        """A freeze whose thaw is there before it could begin is not called, nor is its thaw."""
        self.assertEqual(self.receive(freeze("a"), thaw("a")), [])
        self.assertAnswered(freeze_a="before the freeze began", thaw_a="")

    def test_put_back(self) -> None:
        """An event that was put back is told again, unless the freeze is over."""
        (called,) = self.receive(freeze("a"))
        self.conversation.put_back()
        self.assertEqual(events(self.conversation), [called])
        self.conversation.done()
        (called,) = self.receive(thaw("a"))
        self.conversation.put_back()
        self.assertEqual(events(self.conversation), [called])
        self.conversation.done()
        self.receive(freeze("b"), now=1)
        self.conversation.put_back()
        self.conversation.end()
        self.assertEqual(events(self.conversation), [])
        self.assertTrue(self.conversation.is_over)

    def test_next_window_waits(self) -> None:
        """The freeze of the next window begins when the thaw of the present one has ended."""
        self.receive(freeze("a"))
        self.conversation.done()
        self.receive(thaw("a"))
        self.assertEqual(self.receive(freeze("b", hold=50), now=10), [])
        self.assertEqual(self.conversation.deadline, 60)
        self.conversation.done()
        (called,) = events(self.conversation)
        self.assertEqual(called, Freeze("b", timeout=30, hold=50))

    def test_two_windows_at_once(self) -> None:
        """A freeze in the middle of another window is refused; its thaw does nothing."""
        self.receive(freeze("a"))
        self.assertEqual(self.receive(freeze("b"), thaw("b")), [])
        self.assertAnswered(freeze_b="window a has not been thawed", thaw_b="")

    def test_expired(self) -> None:
        """A hold counts from the request; when it has passed, the app is thawed."""
        self.receive(freeze("a", hold=5), now=100)
        self.conversation.done()
        self.conversation.tick(104.9)
        self.assertEqual(events(self.conversation), [])
        self.assertEqual(self.conversation.deadline, 105)
        self.conversation.tick(105)
        self.assertEqual(events(self.conversation), [Thaw("a", "expired")])
        self.assertIsNone(self.conversation.deadline)
        # The agent comes late.
        self.assertEqual(self.receive(thaw("a"), now=106), [])
        self.assertAnswered(freeze_a="")
        self.conversation.done()
        self.assertAnswered(thaw_a="")

    def test_expired_while_freezing(self) -> None:
        """A freeze that outlasts the hold is withdrawn and thawed, and has failed."""
        self.receive(freeze("a", hold=5))
        self.conversation.tick(5)
        self.assertEqual(events(self.conversation), [Withdrawn()])
        # The agent comes late.
        self.assertEqual(self.receive(thaw("a"), now=6), [])
        self.conversation.done()
        self.assertEqual(events(self.conversation), [Thaw("a", "expired")])
        self.assertAnswered(freeze_a="was over")

    def test_broken(self) -> None:
        """The end of the connection thaws, and nothing is answered any more."""
        self.receive(freeze("a"))
        self.conversation.end()
        self.conversation.end()
        self.assertEqual(events(self.conversation), [Withdrawn()])
        self.conversation.done()
        self.assertEqual(events(self.conversation), [Thaw("a", "broken")])
        self.assertFalse(self.conversation.is_over)
        self.conversation.done()
        self.assertTrue(self.conversation.is_over)
        self.assertAnswered()

    def test_first_reason_counts(self) -> None:
        """The outcome that the agent told stands, though the connection ends before the thaw."""
        self.receive(freeze("a"))
        self.receive(thaw("a", "synced"))
        self.conversation.end()
        self.conversation.done()
        self.assertEqual(events(self.conversation), [Thaw("a", "synced")])

    def test_unknown_requests(self) -> None:
        """An unknown method is answered so; an unknown notification is not answered at all."""
        self.receive(line(method="event", params=[1]), line(id=9, method="sing", params=[1]))
        (answer,) = sent(self.conversation)
        self.assertEqual((answer["id"], answer["error"]["code"]), (9, -32601))

    def test_unknown_params(self) -> None:
        """Parameters that a later agent may send are ignored."""
        params = {"name": "orders", "window": "a", "timeout": 1, "hold": 2, "more": {}}
        called = self.receive(line(id=1, method="freeze", params=params))
        self.assertEqual(called, [Freeze("a", 1, 2)])

    def test_nonsense(self) -> None:
        """What makes no sense ends the conversation, and what is frozen is thawed."""
        good = {"name": "orders", "window": "a", "timeout": 1, "hold": 1}
        nonsense = [
            b"\n",
            b"GET / HTTP/1.1\n",
            b"\xff\xfe\n",
            b"[" * 100_000 + b"\n",
            b"[]\n",
            b"{}\n",
            line(),
            line(method=1),
            line(id=True, method="freeze", params=good),
            line(id=1.5, method="freeze", params=good),
            line(id=1, method="freeze", params=[]),
            line(id=1, method="freeze"),
            line(id=1, method="freeze", params={**good, "name": "other"}),
            line(id=1, method="freeze", params={**good, "window": 1}),
            line(id=1, method="freeze", params={**good, "hold": -1}),
            line(id=1, method="freeze", params={**good, "hold": float("nan")}),
            line(id=1, method="freeze", params={**good, "hold": 10**400}),
            line(id=1, method="freeze", params={**good, "hold": True}),
            line(id=1, method="freeze", params={**good, "timeout": "1"}),
            line(id=1, method="thaw", params=good),
        ]
        for each in nonsense:
            conversation = Conversation("orders")
            conversation.receive(freeze("w"), 0)
            events(conversation)
            self.assertRaises(ProtocolError, conversation.receive, each, 0)
            self.assertEqual(events(conversation), [Withdrawn()], each[:80])
            conversation.receive(thaw("w"), 0)
            conversation.done()
            self.assertEqual(events(conversation), [Thaw("w", "broken")])

    def test_longest(self) -> None:
        """A message of 16 MiB is read, in pieces too; one byte more is too much."""
        message = line(method="event", params="")[:-1].ljust(LONGEST)
        half = len(message) // 2
        self.receive(message[:half])
        self.receive(message[half:])
        self.receive(b"\n")
        self.assertRaises(ProtocolError, self.receive, message + b" ")
        self.assertRaises(ProtocolError, Conversation("orders").receive, message + b" \n", 0)

    @given(st.lists(st.binary() | st.sampled_from([freeze("a"), thaw("a"), line(id=1, result=0)])))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Whatever comes, nothing is raised but the one error, and nothing but silence after it."""
        conversation = Conversation("orders")
        for each in pieces:
            try:
                conversation.receive(each, 0)
            except ProtocolError:
                self.assertTrue(conversation.is_ended)
            events(conversation)

    @given(st.data())
    def test_any_pieces(self, data: st.DataObject) -> None:
        """It does not matter how the bytes are cut."""
        whole = line(id=1, result={}) + freeze("é") + line(method="x") + thaw("b")
        cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
        conversation = Conversation("orders")
        told = []
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            conversation.receive(whole[start:end], 0)
            told += events(conversation)
        self.assertEqual(told, [Registered(), Freeze("é", 30, 100)])

    @given(st.lists(st.sampled_from(["freeze", "thaw", "tick", "done", "back", "end"])))
    def test_any_course(self, course: list[str]) -> None:
        """Each freeze that is begun has exactly one thaw, and one callback runs at a time."""
        conversation = Conversation("orders")
        running: Freeze | Thaw | None = None
        called: list[str] = []
        number = 0
        # In the end everything ends.
        for step in [*course, "end", *["done"] * 2 * len(course)]:
            if step == "freeze":
                number += 1
                conversation.receive(freeze(str(number), hold=10), number)
            elif step == "thaw":
                conversation.receive(thaw(str(number)), number)
            elif step == "tick":
                conversation.tick(number + 10)
            elif step == "end":
                conversation.end()
            elif running is not None and step == "done":
                called.append(type(running).__name__ + running.window)
                running = None
                conversation.done()
            elif running is not None:
                running = None
                conversation.put_back()
            for event in events(conversation):
                if isinstance(event, Freeze | Thaw):
                    self.assertIsNone(running)
                    running = event
        self.assertTrue(conversation.is_over)
        begun = [each.removeprefix("Freeze") for each in called[::2]]
        pairs = [phase + window for window in begun for phase in ("Freeze", "Thaw")]
        self.assertEqual(called, pairs)
        self.assertEqual(len(set(begun)), len(begun))
