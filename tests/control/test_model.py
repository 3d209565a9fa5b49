"""Apps over connections in memory against a small model of who is at rest, in any order of events.

In the model an app is at rest from its good answer to a freeze until it hears a thaw, its
connection ends, or the hold that it was told of is over.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.talking import Line, Scene, app_settings
from xohook.control.wire import TAKEN
from xohook.coordinator.participant_runs import ParticipantRun
from xohook.window.answers import Answer, Requester

OPEN = ("freezing", "holding", "thawing")


@attrs.define(eq=False)
class Held:
    """One freeze that an app was asked for.

    :param line: the app's connection.
    :param name: its name.
    :param matters: whether its failure spoils the window.
    :param until: when the hold that it was told of is over.
    :param id: the request's.
    :param is_answered: whether it has answered, well or not.
    :param is_at_rest: whether it has answered well and has not gone on since.
    :param thaws: how many thaws it has heard.
    """

    line: Line
    name: str
    matters: bool
    until: float
    id: int
    is_answered: bool = False
    is_at_rest: bool = False
    thaws: int = 0


class AnyRun(RuleBasedStateMachine):
    """Apps that come, answer, refuse, are silent and go; windows; and time."""

    @initialize()
    def begin(self) -> None:
        """Begin with three apps on two connections; a fourth, of little matter, has to be there."""
        self.directory = Path(tempfile.mkdtemp())
        required = app_settings("e", required=True, abort=False)
        self.scene = Scene(self.directory / "agent", required)
        self.scene.coordinator.watchers.append(self.told)
        self.faults: list[AssertionError] = []
        self.root = self.scene.connect()
        self.lines: list[Line] = []
        self.registered: dict[str, tuple[Line, bool]] = {}
        self.leaving: dict[str, tuple[Line, int]] = {}
        self.heard: dict[Line, int] = {}
        self.window: str | None = None
        self.members: dict[str, tuple[Line, bool]] = {}
        self.held: list[Held] = []
        self.is_spoilt = False
        self.thaws: list[tuple[Line, dict[str, Any]]] = []
        self.requesters: list[Requester] = []
        self.answered: list[Requester] = []
        self.stopped: Deferred[None] | None = None
        self.register("a", 10, is_new=True, matters=True)
        self.register("b", 20, is_new=True, matters=True)
        self.register("c", 20, is_new=False, matters=True)

    # The model.

    @property
    def now(self) -> float:
        """The time."""
        return self.scene.clock.seconds()

    def told(self, answer: Answer, changed: Sequence[ParticipantRun]) -> None:
        """Follow a window; what is wrong is kept, for nobody would hear of it from here."""
        try:
            self.follow(answer)
        except AssertionError as error:
            self.faults.append(error)

    def follow(self, answer: Answer) -> None:
        """See who takes part in a window, whether it is spoilt, and how it ends."""
        self.hear()
        if answer.window != self.window:
            self.window, self.members, self.held = answer.window, dict(self.registered), []
        if answer.state == "holding":
            self.is_spoilt = False
        if answer.state in ("freezing", "holding"):
            well = [each.name for each in self.held if each.is_at_rest]
            missing = [
                name for name, (_, matters) in self.members.items() if matters and name not in well
            ]
            self.is_spoilt = bool(missing)
        elif answer.state not in OPEN:
            self.ended(answer)

    def ended(self, answer: Answer) -> None:
        """See that a window that has ended kept its promises."""
        assert not (answer.state == "synced" and self.is_spoilt), answer
        for each in self.held:
            assert each.line.is_closed or each.thaws == 1, each
            assert not each.is_at_rest, each
        for name, (line, _) in self.leaving.items():
            if self.registered.get(name, (None, False))[0] is line:
                del self.registered[name]
        self.leaving = {}

    def hear(self) -> None:
        """Take what the apps were asked for since."""
        for line in self.lines:
            begun = self.heard[line]
            self.heard[line] = len(line.received)
            for message in line.received[begun:]:
                if message.get("method") == "freeze":
                    self.hear_freeze(line, message)
                elif message.get("method") == "thaw":
                    self.hear_thaw(line, message)
        for each in self.held:
            if self.now >= each.until:
                each.is_at_rest = False

    def hear_freeze(self, line: Line, message: dict[str, Any]) -> None:
        """See that a freeze is for one who takes part, for the first time."""
        params = message["params"]
        name = params["name"]
        assert params["window"] == self.window
        assert self.members[name][0] is line, name
        assert name not in [each.name for each in self.held]
        until = self.now + params["hold"]
        self.held.append(Held(line, name, self.members[name][1], until, message["id"]))

    def hear_thaw(self, line: Line, message: dict[str, Any]) -> None:
        """See that a thaw follows a freeze, once."""
        params = message["params"]
        [held] = [each for each in self.held if each.name == params["name"]]
        assert (held.line, params["window"]) == (line, self.window)
        held.thaws += 1
        held.is_at_rest = False
        assert held.thaws == 1, held
        self.thaws.append((line, message))

    # What can happen.

    @rule(
        name=st.sampled_from("abcde"),
        order=st.sampled_from([10, 20]),
        is_new=st.booleans(),
        matters=st.booleans(),
    )
    def register(self, name: str, order: int, is_new: bool, matters: bool) -> None:
        """Register an app, on a connection of its own or on one that there is."""
        there = [line for line in self.lines if not line.is_closed]
        if is_new or not there:
            line = self.scene.connect()
            self.lines.append(line)
            self.heard[line] = 0
        else:
            line = there[-1]
        on_failure = "abort" if matters else "continue"
        number = line.call("register", name=name, order=order, on_failure=on_failure)
        self.scene.turn(2)
        answer = line.answer(number)
        assert answer is not None
        if name in self.registered:
            assert answer["error"]["code"] == TAKEN
        else:
            assert answer["result"] == {"name": name, "protocol": 1}
            self.registered[name] = (line, matters and name != "e")

    @rule(data=st.data())
    @precondition(lambda self: self.registered)
    def unregister(self, data: st.DataObject) -> None:
        """Have an app leave: now, or when the window has ended."""
        name = data.draw(st.sampled_from(sorted(self.registered)))
        line = self.registered[name][0]
        number = line.call("unregister", name=name)
        self.scene.turn(2)
        if name in self.leaving:
            answer = line.answer(number)
            assert answer is not None
            assert "error" in answer
        elif self.scene.coordinator.status().is_open:
            assert line.answer(number) is None
            self.leaving[name] = (line, number)
        else:
            assert line.answer(number) == {"jsonrpc": "2.0", "id": number, "result": {}}
            del self.registered[name]

    @rule()
    def sync(self) -> None:
        """Ask for a snapshot."""

        def deliver(answer: Answer) -> None:
            assert requester not in self.answered
            self.answered.append(requester)

        requester = Requester("192.0.2.1", deliver)
        self.requesters.append(requester)
        self.scene.coordinator.sync(requester)

    @rule()
    @precondition(lambda self: self.scene.coordinator.status().is_open)
    def post_sync(self) -> None:
        """Finish a snapshot."""
        self.scene.post_sync()

    @rule(data=st.data())
    @precondition(lambda self: len(self.requesters) > len(self.answered))
    def gone(self, data: st.DataObject) -> None:
        """Have a requester close its connection before it is answered."""
        waiting = [each for each in self.requesters if each not in self.answered]
        requester = data.draw(st.sampled_from(waiting))
        self.answered.append(requester)
        self.scene.coordinator.gone(requester)

    @rule(data=st.data(), is_good=st.sampled_from([True, True, False]))
    @precondition(lambda self: any(not each.is_answered for each in self.held))
    def answer_freeze(self, data: st.DataObject, is_good: bool) -> None:
        """Answer a freeze, in time or late, well or not."""
        held = data.draw(st.sampled_from([each for each in self.held if not each.is_answered]))
        self.reply(held, is_good)

    @rule(refuses=st.booleans())
    def freeze(self, refuses: bool) -> None:
        """Ask for a snapshot, and have all who are asked then freeze, or one of them refuse."""
        self.sync()
        self.hear()
        waiting = [each for each in self.held if not each.is_answered]
        if refuses and waiting:
            self.reply(waiting[0], is_good=False)
        self.answer_all()

    @rule()
    @precondition(lambda self: self.scene.coordinator.status().answer.state == "holding")
    def finish(self) -> None:
        """Finish a snapshot, and have all who are asked then thaw."""
        self.post_sync()
        self.hear()
        self.answer_thaws()

    @rule()
    @precondition(lambda self: any(not each.is_answered for each in self.held))
    def answer_all(self) -> None:
        """Have all who are asked freeze, and those who are asked then."""
        while waiting := [each for each in self.held if not each.is_answered]:
            self.reply(waiting[0], is_good=True)

    def reply(self, held: Held, is_good: bool) -> None:
        """Answer a freeze; what was not to be answered any more counts for nothing."""
        held.is_answered = True
        held.is_at_rest = (
            is_good and not held.thaws and not held.line.is_closed and self.now < held.until
        )
        answer: dict[str, Any] = (
            {"result": {}} if is_good else {"error": {"code": 1, "message": ""}}
        )
        held.line.reply(held.id, **answer)
        self.scene.turn(2)
        self.hear()

    @rule(data=st.data(), is_good=st.sampled_from([True, True, True, False]))
    @precondition(lambda self: self.thaws)
    def answer_thaw(self, data: st.DataObject, is_good: bool) -> None:
        """Answer a thaw, in time or late, well or not."""
        line, message = data.draw(st.sampled_from(self.thaws))
        self.thaws.remove((line, message))
        answer: dict[str, Any] = (
            {"result": 1} if is_good else {"error": {"code": 1, "message": "x"}}
        )
        line.reply(message["id"], **answer)
        self.scene.turn(2)

    @rule()
    @precondition(lambda self: self.thaws)
    def answer_thaws(self) -> None:
        """Answer all thaws, and those that follow."""
        while self.thaws:
            line, message = self.thaws.pop(0)
            line.reply(message["id"])
            self.scene.turn(2)
            self.hear()

    @rule(data=st.data())
    @precondition(lambda self: any(not line.is_closed for line in self.lines))
    def disconnect(self, data: st.DataObject) -> None:
        """End a connection, with all its apps."""
        line = data.draw(st.sampled_from([line for line in self.lines if not line.is_closed]))
        self.registered = {
            name: each for name, each in self.registered.items() if each[0] is not line
        }
        self.leaving = {name: each for name, each in self.leaving.items() if each[0] is not line}
        spoils = [each for each in self.held if each.line is line and each.is_at_rest]
        for each in spoils:
            each.is_at_rest = False
        if self.scene.coordinator.status().answer.state in ("freezing", "holding"):
            self.is_spoilt = self.is_spoilt or any(each.matters for each in spoils)
        line.close()
        self.hear()

    @rule()
    @precondition(lambda self: len(self.requesters) % 4 == 3)
    def thaw_now(self) -> None:
        """Have an administrator end the present window."""
        self.root.call("thaw_now")
        self.scene.turn(2)

    @rule(seconds=st.sampled_from([0.5, 5.0, 29.0, 40.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, and nobody answers."""
        self.scene.wait(seconds)
        self.hear()

    @rule()
    @precondition(lambda self: len(self.requesters) > 12 and self.stopped is None)
    def stop(self) -> None:
        """Tell the agent to end."""
        self.stopped = Deferred.fromCoroutine(self.scene.coordinator.stop())

    # What holds at all times.

    @invariant()
    def idle(self) -> None:
        """With no window open nobody is at rest, nobody waits, and no call is pending."""
        self.hear()
        for fault in self.faults:
            raise fault
        if self.scene.coordinator.status().is_open:
            return
        assert not any(each.is_at_rest for each in self.held), self.held
        assert len(self.answered) == len(self.requesters)
        later = [each for each in self.scene.clock.getDelayedCalls() if each.getTime() > self.now]
        assert later == []
        told = {each["name"] for each in self.scene.apps.describe()}
        assert told == set(self.registered)

    @invariant()
    def holding(self) -> None:
        """See that a hold lasts no longer than all who matter are at rest."""
        self.hear()
        if self.scene.coordinator.status().answer.state == "holding":
            at_rest = {each.name for each in self.held if each.is_at_rest}
            mattering = {name for name, (_, matters) in self.members.items() if matters}
            assert mattering <= at_rest, mattering - at_rest

    def teardown(self) -> None:
        """In the end nobody is left frozen, and every window has ended."""
        for _ in range(len(self.requesters) + 1):
            self.scene.wait(400)
            self.hear()
        assert not self.scene.coordinator.status().is_open
        self.idle()
        if self.stopped is not None:
            assert self.stopped.called
        for line in self.lines:
            line.close()
        assert self.scene.apps.describe() == []
        shutil.rmtree(self.directory)


class AnyRunTests(SynchronousTestCase):
    """Runs that nobody has thought of."""

    def test_any_run(self) -> None:
        """Whatever happens in whatever order, nobody is left frozen."""
        run_state_machine_as_test(
            AnyRun,
            settings=settings(
                max_examples=300, stateful_step_count=40, deadline=None, derandomize=True
            ),
        )
        self.assertEqual(self.flushLoggedErrors(), [])
