"""A thaw by programs that cannot be run in its turn is still owed, and is run when it can be."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.asking import OwingTestCase
from tests.integration.programs import Programs
from xohook.host.pids import start_time

PLENTY = 4096
"""Open files that the agent may have when it is not short of them."""


class OwedTestCase(OwingTestCase):
    """Asks the agent and the record what is owed."""

    agent: Agent

    def open_programs(self) -> None:
        """Have the programs where every user can run them and note what they do."""
        needs.root()
        directory = Path(tempfile.mkdtemp(prefix="xohook-")).resolve()
        self.addCleanup(shutil.rmtree, directory)
        directory.chmod(0o755)
        self.programs = Programs(directory / "programs")
        self.programs.directory.chmod(0o777)
        (self.programs.directory / "journal").chmod(0o666)

    def thaws(self) -> list[str]:
        """Return the thaws that were run, in order."""
        return [note for note in self.programs.journal if note.startswith("thaw")]

    def assert_done(self) -> None:
        """See that nothing is owed any more."""
        eventually(lambda: not self.unthawed(), "nothing is owed")
        self.assertEqual(self.record(), [])
        stamp = self.agent.state_directory / "stamp.json"
        eventually(lambda: not stamp.exists(), "the stamp is removed")

    def scripts(self, **scripts: str) -> str:
        """Write a ``[scripts:all]`` section and its scripts, which note what they are run with."""
        directory = self.programs.directory / "all"
        directory.mkdir(exist_ok=True)
        for name, line in scripts.items():
            self.programs.write(f"all/{name}", f'note "$1" {name}', line)
        return f"[scripts:all]\ndirectory = {directory}\n"


class ShortageTests(OwedTestCase):
    """No process can be started when it is time to thaw."""

    def limit(self, files: int) -> None:
        """Let the agent open so many files."""
        _, most = resource.prlimit(self.agent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.agent.pid, resource.RLIMIT_NOFILE, (files, most))

    def freeze_and_be_short(self, *sections: str) -> None:
        """Freeze, and have the thaw fail."""
        self.agent = self.agent_with(*sections)
        with self.agent.connect() as connection:
            self.assertEqual(connection.get("/sync", self.agent.credentials).status, 200)
            self.limit(5)
            answer = connection.get("/post-sync", self.agent.credentials)
        self.assertEqual(answer.status, 500)
        self.assertIn("no process can be started: Too many open files", answer.body.decode())

    def test_command(self) -> None:
        """The thaw of a command is run once, when the shortage is over."""
        self.freeze_and_be_short(self.programs.command("a"))
        self.assertEqual([entry["name"] for entry in self.record()], ["command:a"])
        self.assertTrue((self.agent.state_directory / "stamp.json").exists())
        self.limit(PLENTY)
        self.programs.wait_for("thaw a synced")
        self.assert_done()
        self.assertEqual(self.thaws(), ["thaw a synced"])

    def test_scripts(self) -> None:
        """So are the thaws of all scripts, in reverse order."""
        self.freeze_and_be_short(self.scripts(a="", b=""))
        self.limit(PLENTY)
        self.programs.wait_for("thaw a")
        self.assert_done()
        self.assertEqual(self.thaws(), ["thaw b", "thaw a"])

    def test_no_window(self) -> None:
        """No window opens over it; the thaw is tried before that is said."""
        self.freeze_and_be_short(self.programs.command("a"))
        with contextlib.ExitStack() as stack:
            # Accepted only when the agent can open a file again.
            self.limit(PLENTY)
            connection = stack.enter_context(self.agent.connect())
            answer = connection.get("/sync", self.agent.credentials)
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.programs.journal, ["freeze a", "thaw a synced", "freeze a"])

    def test_restart(self) -> None:
        """The next start runs it."""
        self.freeze_and_be_short(self.programs.command("a"))
        self.agent.kill()
        self.agent.wait()
        self.assertEqual(self.thaws(), [])
        self.agent.start()
        self.assertEqual(self.thaws(), ["thaw a recovered"])
        self.assert_done()

    def test_failed(self) -> None:
        """It is run once, and a failure is logged."""
        self.freeze_and_be_short(self.programs.command("a", thaw="exit 3"))
        self.limit(PLENTY)
        self.agent.wait_for_log("command:a NOT THAWED: exit status 3")
        self.assert_done()
        self.assertEqual(self.thaws(), ["thaw a synced"])

    def test_log_goes_on(self) -> None:
        """The log does not wait: no filesystem is frozen."""
        self.freeze_and_be_short(self.programs.command("a"))
        self.agent.wait_for_log("command:a may still be frozen")


class ShortStartTests(OwedTestCase):
    """The user of a thaw's program may have no more processes when the agent starts."""

    def have_a_process(self, user: str) -> None:
        """Have the user run one: the kernel lets a user who runs none begin, whatever the limit."""
        arguments = [needs.program("sleep"), "infinity"]
        process = subprocess.Popen(arguments, user=needs.user(user).pw_uid)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def test_restart(self) -> None:
        """A start that cannot run the thaw leaves it owed, and the agent runs it later."""
        self.open_programs()
        self.have_a_process("nobody")
        section = self.programs.command("a", user="nobody")
        self.agent = agent = self.agent_with(section)
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill()
        agent.wait()
        # Whoever has one of these is not limited (getrlimit(2)).
        limited = ("setpriv", "--bounding-set=-sys_resource,-sys_admin")
        agent.launcher = (*limited, needs.program("prlimit"), "--nproc=0:")
        agent.start()
        self.assertEqual(self.thaws(), [])
        self.assertIn("could not be run", self.unthawed()[0]["problem"])
        shortage = "no process can be started: "
        eventually(lambda: shortage in self.unthawed()[0]["problem"], "it is tried again")
        _, most = resource.prlimit(agent.pid, resource.RLIMIT_NPROC)
        resource.prlimit(agent.pid, resource.RLIMIT_NPROC, (most, most))
        self.programs.wait_for("thaw a recovered")
        self.assert_done()


class MutedAgent(Agent):
    """An agent that may not signal the processes of other users."""

    launcher = ("setpriv", "--bounding-set=-kill")


class UnkillableTests(OwedTestCase):
    """A freeze that runs as another user outlasts its time, and may not be ended."""

    def setUp(self) -> None:
        needs.program("setpriv")
        super().setUp()
        self.open_programs()

    def begin(self, section: str, gate: str = "late") -> int:
        """Have the freeze outlast its time; the number of its process comes back."""
        options = "user = nobody\nfreeze_timeout = 1s\n"
        self.agent = MutedAgent.for_test(self, "", section + options)
        answer = self.agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.programs.wait_for(f"at {gate}")
        pid = self.programs.number("pid")
        self.addCleanup(end, pid)
        return pid

    def command(self) -> str:
        """Write a command whose freeze stays, and freezes in the end."""
        return self.programs.command("a", f"{self.tell_pid}; stay late; note frozen")

    @property
    def tell_pid(self) -> str:
        """Write down the process's number."""
        return f"trap '' TERM; echo $$ >{self.programs.directory}/pid"

    def assert_waits(self, name: str, pid: int) -> None:
        """See that the thaw is still owed, that all say why, and that no window opens."""
        eventually(lambda: self.unthawed(), "it is owed")
        [unthawed] = self.unthawed()
        self.assertEqual((unthawed["name"], unthawed["mounts"]), (name, []))
        self.assertIn(f"process {pid}", unthawed["problem"])
        self.assertIn(f"kill {pid}", unthawed["problem"])
        [entry] = self.record()
        self.assertEqual(entry["process"], {"pid": pid, "started": start_time(pid)})
        answer = self.agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(f"{name} may still be frozen", answer.body.decode())

    def test_command(self) -> None:
        """The thaw is run when the freeze has ended, and not before."""
        pid = self.begin(self.command())
        self.assert_waits("command:a", pid)
        self.assertEqual(self.thaws(), [])
        self.programs.let_on("late")
        self.programs.wait_for("thaw a failed")
        self.assertEqual(self.programs.journal[-2:], ["frozen", "thaw a failed"])
        self.assert_done()

    def test_log(self) -> None:
        """The log says NOT THAWED, and does not claim that SIGKILL was sent."""
        pid = self.begin(self.command())
        self.agent.wait_for_log("command:a NOT THAWED")
        self.agent.wait_for_log(f"process {pid} runs as another user and cannot be ended")
        self.assertNotIn("SIGKILL", self.agent.log)

    def test_asked(self) -> None:
        """``xohook status`` and ``xohook thaw`` name it, and exit 1."""
        pid = self.begin(self.command())
        eventually(lambda: self.unthawed(), "it is owed")
        said = self.ask("status", "-c", str(self.agent.configuration), status=1)
        self.assertIn("MAY STILL BE FROZEN, thaw tried again and again: command:a (", said)
        said = self.ask("thaw", "-c", str(self.agent.configuration), status=1)
        self.assertIn(f"kill {pid}", said)
        self.assertNotIn("fsfreeze", said)
        self.programs.let_on("late")
        eventually(lambda: start_time(pid) is None, "it has ended")
        self.ask("thaw", "-c", str(self.agent.configuration))
        self.assertEqual(self.thaws(), ["thaw a failed"])

    def test_forget(self) -> None:
        """``xohook thaw --forget`` gives it up; the next freeze is refused while it runs on."""
        pid = self.begin(self.command())
        eventually(lambda: self.unthawed(), "it is owed")
        self.ask("thaw", "-c", str(self.agent.configuration), "--forget", "command:a")
        self.assertEqual((self.unthawed(), self.record()), ([], []))
        answer = self.agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(f"kill {pid}", answer.body.decode())
        self.assertEqual(self.programs.journal.count("freeze a"), 1)

    def test_scripts(self) -> None:
        """The scripts before it are thawed at once, it when its freeze has ended."""
        late = f'[ "$1" = thaw ] || {{ {self.tell_pid}; stay late; note frozen; }}'
        pid = self.begin(self.scripts(a="", b=late))
        self.assert_waits("scripts:all", pid)
        self.assertEqual(self.thaws(), ["thaw a"])
        self.programs.let_on("late")
        self.programs.wait_for("thaw b")
        self.assertEqual(self.programs.journal[-2:], ["frozen", "thaw b"])
        self.assert_done()

    def test_killed(self) -> None:
        """The start after ``kill -9`` of the agent waits for it too."""
        pid = self.begin(self.command())
        self.assert_waits("command:a", pid)
        os.kill(self.agent.pid, signal.SIGKILL)
        self.agent.wait()
        self.agent.start()
        self.assert_waits("command:a", pid)
        self.assertEqual(self.thaws(), [])
        self.programs.let_on("late")
        self.programs.wait_for("thaw a recovered")
        self.assertEqual(self.programs.journal[-2:], ["frozen", "thaw a recovered"])
        self.assert_done()

    def test_killed_in_the_freeze(self) -> None:
        """So does one that was killed in the middle of the freeze."""
        section = self.command() + "user = nobody\n"
        self.agent = MutedAgent.for_test(self, "", section)
        self.start(self.agent, "/sync")
        self.programs.wait_for("at late")
        pid = self.programs.number("pid")
        self.addCleanup(end, pid)
        os.kill(self.agent.pid, signal.SIGKILL)
        self.agent.wait()
        self.agent.start()
        self.assert_waits("command:a", pid)
        self.assertEqual(self.thaws(), [])
        self.programs.let_on("late")
        self.programs.wait_for("thaw a recovered")
        self.assert_done()

    def test_member(self) -> None:
        """So is a freeze of which one process can be ended, and another one cannot."""
        number = needs.user("nobody").pw_uid
        late = self.programs.write("late", self.tell_pid, "stay late; note frozen")
        freeze = f"setpriv --reuid={number} --clear-groups {late}; note unreached"
        section = self.programs.command("a", freeze, freeze_timeout="1s")
        self.agent = MutedAgent.for_test(self, "", section)
        self.assertEqual(self.agent.get("/sync").status, 500)
        pid = self.programs.number("pid")
        self.addCleanup(end, pid)
        self.assert_waits("command:a", pid)
        self.agent.kill()
        self.agent.wait()
        self.agent.start()
        self.assert_waits("command:a", pid)
        self.programs.let_on("late")
        self.programs.wait_for("thaw a recovered")
        self.assertEqual(self.programs.journal[-2:], ["frozen", "thaw a recovered"])
        self.assert_done()

    def test_late_thaw(self) -> None:
        """A thaw that outlasts its time has run once; the next freeze waits for its end."""
        # The thaw of the second window follows when this one has been killed. It has to end.
        late = f'[ "$XOHOOK_OUTCOME" = failed ] || {{ {self.tell_pid}; stay late; }}'
        section = self.programs.command("a", thaw=late)
        options = "user = nobody\nthaw_timeout = 1s\n"
        self.agent = MutedAgent.for_test(self, "", section + options)
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assertEqual(self.agent.get("/post-sync").status, 500)
        pid = self.programs.number("pid")
        self.addCleanup(end, pid)
        self.assertEqual(self.unthawed(), [])
        answer = self.agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(f"kill {pid}", answer.body.decode())
        self.assertEqual(self.programs.journal.count("freeze a"), 1)


def end(pid: int) -> None:
    """Kill a process that may have ended.

    :param pid: its number.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
