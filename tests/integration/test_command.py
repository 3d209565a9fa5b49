"""Command participants in real windows: the real agent, real programs, real TLS."""

from __future__ import annotations

import grp
import json
import os
import re
import signal
from pathlib import Path

from tests import needs
from tests.integration.agent import eventually
from tests.integration.command_case import WindowTestCase
from tests.integration.footprint import Footprint, children
from xohook.host.accounts import look_up
from xohook.host.pids import start_time


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
