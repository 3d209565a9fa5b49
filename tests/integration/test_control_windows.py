"""Apps in windows of a real agent, over real HTTPS and the real control socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.agent import Agent, eventually
from tests.integration.control_case import ControlTestCase
from tests.integration.control_client import CallFailedError, ControlClient
from tests.integration.hook_client import Answer, Connection
from tests.integration.programs import Programs


class WindowTestCase(ControlTestCase):
    """An agent, apps in the test's hands, and an XO."""

    def app(self, agent: Agent, *names: str, **wishes: Any) -> ControlClient:
        """Open a connection and register apps on it."""
        client = self.connect(agent)
        for name in names:
            client.register(name, **wishes)
        return client

    def start(self, agent: Agent, target: str) -> Connection:
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", target, agent.credentials)
        return connection

    def hold(self, agent: Agent, *apps: ControlClient) -> str:
        """Open a window in which one app of each of these freezes; tell its id."""
        sync = self.start(agent, "/sync")
        windows = {app.serve("freeze")["window"] for app in apps}
        self.assertEqual(sync.answer().status, 200)
        [window] = windows
        return str(window)

    def finish(self, agent: Agent, *apps: ControlClient) -> Answer:
        """End the window by its /post-sync; each of these apps thaws."""
        post_sync = self.start(agent, "/post-sync")
        for app in apps:
            app.serve("thaw")
        return post_sync.answer()

    def ended(self, agent: Agent) -> dict[str, Any]:
        """Wait for the window's end, and tell what the status says then."""
        client = self.connect(agent)
        eventually(lambda: not client.call("status")["open"], "the window has ended")
        status: dict[str, Any] = client.call("status")
        return status


class FreezeTests(WindowTestCase):
    """Freezes and thaws."""

    def test_synced(self) -> None:
        """An app is asked to freeze, says that it has, and is told to go on: a synced window."""
        agent = self.agent("hold_limit = 2m\nfreeze_budget = 50s")
        app = self.app(agent, "orders", freeze_timeout=7)
        sync = self.start(agent, "/sync")
        freeze = app.asked("freeze")
        params = freeze["params"]
        self.assertEqual(set(params), {"name", "window", "timeout", "hold"})
        self.assertEqual((params["name"], params["timeout"]), ("orders", 7.0))
        self.assertLessEqual(params["hold"], 170.5)
        self.assertGreater(params["hold"], 100)
        app.reply(freeze, result={"anything": True})
        self.assertEqual(sync.answer().status, 200)
        post_sync = self.start(agent, "/post-sync")
        thaw = app.asked("thaw")
        told = {"name": "orders", "window": params["window"], "outcome": "synced"}
        self.assertEqual(thaw["params"], told)
        app.reply(thaw)
        self.assertEqual((post_sync.answer().status, agent.outcomes), (200, ["synced"]))

    def test_order(self) -> None:
        """Apps freeze before commands and thaw after them, unless they wish otherwise."""
        programs = Programs(Path(self.mktemp()).resolve())
        agent = self.agent(sections=programs.command("a"))
        app, last = self.app(agent, "first"), self.app(agent, "last", order=50)
        sync = self.start(agent, "/sync")
        freeze = app.asked("freeze")
        self.assertEqual(programs.journal, [])
        app.reply(freeze)
        freeze = last.asked("freeze")
        self.assertEqual(programs.journal, ["freeze a"])
        last.reply(freeze)
        self.assertEqual(sync.answer().status, 200)
        post_sync = self.start(agent, "/post-sync")
        thaw = last.asked("thaw")
        self.assertEqual(programs.journal, ["freeze a"])
        last.reply(thaw)
        thaw = app.asked("thaw")
        self.assertEqual(programs.journal, ["freeze a", "thaw a synced"])
        app.reply(thaw)
        self.assertEqual(post_sync.answer().status, 200)

    def test_together(self) -> None:
        """Apps of one order are asked together, be they on one connection or on several."""
        agent = self.agent()
        both, third = self.app(agent, "a", "b"), self.app(agent, "c")
        sync = self.start(agent, "/sync")
        freezes = [both.asked("freeze"), both.asked("freeze")]
        other = third.asked("freeze")
        self.assertEqual({each["params"]["name"] for each in freezes}, {"a", "b"})
        third.reply(other)
        for each in freezes[::-1]:
            both.reply(each)
        self.assertEqual(sync.answer().status, 200)
        self.assertEqual(self.finish(agent, both, both, third).status, 200)

    def test_refused(self) -> None:
        """A freeze that is refused fails the window with its reason; its app hears the thaw too."""
        agent = self.agent()
        good, bad = self.app(agent, "good", order=10), self.app(agent, "bad", order=20)
        sync = self.start(agent, "/sync")
        good.serve("freeze")
        bad.reply(bad.asked("freeze"), error={"code": 5, "message": "in the middle of a sale"})
        for app in (bad, good):
            self.assertEqual(app.serve("thaw")["outcome"], "failed")
        answer = sync.answer()
        self.assertEqual(
            (answer.status, answer.body),
            (500, b"Internal Error\napp:bad: in the middle of a sale"),
        )
        self.assertEqual(agent.outcomes, ["failed"])

    def test_refused_without_a_word(self) -> None:
        """A refusal is one, even if it gives no reason."""
        agent = self.agent()
        app = self.app(agent, "a")
        sync = self.start(agent, "/sync")
        app.reply(app.asked("freeze"), error={"code": 0, "message": ""})
        app.serve("thaw")
        self.assertEqual(sync.answer().status, 500)

    def test_silent(self) -> None:
        """One that does not answer in time fails the window; what it says later is ignored."""
        agent = self.agent()
        app = self.app(agent, "a", freeze_timeout=0.3)
        sync = self.start(agent, "/sync")
        freeze = app.asked("freeze")
        thaw = app.asked("thaw")
        self.assertEqual(thaw["params"]["outcome"], "failed")
        app.reply(freeze)
        app.reply(thaw)
        answer = sync.answer()
        self.assertEqual(answer.status, 500)
        self.assertIn(b"app:a: not done within 300ms", answer.body)
        self.assertEqual(agent.get("/post-sync").status, 200)
        window = self.hold(agent, app)
        self.assertNotEqual(window, freeze["params"]["window"])
        self.assertEqual(self.finish(agent, app).status, 200)

    def test_requester_gone(self) -> None:
        """A window whose requester goes is undone; an app that has not answered hears a thaw."""
        agent = self.agent()
        app = self.app(agent, "a")
        sync = self.start(agent, "/sync")
        freeze = app.asked("freeze")
        sync.close()
        self.assertEqual(app.serve("thaw")["outcome"], "cancelled")
        app.reply(freeze)
        agent.wait_for_outcomes("cancelled")

    def test_continue(self) -> None:
        """One whose on_failure is continue may fail: the window is synced all the same."""
        agent = self.agent()
        app = self.app(agent, "a", on_failure="continue")
        sync = self.start(agent, "/sync")
        app.reply(app.asked("freeze"), error={"code": 5, "message": "no"})
        self.assertEqual(sync.answer().status, 200)
        self.assertEqual(self.finish(agent, app).status, 200)
        self.assertEqual(agent.outcomes, ["synced"])

    def test_thaw_fails(self) -> None:
        """A thaw that fails fails the window."""
        agent = self.agent()
        app = self.app(agent, "a")
        self.hold(agent, app)
        post_sync = self.start(agent, "/post-sync")
        app.reply(app.asked("thaw"), error={"code": 5, "message": "stuck"})
        answer = post_sync.answer()
        self.assertEqual(answer.status, 500)
        self.assertIn(b"app:a: not thawed: stuck", answer.body)


class RequiredTests(WindowTestCase):
    """Apps that have to be there."""

    def test_required(self) -> None:
        """A freeze fails while one is not registered, and says so; then it does not."""
        agent = self.agent(sections="[app:orders]\n")
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertEqual(
            answer.body.splitlines()[1],
            b"app:orders: not registered, and required: start the app, or set required = no",
        )
        self.assertEqual(agent.get("/post-sync").status, 200)
        app = self.app(agent, "orders")
        self.hold(agent, app)
        self.assertEqual(self.finish(agent, app).status, 200)

    def test_not_required(self) -> None:
        """With ``required = no`` it may be there or not."""
        agent = self.agent(sections="[app:orders]\nrequired = no\n")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_continue(self) -> None:
        """With ``on_failure = continue`` the window goes on without it, and tells."""
        agent = self.agent(sections="[app:orders]\non_failure = continue\n")
        self.assertEqual(agent.get("/sync").status, 200)
        [told] = self.connect(agent).call("status")["participants"]
        self.assertIn("not registered", told["outcome"])
        self.assertEqual(agent.get("/post-sync").status, 200)


class GoingTests(WindowTestCase):
    """Apps that come and go in a window."""

    def test_going_in_a_freeze(self) -> None:
        """One that goes before it has answered fails the window."""
        agent = self.agent()
        app, other = self.app(agent, "a", "b"), self.app(agent, "other")
        sync = self.start(agent, "/sync")
        app.asked("freeze")
        other.serve("freeze")
        app.close()
        self.assertEqual(other.serve("thaw")["outcome"], "failed")
        answer = sync.answer()
        self.assertEqual(answer.status, 500)
        self.assertIn(b"its connection ended before it answered", answer.body)
        self.assertNotIn("Traceback", agent.log)

    def test_going_in_a_hold(self) -> None:
        """One that goes in a hold spoils it: the others go on, and /post-sync hears 500."""
        agent = self.agent()
        app, other = self.app(agent, "a", "b"), self.app(agent, "other")
        self.hold(agent, app, app, other)
        app.close()
        self.assertEqual(other.serve("thaw")["outcome"], "broken")
        status = self.ended(agent)
        self.assertEqual((status["state"], status["open"]), ("broken", False))
        self.assertEqual(status["problems"], ["app:a: its connection ended while it was frozen"])
        self.assertEqual([each["name"] for each in status["apps"]], ["other"])
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertNotIn("NOT THAWED", agent.log)

    def test_going_with_continue(self) -> None:
        """One whose on_failure is continue may go in a hold."""
        agent = self.agent()
        app, other = self.app(agent, "a", on_failure="continue"), self.app(agent, "other")
        self.hold(agent, app, other)
        app.close()
        agent.wait_for_log("let go: app:a: its connection ended while it was frozen")
        self.assertEqual(self.finish(agent, other).status, 200)

    def test_coming(self) -> None:
        """One that registers in a hold takes part from the next window on."""
        agent = self.agent()
        app = self.app(agent, "a")
        self.hold(agent, app)
        late = self.app(agent, "late")
        self.assertEqual(self.finish(agent, app).status, 200)
        self.hold(agent, app, late)
        self.assertEqual(late.unread, [])
        self.assertEqual(self.finish(agent, app, late).status, 200)

    def test_leaving(self) -> None:
        """One that unregisters in a window leaves when it has ended, and spoils nothing."""
        agent = self.agent()
        app, other = self.app(agent, "a"), self.app(agent, "other")
        self.hold(agent, app, other)
        number = app.start("unregister", name="a")
        self.assertEqual(self.finish(agent, app, other).status, 200)
        self.assertEqual(app.answer(number), {})
        self.hold(agent, other)
        with self.assertRaises(CallFailedError):
            app.call("unregister", name="a")
        self.assertEqual(app.unread, [])
        self.assertEqual(self.finish(agent, other).status, 200)

    def test_outlasted(self) -> None:
        """A hold that nobody ends is thawed at its limit."""
        agent = self.agent("hold_limit = 1s")
        app = self.app(agent, "a")
        self.hold(agent, app)
        self.assertEqual(app.serve("thaw")["outcome"], "expired")
        agent.wait_for_outcomes("expired")
        self.assertEqual(agent.get("/post-sync").status, 500)

    def test_thaw_now(self) -> None:
        """An administrator may end a freeze that an app has not answered."""
        agent = self.agent()
        app, root = self.app(agent, "a"), self.connect(agent)
        sync = self.start(agent, "/sync")
        app.asked("freeze")
        number = root.start("thaw_now")
        self.assertEqual(app.serve("thaw")["outcome"], "stopped")
        self.assertEqual(root.answer(number)["state"], "stopped")
        self.assertEqual(sync.answer().status, 500)


class ConfiguredTests(WindowTestCase):
    """What the configuration says of an app counts more than what it wishes."""

    def terms(self, client: ControlClient) -> tuple[Any, ...]:
        [told] = client.call("status")["apps"]
        return tuple(told[each] for each in ("order", "freeze_timeout", "on_failure"))

    def test_reload(self) -> None:
        """From the start on, and from each reload on, for apps that are registered too."""
        agent = self.agent(sections="[app:a]\norder = 30\n")
        app = self.app(agent, "a", order=5, freeze_timeout=4, on_failure="continue")
        self.assertEqual(self.terms(app), (30, 4.0, "continue"))
        agent.configure("", "[app:a]\nfreeze_timeout = 9s\non_failure = abort\n")
        self.hold(agent, app)
        number = app.start("reload")
        self.assertEqual(self.terms(app), (30, 4.0, "continue"))
        self.assertEqual(self.finish(agent, app).status, 200)
        self.assertEqual(app.answer(number), {})
        self.assertEqual(self.terms(app), (5, 9.0, "abort"))
        sync = self.start(agent, "/sync")
        freeze = app.asked("freeze")
        self.assertEqual(freeze["params"]["timeout"], 9.0)
        app.reply(freeze, error={"code": 1, "message": "no"})
        app.serve("thaw")
        self.assertEqual(sync.answer().status, 500)
