"""Tests for ``xohook status`` and ``xohook thaw``, of real agents."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import xohook
from tests import needs
from tests.integration.agent import COMMAND, Agent, eventually
from tests.integration.asking import AskedTestCase
from tests.integration.hook_client import PATIENCE
from xohook.cli.agent import Connection
from xohook.errors import CallError

NOBODY = 65534

#: The command as another user, who may not be able to read this Python's own files.
AS_OTHER = """
import os
import xohook.cli.{subcommand}
os.setgroups([])
os.setgid({group})
os.setuid({user})
xohook.cli.main()
"""


class StatusTests(AskedTestCase):
    """``xohook status`` says how the agent is."""

    def status(self, agent: Agent, *arguments: str, good: bool = True) -> list[str]:
        said = self.ask("status", "-c", str(agent.configuration), *arguments, status=not good)
        return said.splitlines()

    def test_idle(self) -> None:
        """Before the first window all is well, and each participant waits."""
        agent = self.agent_with(self.programs.command("one"))
        lines = self.status(agent)
        self.assertEqual(lines[0], "idle; NO WINDOW YET since the agent started")
        self.assertIn(f"process {agent.pid}", lines[1])
        self.assertIn("1 participant: 1 waiting", lines)
        self.assertEqual(lines[-1], "no apps registered")

    def test_hold(self) -> None:
        """During a hold the first line says for how long it lasts yet; all of it is told."""
        agent = self.agent_with(self.programs.command("one"))
        self.assertEqual(agent.get("/sync").status, 200)
        lines = self.status(agent)
        self.assertRegex(lines[0], r"^HOLDING window \w+-\w+ for (1m\d\ds|2m00s) more$")
        self.assertTrue(any(line.startswith("the window opened at ") for line in lines), lines)
        self.assertRegex(lines[-3], r"^  command:one  frozen  \d\.\d{3} s  ok$")
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertRegex(self.status(agent)[0], r"^idle; last window \w+-\w+ synced$")

    def test_freezing(self) -> None:
        """A freeze that lasts is told as such."""
        agent = self.agent_with(self.programs.command("one", "stay gate"))
        connection = self.start(agent, "/sync")
        self.programs.wait_for("at gate")
        self.assertRegex(self.status(agent)[0], r"^freezing window \w+-\w+$")
        self.programs.let_on("gate")
        self.assertEqual(connection.answer().status, 200)

    def test_failed(self) -> None:
        """After a window that failed, why and with what last words is told, made printable."""
        freeze = r'printf "first\033[31m\nlast words\n"; exit 3'
        agent = self.agent_with(self.programs.command("one", freeze))
        self.assertEqual(agent.get("/sync").status, 500)
        lines = self.status(agent, good=False)
        self.assertRegex(lines[0], r"^idle; last window \w+-\w+ failed$")
        self.assertIn("1 problem:", lines)
        self.assertTrue(any("command:one: " in line and "last words" in line for line in lines))
        self.assertIn(r"    | first\x1b[31m", lines)
        self.assertIn("    | last words", lines)

    def test_absent(self) -> None:
        """An app that is required and not registered is named, and is not good."""
        agent = self.agent_with("[app:orders]\n[app:bills]\nrequired = no")
        lines = self.status(agent, good=False)
        self.assertIn("1 required app NOT REGISTERED, start:", lines)
        self.assertIn("  orders", lines)
        self.assertNotIn("  bills", lines)

    def test_json(self) -> None:
        """The answer comes as JSON too, with the same exit status."""
        agent = self.agent_with("[app:orders]")
        document = json.loads("\n".join(self.status(agent, "--json", good=False)))
        self.assertEqual((document["state"], document["pid"]), ("idle", agent.pid))
        self.assertEqual(document["absent"], ["orders"])

    def test_agent_down(self) -> None:
        """Without an agent it says so, whether or not a socket is left."""
        agent = self.agent_with()
        agent.kill()
        agent.wait()
        said = "\n".join(self.status(agent, good=False))
        self.assertIn(f"nobody listens on {agent.control}", said)
        agent.start()
        # It accepts connections a moment before its reactor runs and takes signals.
        self.assertEqual(agent.get("/nothing").status, 404)
        agent.stop()
        said = "\n".join(self.status(agent, good=False))
        self.assertIn(f"there is no control socket {agent.control}: the agent is not running", said)

    def test_other_user(self) -> None:
        """Who may not connect is told who may; a member of the group may, and sees no output."""
        needs.root()
        agent = self.agent_with(
            self.programs.command("one", "echo secret; exit 1"), options="control_group = nogroup"
        )
        agent.runtime_directory.parent.chmod(0o755)
        agent.get("/sync")
        path = str(agent.control)
        said = self.ask_as("status", group=1, path=path)
        self.assertIn(f"user {NOBODY} may not connect to {path}", said)
        self.assertIn("control_group", said)
        said = self.ask_as("status", group=NOBODY, path=path)
        self.assertIn("idle; last window", said)
        self.assertNotIn("| secret", said)
        said = self.ask_as("thaw", group=NOBODY, path=path)
        self.assertIn("thaw_now is for root and the agent's own user", said)

    def ask_as(self, subcommand: str, *, group: int, path: str) -> str:
        """Ask as another user, of one group, who is told that all is not well."""
        command = AS_OTHER.format(subcommand=subcommand, group=group, user=NOBODY)
        return self.ask(subcommand, command=command, status=1, XOHOOK_CONTROL=path)

    def test_broken_configuration(self) -> None:
        """Mistakes in the configuration keep nobody from asking."""
        agent = self.agent_with()
        text = agent.configuration.read_text()
        agent.configuration.write_text(f"{text}\nnonsense = 1\nhold_limit = soon\n[what]\n")
        self.assertIn("idle;", self.status(agent)[0])

    def test_no_control(self) -> None:
        """Where the agent is to have no socket, it says what to do."""
        agent = Agent(Path(self.mktemp()).resolve(), "control = no")
        self.assertIn("set control = yes", "\n".join(self.status(agent, good=False)))

    def test_runtime_directory(self) -> None:
        """By default the socket is looked for in the runtime directory that the file names."""
        file = Path(self.mktemp())
        file.write_text("[xohook]\nruntime_directory = /nowhere/run\n")
        said = self.ask("status", "-c", str(file), status=1)
        self.assertIn("there is no control socket /nowhere/run/control.sock", said)

    def test_directory_of_a_unit(self) -> None:
        """The runtime directory of another unit of systemd is not taken for the agent's."""
        file = Path(self.mktemp())
        file.write_text("")
        said = self.ask("status", "-c", str(file), status=None, RUNTIME_DIRECTORY="/run/orders")
        self.assertNotIn("/run/orders", said)

    def test_environment(self) -> None:
        """Without -c the environment says where the socket is, and with it the file does."""
        agent = self.agent_with()
        self.assertIn("idle;", self.ask("status", XOHOOK_CONTROL=str(agent.control)))
        nowhere = "/nowhere/control"
        self.assertIn(nowhere, self.ask("status", status=1, XOHOOK_CONTROL=nowhere))
        file = str(agent.configuration)
        self.assertIn("idle;", self.ask("status", "-c", file, XOHOOK_CONTROL=nowhere))

    def test_narrow_terminal(self) -> None:
        """What the terminal's encoding lacks is escaped."""
        agent = self.agent_with(self.programs.command("one", "echo 5 €; exit 1"))
        agent.get("/sync")
        file = str(agent.configuration)
        said = self.ask("status", "-c", file, status=1, PYTHONIOENCODING="latin-1")
        self.assertIn(r"| 5 \u20ac", said)

    def test_mistyped_file(self) -> None:
        """Another agent is not taken for the one whose file was mistyped."""
        agent = self.agent_with()
        self.assertTrue(agent.control.exists())
        told = {"RUNTIME_DIRECTORY": str(agent.runtime_directory)}
        for subcommand in ("status", "thaw"):
            said = self.ask(subcommand, "-c", "/not/there.ini", status=1, **told)
            self.assertIn("/not/there.ini: cannot be read: No such file", said)

    def test_writes_nothing(self) -> None:
        """It makes no ``.pyc``, but of the two files that Python runs before it can be told so."""
        copy = Path(self.mktemp()).resolve()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(xohook.__file__).parent, copy / "xohook", ignore=ignored)
        path = os.pathsep.join((str(copy), self.environment["PYTHONPATH"]))
        told = {"XOHOOK_CONTROL": "/nowhere/control", "PYTHONDONTWRITEBYTECODE": ""}
        self.assertIn("/nowhere/control", self.ask("status", status=1, PYTHONPATH=path, **told))
        made = {str(each.relative_to(copy)).split(".")[0] for each in copy.rglob("*.pyc")}
        self.assertEqual(made, {"xohook/__pycache__/__init__", "xohook/cli/__pycache__/__init__"})

    def test_unusable_path(self) -> None:
        """A path that cannot be a socket's is refused in words."""
        for path in ("/" + "x" * 200, __file__, f"{__file__}/socket"):
            self.assertIn(path, self.ask("status", status=1, XOHOOK_CONTROL=path))


class StrangerTests(AskedTestCase):
    """Whatever is at the other end, it is told in words."""

    def setUp(self) -> None:
        super().setUp()
        # The test's own directory may be too deep for a socket in it (unix(7)).
        short = tempfile.TemporaryDirectory(prefix="xohook-")
        self.addCleanup(short.cleanup)
        self.control = Path(short.name) / "control"

    def answered(self, answer: bytes, subcommand: str = "status") -> str:
        """Ask what answers so, and at once closes the connection if that is nothing."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.control))
            listening.listen()

            def serve() -> None:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(answer)
                    while answer and connection.recv(1024):
                        pass

            server = threading.Thread(target=serve)
            server.start()
            try:
                return self.ask(subcommand, status=1, XOHOOK_CONTROL=str(self.control))
            finally:
                server.join()
                self.control.unlink()

    def test_closed(self) -> None:
        """An end of the connection before the answer is told."""
        self.assertIn("closed the connection", self.answered(b""))

    def test_nonsense(self) -> None:
        """What is no answer comes from no agent."""
        for nonsense in (
            b"220 mail ready\n",
            b"[]\n",
            b'{"id": 1}\n',
            b'{"id": 1, "error": "x"}\n',
            b'{"id": [1], "result": {}}\n',
            b'{"id": {}, "error": {"code": 1, "message": "x"}}\n',
            b'{"id": 1, "error": {"code": 1}}\n',
            b'{"id": 1, "error": {"code": 1, "message": 2}}\n',
            b"[" * 100_000 + b"\n",
        ):
            self.assertIn("is not the agent", self.answered(nonsense))

    def test_full(self) -> None:
        """An agent that takes no more connections is understood, and notifications are not it."""
        note = b'{"jsonrpc": "2.0", "method": "event", "params": {}}\n'
        error = b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32004, "message": "full"}}\n'
        self.assertEqual(self.answered(note + error), "full\n")

    def test_full_and_closed(self) -> None:
        """Its reason is told though it has closed the connection before it is asked."""
        error = {"code": -32004, "message": "full"}
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.control))
            listening.listen()
            with Connection(self.control) as connection:
                full, _ = listening.accept()
                full.sendall(json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode())
                full.sendall(b"\n")
                full.close()
                refused = self.assertRaises(CallError, connection.call, "status")
        self.assertEqual((refused.code, str(refused)), (-32004, "full"))

    def test_stuck(self) -> None:
        """What an earlier thaw has left frozen is told, though there is no window to end."""
        results: tuple[dict[str, Any], ...] = (
            {
                "window": None,
                "state": "idle",
                "participants": [],
                "thawed": False,
                "unthawed": [{"name": "filesystem:data", "mounts": ["/srv"], "problem": "no"}],
            },
            {"version": "1.0"},
            {"open": False},
        )
        lines = (
            json.dumps({"jsonrpc": "2.0", "id": number, "result": result})
            for number, result in enumerate(results, 1)
        )
        said = self.answered("".join(f"{line}\n" for line in lines).encode(), "thaw")
        self.assertIn("NOT ALL IS THAWED", said)
        self.assertIn("filesystem:data: /srv (no)", said)


class ThawTests(AskedTestCase):
    """``xohook thaw`` ends the present window."""

    def thaw(self, agent: Agent, *arguments: str, good: bool = True) -> str:
        return self.ask("thaw", "-c", str(agent.configuration), *arguments, status=not good)

    def test_idle(self) -> None:
        """With no window open it says that nothing is frozen."""
        self.assertEqual(self.thaw(self.agent_with()), "nothing is frozen: no window is open\n")

    def test_hold(self) -> None:
        """A hold ends stopped, all of it thawed, and /post-sync hears of it."""
        agent = self.agent_with(self.programs.command("one"), self.programs.command("two"))
        self.assertEqual(agent.get("/sync").status, 200)
        said = self.thaw(agent)
        self.assertRegex(said, r"^thawed; window \w+-\w+ stopped\n")
        self.assertIn("2 participants: 2 thawed\n", said)
        self.assertIn("thaw one stopped", self.programs.journal)
        self.assertIn("thaw two stopped", self.programs.journal)
        self.assertEqual(agent.outcomes, ["stopped"])
        self.assertEqual(agent.get("/post-sync").status, 500)

    def test_freeze(self) -> None:
        """A freeze is broken off and undone."""
        agent = self.agent_with(self.programs.command("one", "sleep 1000"))
        connection = self.start(agent, "/sync")
        self.programs.wait_for("freeze one")
        self.assertIn(" stopped\n", self.thaw(agent))
        self.assertEqual(connection.answer().status, 500)
        self.assertEqual(self.programs.journal, ["freeze one", "thaw one stopped"])

    def test_not_thawed(self) -> None:
        """A thaw that fails is told, with exit 1."""
        agent = self.agent_with(self.programs.command("one", thaw="echo no way; exit 4"))
        self.assertEqual(agent.get("/sync").status, 200)
        said = self.thaw(agent, good=False)
        self.assertRegex(said, r"^NOT ALL IS THAWED; window \w+-\w+ stopped\n")
        self.assertIn("exit status 4: no way", said)

    def test_json(self) -> None:
        """The answer comes as JSON too, with the same exit status."""
        agent = self.agent_with(self.programs.command("one", thaw="exit 4"))
        self.assertEqual(json.loads(self.thaw(agent, "--json"))["thawed"], True)
        self.assertEqual(agent.get("/sync").status, 200)
        document = json.loads(self.thaw(agent, "--json", good=False))
        self.assertEqual((document["state"], document["thawed"]), ("stopped", False))

    def test_slow(self) -> None:
        """It waits for as long as the thaw lasts, and says for whom."""
        agent = self.agent_with(self.programs.command("one", thaw="stay gate"))
        self.assertEqual(agent.get("/sync").status, 200)
        with subprocess.Popen(
            [sys.executable, "-c", COMMAND, "thaw", "-c", agent.configuration],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            self.assertTrue(
                process.stderr.readline().startswith("waiting for the thaw of command:one ")
            )
            self.programs.let_on("gate")
            said, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, said)
        self.assertIn(" stopped\n", said)

    def test_hanging_agent(self) -> None:
        """An agent that answers nothing is told to hang, and what was asked is done later."""
        agent = self.agent_with(self.programs.command("one"))
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill(signal.SIGSTOP)
        self.assertIn("does not answer within 10 s", self.thaw(agent, good=False))
        agent.kill(signal.SIGCONT)
        eventually(lambda: agent.outcomes == ["stopped"], "the window has ended")
