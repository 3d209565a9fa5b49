"""Command participants in real windows: the real agent, real programs, real TLS."""

from __future__ import annotations

import grp
import json
import os
import re
import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.footprint import Footprint, children
from tests.integration.hook_client import Connection
from tests.integration.programs import Programs
from xohook.accounts import look_up
from xohook.pids import start_time


class WindowTestCase(SynchronousTestCase):
    """An agent of the test's own, with programs that tell what they do."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())

    def agent_with(self, *sections: str, options: str = "") -> Agent:
        return Agent.for_test(self, options=options, sections="\n".join(sections))

    def start(self, agent: Agent, target: str = "/sync") -> Connection:
        connection = agent.connect()
        self.addCleanup(connection.close)
        connection.start("GET", target, agent.credentials)
        return connection

    def refused(self, agent: Agent) -> list[str]:
        """Ask for a window that fails, and give the lines that say why."""
        answer = agent.get("/sync")
        self.assertEqual((answer.status, answer.first_line), (500, "Internal Error"))
        return answer.body.decode().splitlines()[1:]

    def good(self, agent: Agent) -> None:
        """Run a window that is synced."""
        before = agent.outcomes
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes(*before, "synced")


class PhaseTests(WindowTestCase):
    """A command is a pair of programs, or one of the two."""

    def test_pair(self) -> None:
        """The one runs at /sync, the other at /post-sync, and hears that the window is synced."""
        agent = self.agent_with(self.programs.command("a"))
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced"])

    def test_one_of_two(self) -> None:
        """What only freezes and what only thaws each do their half."""
        agent = self.agent_with(
            self.programs.command("flush", thaw=None), self.programs.command("wake", freeze=None)
        )
        self.good(agent)
        self.assertEqual(self.programs.journal, ["freeze flush", "thaw wake synced"])

    def test_environment(self) -> None:
        """A program is told who it runs as and what is asked of it, and no secret."""
        show = 'env | sort >"$0.env"'
        agent = self.agent_with(
            self.programs.command(
                "a", show, show, environment="COLOUR='light blue'", thaw_timeout="1500ms"
            )
        )
        self.good(agent)
        told = {}
        for phase in ("freeze", "thaw"):
            lines = (self.programs.directory / f"a-{phase}.env").read_text().splitlines()
            # The shell adds what it keeps for itself.
            told[phase] = {
                name: value
                for name, _, value in (line.partition("=") for line in lines)
                if name not in ("PWD", "OLDPWD", "SHLVL", "_")
            }
        common = {"PATH", "HOME", "USER", "LANG", "COLOUR"}
        ours = {"XOHOOK_PHASE", "XOHOOK_WINDOW", "XOHOOK_TIMEOUT"}
        self.assertEqual(set(told["freeze"]), common | ours)
        self.assertEqual(set(told["thaw"]), common | ours | {"XOHOOK_OUTCOME"})
        self.assertEqual(told["thaw"]["COLOUR"], "light blue")
        self.assertEqual(
            (told["freeze"]["XOHOOK_PHASE"], told["freeze"]["XOHOOK_TIMEOUT"]), ("freeze", "30")
        )
        self.assertEqual(
            (told["thaw"]["XOHOOK_PHASE"], told["thaw"]["XOHOOK_TIMEOUT"]), ("thaw", "1.5")
        )
        self.assertEqual(told["freeze"]["XOHOOK_WINDOW"], told["thaw"]["XOHOOK_WINDOW"])
        self.assertIn(f"window {told['thaw']['XOHOOK_WINDOW']} synced", agent.log)

    def test_user(self) -> None:
        """With user = the program is that user, and is told that user's name and home."""
        needs.root()
        account = look_up("nobody")
        show = "sh -c 'id -u; id -gn; echo \"$USER $HOME\"; exit 1'"
        agent = self.agent_with(f"[command:a]\nuser = nobody\nfreeze = {show}\n")
        with agent.connect() as connection:
            headers = {**agent.credentials, "Accept": "application/json"}
            [told] = json.loads(connection.get("/sync", headers).body)["participants"]
        uid, group, login = told["output"].splitlines()
        self.assertEqual((uid, login), (str(account.uid), f"nobody {account.home}"))
        self.assertEqual(group, grp.getgrgid(account.gid).gr_name)

    def test_no_secret(self) -> None:
        """Neither secret nor token stands in the arguments or environment of anything that runs."""
        agent = self.agent_with(self.programs.command("a", "stay frozen"))
        token = re.search(r"token=([^&]+)", agent.tag)
        assert token is not None
        self.start(agent)
        self.programs.wait_for("at frozen")
        [child] = children(agent.pid)
        for pid in (agent.pid, child):
            for name in ("environ", "cmdline"):
                held = Path(f"/proc/{pid}/{name}").read_bytes()
                for credential in (agent.secret, token[1], *agent.credentials.values()):
                    self.assertNotIn(credential.encode(), held)
        self.assertNotIn(token[1], agent.log)
        self.programs.let_on("frozen")

    def test_open_files(self) -> None:
        """A program has none of the agent's files and connections open."""
        agent = self.agent_with(self.programs.command("a", 'ls -l /proc/$$/fd >"$0.files"'))
        self.start(agent, "/sync").answer()
        listed = (self.programs.directory / "a-freeze.files").read_text()
        numbers = re.findall(r" (\d+) -> ", listed)
        # The shell has its script open as 10, and keeps as 11 what it had as 1.
        self.assertEqual(set(numbers) - {"10", "11"}, {"0", "1", "2"}, listed)
        self.assertNotIn("socket", listed)

    def test_as_another(self) -> None:
        """No shell looks at a command; a program runs in its directory."""
        show = self.programs.write("show", 'note "$#" "$@" in "$PWD"')
        agent = self.agent_with(
            f"[command:a]\nfreeze = {show} $HOME; '*' `id`\ndirectory = /usr/share\n"
        )
        self.good(agent)
        self.assertEqual(self.programs.journal, ["3 $HOME; * `id` in /usr/share"])


class FailureTests(WindowTestCase):
    """A freeze that fails ends the window, and the answer says in one line who and why."""

    def test_status(self) -> None:
        """A bad exit status is told with the program's last line."""
        agent = self.agent_with(self.programs.command("a", "echo disk on fire; exit 3"))
        self.assertEqual(self.refused(agent), ["command:a: exit status 3: disk on fire"])
        agent.wait_for_outcomes("failed")

    def test_signal(self) -> None:
        """A signal is told by its name."""
        agent = self.agent_with(self.programs.command("a", "kill -SEGV $$"))
        self.assertEqual(self.refused(agent), ["command:a: ended by SIGSEGV"])

    def test_unrunnable(self) -> None:
        """A program that cannot be run is told with the reason, and the agent goes on."""
        agent = self.agent_with("[command:a]\nfreeze = /no/such/program\n")
        expected = ["command:a: cannot run /no/such/program: no such program"]
        self.assertEqual(self.refused(agent), expected)
        self.assertEqual(self.refused(agent), expected)

    def test_timeout(self) -> None:
        """A freeze beyond its timeout is ended with its children, and undone."""
        agent = self.agent_with(
            self.programs.command(
                "a", 'sleep 1000 & echo $! >"$0.child"; wait', freeze_timeout="500ms"
            )
        )
        self.assertEqual(self.refused(agent), ["command:a: not done within 500ms, and told to end"])
        child = self.programs.number("a-freeze.child")
        self.assertIsNone(start_time(child))
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a failed"])
        eventually(lambda: not children(agent.pid), "no child is left, not even a dead one")

    def test_undone(self) -> None:
        """What failed is undone as well as what froze before it; what had not begun is not."""
        agent = self.agent_with(
            self.programs.command("first", order=10),
            self.programs.command("second", "exit 1", order=20),
            self.programs.command("third", order=30),
        )
        self.assertEqual(self.refused(agent), ["command:second: exit status 1"])
        self.assertEqual(
            self.programs.journal,
            ["freeze first", "freeze second", "thaw second failed", "thaw first failed"],
        )

    def test_equal_order(self) -> None:
        """What freezes beside one that fails is broken off and undone."""
        agent = self.agent_with(
            self.programs.command("bad", "stay bad; exit 1"),
            self.programs.command("slow", "note slow; exec sleep 1000"),
        )
        connection = self.start(agent)
        self.programs.wait_for("slow")
        self.programs.let_on("bad")
        self.assertEqual(connection.answer().body.splitlines()[1:], [b"command:bad: exit status 1"])
        self.assertEqual(
            sorted(self.programs.journal[-2:]), ["thaw bad failed", "thaw slow failed"]
        )

    def test_continue(self) -> None:
        """With on_failure = continue the window goes on without it, and it is thawed with it."""
        agent = self.agent_with(
            self.programs.command("weak", "exit 1", on_failure="continue", order=10),
            self.programs.command("strong", order=20),
        )
        self.good(agent)
        self.assertEqual(
            self.programs.journal,
            ["freeze weak", "freeze strong", "thaw strong synced", "thaw weak synced"],
        )
        self.assertIn("command:weak not frozen: exit status 1", agent.log)

    def test_thaw_fails(self) -> None:
        """A thaw that fails stops no other, and those hear of it; /post-sync hears 500 and why."""
        agent = self.agent_with(
            self.programs.command("first", order=10),
            self.programs.command("bad", thaw="echo stuck; exit 9", order=20),
            self.programs.command("hung", thaw="sleep 1000", thaw_timeout="300ms", order=30),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        answer = agent.get("/post-sync")
        self.assertEqual(answer.status, 500)
        self.assertEqual(
            sorted(answer.body.decode().splitlines()[1:]),
            [
                "command:bad: not thawed: exit status 9: stuck",
                "command:hung: not thawed: not done within 300ms, and told to end",
            ],
        )
        self.assertEqual(
            self.programs.journal[3:], ["thaw hung synced", "thaw bad failed", "thaw first failed"]
        )
        agent.wait_for_outcomes("failed")

    def test_json(self) -> None:
        """With Accept: application/json each participant's phase and output are told."""
        agent = self.agent_with(self.programs.command("a", "echo whole story; exit 3"))
        with agent.connect() as connection:
            headers = {**agent.credentials, "Accept": "application/json"}
            told = json.loads(connection.get("/sync", headers).body)
        [participant] = told["participants"]
        self.assertEqual(told["state"], "failed")
        self.assertEqual(
            (participant["name"], participant["outcome"], participant["output"]),
            ("command:a", "exit status 3: whole story", "whole story\n"),
        )


class OrderTests(WindowTestCase):
    """Lower orders freeze first, equal ones side by side; thaw runs in reverse."""

    def test_order(self) -> None:
        """The order counts, and not the place in the file."""
        agent = self.agent_with(
            self.programs.command("c", order=30),
            self.programs.command("a", order=10),
            self.programs.command("b", order=20),
        )
        self.good(agent)
        self.assertEqual(
            " ".join(self.programs.journal),
            "freeze a freeze b freeze c thaw c synced thaw b synced thaw a synced",
        )

    def test_waits(self) -> None:
        """A higher order does not begin before the lower one is frozen."""
        agent = self.agent_with(
            self.programs.command("a", "stay a; note a is frozen", order=10),
            self.programs.command("b", order=20),
        )
        connection = self.start(agent)
        self.programs.let_on("a")
        self.assertEqual(connection.answer().status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "at a", "a is frozen", "freeze b"])

    def test_side_by_side(self) -> None:
        """Two of one order meet: each waits for the other, freezing and thawing."""
        pipe = self.programs.directory / "pipe"
        meet = (f"mkfifo {pipe}; echo hello >{pipe}", f"mkfifo {pipe}; read -r _ <{pipe}")
        agent = self.agent_with(
            *(
                self.programs.command(name, does, does)
                for name, does in zip(("giver", "taker"), meet, strict=True)
            )
        )
        self.good(agent)


class NuisanceTests(WindowTestCase):
    """A program that misbehaves harms nobody else."""

    def test_left_behind(self) -> None:
        """A child that holds the program's output lives on and keeps no window waiting."""
        leave = 'sleep 1000 & echo $! >"$0.child"'
        agent = self.agent_with(self.programs.command("a", leave))
        self.good(agent)
        child = self.programs.number("a-freeze.child")
        self.assertIsNotNone(start_time(child))
        self.addCleanup(os.kill, child, signal.SIGKILL)

    def test_stubborn(self) -> None:
        """One that ignores SIGTERM is killed with its children before its thaw runs."""
        stubborn = 'trap "" TERM; sleep 1000 & echo $! >"$0.child"; wait; wait'
        gone = 'kill -0 "$(cat "${0%-thaw}-freeze.child")" 2>&- || note it has gone'
        agent = self.agent_with(self.programs.command("a", stubborn, gone, freeze_timeout="300ms"))
        self.assertEqual(self.refused(agent), ["command:a: not done within 300ms, and told to end"])
        self.assertIsNone(start_time(self.programs.number("a-freeze.child")))
        self.assertEqual(self.programs.journal[:2], ["freeze a", "thaw a failed"])
        eventually(lambda: not children(agent.pid), "no child is left, not even a dead one")

    def test_flood(self) -> None:
        """One that writes without end costs no memory, and others are answered meanwhile."""
        agent = self.agent_with(self.programs.command("a", "exec yes"))
        before = Footprint.of(agent.pid).resident
        connection = self.start(agent)
        self.programs.wait_for("freeze a")
        [child] = children(agent.pid)

        def written() -> int:
            held = Path(f"/proc/{child}/io").read_text()
            return int(held.split("wchar: ")[1].split()[0])

        eventually(lambda: written() > 100_000_000, "100 MB have been written")
        for _ in range(5):
            self.assertEqual(agent.get("/nothing").status, 404)
        # 100 MB have come in; what is kept is 64 KiB and some buffers.
        self.assertLess(Footprint.of(agent.pid).resident - before, 16_000)
        connection.reset()
        agent.wait_for_outcomes("cancelled")

    def test_no_children(self) -> None:
        """After many windows no child is left, not even a dead one, and no file is open."""
        agent = self.agent_with(*(self.programs.command(name) for name in "abc"))
        self.good(agent)
        before = Footprint.of(agent.pid)
        for _ in range(10):
            self.good(agent)
        eventually(lambda: Footprint.of(agent.pid).files <= before.files, "no more files are open")
        self.assertEqual(Footprint.of(agent.pid).children, 0)


class RequesterTests(WindowTestCase):
    """Who asks for a window decides how long it freezes, and what becomes of it."""

    def test_budget(self) -> None:
        """/sync is answered 500 at the budget, and what was frozen is thawed."""
        agent = self.agent_with(
            self.programs.command("quick", order=10),
            self.programs.command("slow", "exec sleep 1000", order=20),
            options="freeze_budget = 700ms",
        )
        lines = self.refused(agent)
        self.assertEqual(lines, ["command:slow: not frozen: the freeze budget is used up"])
        agent.wait_for_outcomes("failed")
        self.assertEqual(self.programs.journal[2:], ["thaw slow failed", "thaw quick failed"])

    def test_closed(self) -> None:
        """A requester that closes during the freeze cancels it: SIGTERM to all, and a thaw."""
        freeze = 'trap "note terminated; exit" TERM; sleep 1000 & note ready; wait'
        agent = self.agent_with(self.programs.command("a", freeze))
        connection = self.start(agent)
        self.programs.wait_for("ready")
        connection.close()
        agent.wait_for_outcomes("cancelled")
        self.assertEqual(
            self.programs.journal, ["freeze a", "ready", "terminated", "thaw a cancelled"]
        )
        eventually(lambda: not children(agent.pid), "no child is left")

    def test_one_of_two_closes(self) -> None:
        """While somebody else waits, the freeze goes on."""
        agent = self.agent_with(self.programs.command("a", "stay a"))
        first, second = self.start(agent), self.start(agent)
        agent.wait_for_log("shares the freeze")
        first.reset()
        # The agent notices a close no later than what comes on a connection after it.
        self.assertEqual(agent.get("/nothing").status, 404)
        self.programs.let_on("a")
        self.assertEqual(second.answer().status, 200)

    def test_expired(self) -> None:
        """Without /post-sync the hold ends at its limit; one that comes later hears 500."""
        agent = self.agent_with(self.programs.command("a"), options="hold_limit = 1s")
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_outcomes("expired")
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a expired"])
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_shared(self) -> None:
        """Two that freeze together: one freeze, two answers, and only the second ends the hold."""
        agent = self.agent_with(self.programs.command("a", "stay a"))
        both = [self.start(agent), self.start(agent)]
        agent.wait_for_log("shares the freeze")
        self.programs.let_on("a")
        self.assertEqual([each.answer().status for each in both], [200, 200])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "at a"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced")
        self.assertEqual(self.programs.journal[2:], ["thaw a synced"])

    def test_joined(self) -> None:
        """One that joins a hold has what only flushes run again, and nothing else."""
        agent = self.agent_with(
            self.programs.command("flush", thaw=None), self.programs.command("hold")
        )
        statuses = [agent.get("/sync").status, agent.get("/sync").status]
        self.assertEqual(statuses, [200, 200])
        self.assertEqual(sorted(self.programs.journal[:2]), ["freeze flush", "freeze hold"])
        self.assertEqual(self.programs.journal[2:], ["freeze flush"])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(agent.outcomes, [])
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced")

    def test_ambiguous(self) -> None:
        """A /post-sync that may be an earlier window's ends the hold, and nobody trusts it."""
        agent = self.agent_with(self.programs.command("a"), options="hold_limit = 1s")
        self.assertEqual(agent.get("/sync").status, 200)
        agent.wait_for_outcomes("expired")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 500)
        agent.wait_for_outcomes("expired", "ambiguous")
        self.assertEqual(self.programs.journal[-1], "thaw a ambiguous")

    def test_after_the_cancelled(self) -> None:
        """What was cancelled has gone before the next window's freeze begins."""
        freeze = 'trap "stay leaving; note has left; exit" TERM; note ready; sleep 1000 & wait'
        agent = self.agent_with(self.programs.command("a", freeze, thaw=None))
        first = self.start(agent)
        self.programs.wait_for("ready")
        first.close()
        self.programs.wait_for("at leaving")
        second = self.start(agent)
        agent.wait_for_log("opened by", count=2)
        self.assertEqual(self.programs.journal.count("freeze a"), 1)
        self.programs.let_on("leaving")
        eventually(lambda: self.programs.journal.count("freeze a") == 2, "it freezes again")
        self.assertLess(
            self.programs.journal.index("has left"),
            len(self.programs.journal) - 1 - self.programs.journal[::-1].index("freeze a"),
        )
        second.close()
        self.programs.let_on("leaving")
