"""The delivery of answers: what goes wrong with one requester's is nobody else's affair."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import NoReturn, cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from zope.interface import implementer

from tests.hook.test_site import REQUEST, SiteTestCase
from tests.talking import Scene as Talk
from tests.window.driven_machine import Scene
from xohook.coordinator.coordinator import Coordinator
from xohook.hook.auth import Credentials, Gate
from xohook.hook.refusals import Refusals
from xohook.hook.resources import make_root
from xohook.hook.site import HookRequest
from xohook.window.answers import Answer, Requester


def fail(*_: object) -> NoReturn:
    """Fail, as a fault of the agent's own would."""
    raise RuntimeError("a fault")


class MachineTests(SynchronousTestCase):
    """An exception from within a transition of the state machine."""

    def test_others_are_answered(self) -> None:
        """Where the delivery to one fails, the others have their answer, and the log has why."""
        scene = Scene()
        broken = Requester("192.0.2.7", fail)
        scene.machine.sync(broken)
        scene.sync("A")
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "A 200"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(scene.debts()[0], 2)

    def test_source_is_logged(self) -> None:
        """The log names the requester that could not be answered, and has the traceback."""
        logged: list[LogEvent] = []

        @implementer(ILogObserver)
        def note(event: LogEvent) -> None:
            if "log_failure" in event:
                logged.append(event)

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        Scene().machine.post_sync(Requester("192.0.2.7", fail))
        [event] = logged
        self.assertIn("192.0.2.7", formatEvent(event))
        self.assertIn("RuntimeError", event["log_failure"].getTraceback())
        self.flushLoggedErrors(RuntimeError)

    def test_postponed_inputs(self) -> None:
        """What happens within an output that fails is heard all the same."""
        scene = Scene()
        scene.sync("A")

        def deliver(requesters: Iterable[Requester], answer: Answer) -> None:
            scene.post_sync("P")
            fail()

        self.patch(scene.context, "deliver", deliver)
        scene.done()
        self.assertEqual(scene.events(), ["freeze w1", "thaw synced"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_watcher_of_apps(self) -> None:
        """One that watches the apps and fails keeps no app from registering."""
        talk = Talk(Path(self.mktemp()))
        talk.apps.watchers.append(fail)
        talk.app("a")
        self.assertEqual([each["name"] for each in talk.apps.describe()], ["a"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class FaultyCoordinator:
    """A coordinator whose answers cannot be written."""

    def __init__(self) -> None:
        self.asked: list[Requester] = []

    def sync(self, requester: Requester) -> None:
        """Note who asks."""
        self.asked.append(requester)

    post_sync = gone = sync

    def runs(self, window: str | None) -> NoReturn:
        """Fail."""
        fail()


class WebTests(SiteTestCase):
    """A fault while an answer is written."""

    def test_500(self) -> None:
        """The requester has a 500, and its connection is kept."""
        coordinator = FaultyCoordinator()
        network = ip_network("192.0.2.0/24")
        gate = Gate(Credentials((), (), "vm"), frozenset({"peer"}), (network,))
        root = make_root(cast(Coordinator, coordinator), gate, Refusals(self.clock))
        transport = self.connect(self.serve(root))
        transport.protocol.dataReceived(b"GET /sync HTTP/1.1\r\n\r\n")
        coordinator.asked[0].deliver(Answer(status=200))
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 500 "))
        self.assertEqual(body, b"Internal Error")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertFalse(transport.disconnecting)

    def test_answer_has_begun(self) -> None:
        """Where part of an answer has gone out, the connection is closed."""

        class Begun(Resource):
            isLeaf = True

            def render(self, request: HookRequest) -> int:
                request.write(b"half of an")
                fail()

        transport = self.connect(self.serve(Begun()))
        transport.protocol.dataReceived(REQUEST)
        self.assertTrue(transport.disconnected)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_gone(self) -> None:
        """Where the connection has ended, the log alone has the fault."""

        class Leaving(Resource):
            isLeaf = True

            def render(self, request: HookRequest) -> int:
                request.notifyFinish().addErrback(lambda _: None)
                request.channel.abort()
                fail()

        transport = self.connect(self.serve(Leaving()))
        transport.protocol.dataReceived(REQUEST)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
