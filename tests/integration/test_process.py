"""Tests for :mod:`xohook.process` with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests import needs
from tests.integration.agent import eventually
from tests.integration.footprint import children
from xohook.accounts import look_up
from xohook.pids import start_time
from xohook.process import (
    KILL_AFTER,
    OUTPUT_KEPT,
    Ended,
    IProcessReactor,
    Program,
    Run,
    end_leftover,
)
from xohook.settings import Account

reactor = cast(IProcessReactor, global_reactor)

PATH = "/usr/local/bin:/usr/bin:/bin"

#: Run as another user, tells what that user's agent makes of a group that is root's.
LEFTOVER_OF_ANOTHER = """
import os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from xohook.pids import start_time
from xohook.process import end_leftover
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
pid = int(sys.argv[1])
def end():
    done = Deferred.fromCoroutine(end_leftover(reactor, pid, start_time(pid)))
    done.addBoth(lambda result: (print(result), reactor.stop()))
reactor.callWhenRunning(end)
reactor.run()
"""


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be reaped does not."""
    return start_time(pid) is not None


class ProcessTestCase(TestCase):
    """Runs programs, and leaves none behind."""

    def make(self) -> Run:
        run = Run(reactor)
        self.addCleanup(self.clear, run)
        return run

    async def clear(self, run: Run) -> None:
        run.end()
        await run.when_gone()

    def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        directory: str = "/",
        account: Account | None = None,
    ) -> Run:
        run = self.make()
        whole = {"PATH": PATH, **(environment or {})}
        run.begin(Program(arguments, whole, directory, account))
        return run

    async def shell(self, script: str) -> Ended:
        return await self.start("sh", "-c", script).when_ended()

    async def until_written(self, path: Path) -> str:
        while not (path.exists() and path.read_text().endswith("\n")):
            await deferLater(reactor, 0.01)
        return path.read_text().strip()

    def path(self, name: str, text: str = "", mode: int = 0o755) -> Path:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        path = directory / name
        if text:
            path.write_text(text)
            path.chmod(mode)
        return path

    def end_later(self, pid: int) -> None:
        descriptor = os.pidfd_open(pid)

        def end() -> None:
            if lives(pid):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)

        self.addCleanup(end)


class EndedTests(ProcessTestCase):
    """What is told of a program's end."""

    async def test_good(self) -> None:
        """Exit status 0 is good; what it wrote to either stream is kept, in order."""
        ended = await self.shell("echo one; echo two >&2; echo three")
        self.assertTrue(ended.is_good)
        self.assertEqual((ended.output, ended.dropped), (b"one\ntwo\nthree\n", 0))

    async def test_status(self) -> None:
        """Another exit status is told with the last line that the program wrote."""
        ended = await self.shell("echo first; printf 'disk on fire \\n\\n' >&2; exit 3")
        self.assertFalse(ended.is_good)
        self.assertEqual(ended.describe(), "exit status 3: disk on fire")

    async def test_silent(self) -> None:
        """A program that wrote nothing is told of by its status alone."""
        self.assertEqual((await self.shell("exit 4")).describe(), "exit status 4")

    async def test_signal(self) -> None:
        """A program that a signal ended is told of by the signal's name."""
        ended = await self.shell("echo busy; kill -KILL $$")
        self.assertFalse(ended.is_good)
        self.assertEqual(ended.describe(), "ended by SIGKILL: busy")

    async def test_nameless_signal(self) -> None:
        """A real-time signal, which has no name, is told of by its number."""
        ended = await self.start("bash", "-c", "kill -40 $$").when_ended()
        self.assertEqual(ended.describe(), "ended by signal 40")

    async def test_no_utf8(self) -> None:
        """Output that is no UTF-8 is told of all the same."""
        ended = await self.shell("printf 'caf\\351'; exit 1")
        self.assertEqual(ended.describe(), "exit status 1: caf\ufffd")


class UnrunnableTests(ProcessTestCase):
    """A program that cannot be run is told of in one line, with what and why."""

    async def told(self, *arguments: str, directory: str = "/") -> str:
        ended = await self.start(*arguments, directory=directory).when_ended()
        self.assertFalse(ended.is_good)
        description = ended.describe()
        self.assertEqual(len(description.splitlines()), 1, description)
        return description

    async def test_missing(self) -> None:
        """A file that is not there."""
        path = self.path("missing")
        self.assertEqual(await self.told(str(path)), f"cannot run {path}: no such program")

    async def test_not_found(self) -> None:
        """A name that no directory of PATH has is told as it was given, with that PATH."""
        expected = f"cannot run no-such-thing: no such program in {PATH}"
        self.assertEqual(await self.told("no-such-thing"), expected)

    async def test_not_executable(self) -> None:
        """A file without the executable bit."""
        path = self.path("plain", "#!/bin/sh\n", mode=0o644)
        self.assertEqual(await self.told(str(path)), f"cannot run {path}: Permission denied")

    async def test_directory(self) -> None:
        """A directory is no program."""
        self.assertEqual(await self.told("/usr"), "cannot run /usr: Permission denied")

    async def test_bad_interpreter(self) -> None:
        """A script whose interpreter is missing is not called missing itself."""
        path = self.path("script", "#!/no/such/sh\n")
        expected = f"cannot run {path}: what runs it (see its first line) is missing"
        self.assertEqual(await self.told(str(path)), expected)

    async def test_bad_format(self) -> None:
        """A file that is neither a script nor a program of this machine."""
        path = self.path("text", "echo no shebang\n")
        self.assertEqual(await self.told(str(path)), f"cannot run {path}: Exec format error")

    async def test_no_directory(self) -> None:
        """A working directory that is missing is told as such."""
        expected = "cannot run true: in the directory /no/such/place: No such file or directory"
        self.assertEqual(await self.told("true", directory="/no/such/place"), expected)

    async def test_too_large(self) -> None:
        """An environment beyond what the kernel takes."""
        run = self.start("true", environment={"LARGE": "x" * 200_000})
        expected = "Argument list too long"
        self.assertIn(expected, (await run.when_ended()).describe())


class SurroundingsTests(ProcessTestCase):
    """What a program finds around it."""

    async def test_session(self) -> None:
        """It leads its own session and its own process group."""
        # The fields 1, 5 and 6 of /proc/PID/stat are process, group and session (proc(5)).
        run = self.start("cut", "-d", " ", "-f", "1,5,6", "/proc/self/stat")
        ended = await run.when_ended()
        self.assertEqual(ended.output.split(), [str(run.pid).encode()] * 3)

    async def test_input(self) -> None:
        """Its input is /dev/null."""
        ended = await self.shell("readlink /proc/self/fd/0; cat")
        self.assertEqual(ended.output, b"/dev/null\n")

    async def test_files(self) -> None:
        """It has three files open and no other, though the agent has more."""
        with Path("/dev/null").open() as file:
            os.set_inheritable(file.fileno(), True)
            ended = await self.start("ls", "-l", "/proc/self/fd").when_ended()
        places = [line.split()[8:] for line in ended.output.decode().splitlines()[1:]]
        # The fourth is the directory that ls itself reads.
        self.assertEqual([place[0] for place in places], ["0", "1", "2", "3"])
        self.assertEqual(places[0][2], "/dev/null")
        self.assertEqual(places[1][2], places[2][2])

    async def test_signals(self) -> None:
        """It ignores and blocks no signal, SIGPIPE neither."""
        ended = await self.start("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status").when_ended()
        masks = [int(line.split()[1], 16) for line in ended.output.splitlines()]
        # The C library keeps signals 32 and 33 to itself (nptl(7)).
        self.assertEqual([mask & 0x7FFFFFFF for mask in masks], [0, 0], ended.output)

    async def test_no_shell(self) -> None:
        """Its arguments reach it as they are: no shell looks at them."""
        arguments = ("$HOME", "a;b", "*", "`id`", "", "two words", "new\nline", "\u00e9")
        ended = await self.start("printf", "%s|", *arguments).when_ended()
        self.assertEqual(ended.output.decode(), "|".join((*arguments, "")))

    async def test_environment(self) -> None:
        """Its environment is what it is given and nothing else."""
        ended = await self.start("env", environment={"A": "1 2", "B": "=\u00e9"}).when_ended()
        self.assertEqual(
            sorted(ended.output.decode().splitlines()), ["A=1 2", "B==\u00e9", f"PATH={PATH}"]
        )

    async def test_large_environment(self) -> None:
        """An environment of many times what a pipe holds reaches it whole."""
        large = {f"V{number}": str(number % 10) * 100_000 for number in range(12)}
        ended = await self.start(
            "sh", "-c", "env | grep -c '^V'; env | wc -c", environment=large
        ).when_ended()
        count, size = ended.output.split()
        self.assertEqual(int(count), 12)
        self.assertGreater(int(size), 1_200_000)

    async def test_directory(self) -> None:
        """It begins in its directory."""
        self.assertEqual((await self.start("pwd", directory="/usr").when_ended()).output, b"/usr\n")

    async def test_account(self) -> None:
        """It runs as its user, with that user's groups and none of the agent's."""
        needs.root()
        account = look_up("nobody")
        ended = await self.start("sh", "-c", "id -u; id -g; id -G", account=account).when_ended()
        uid, gid, groups = ended.output.decode().splitlines()
        self.assertEqual((int(uid), int(gid)), (account.uid, account.gid))
        self.assertEqual({int(group) for group in groups.split()}, set(account.groups))


class OutputTests(ProcessTestCase):
    """A program's output costs the agent no more than what it keeps."""

    async def test_flood(self) -> None:
        """The last 64 KiB are kept and what came before them is counted."""
        ended = await self.shell("yes | head -c 3000000; echo end")
        self.assertEqual(len(ended.output), OUTPUT_KEPT)
        self.assertTrue(ended.output.endswith(b"y\nend\n"))
        self.assertEqual(ended.dropped, 3_000_004 - OUTPUT_KEPT)

    async def test_last_words(self) -> None:
        """What a program writes right before its end is not lost."""
        for _ in range(20):
            ended = await self.shell("head -c 60000 /dev/zero; echo end")
            self.assertEqual(len(ended.output), 60_004)


class DescendantTests(ProcessTestCase):
    """A program ends with its whole group where it is ended, and alone where it ends itself."""

    async def test_left_behind(self) -> None:
        """A child that holds the output keeps nobody waiting, and lives on."""
        ended = await self.shell("sleep 1000 & echo $!")
        self.assertTrue(ended.is_good)
        pid = int(ended.output)
        self.end_later(pid)
        self.assertTrue(lives(pid))

    async def test_cancelled(self) -> None:
        """Who cancels the wait ends the program and its children by SIGTERM."""
        note = self.path("note")
        run = self.start("sh", "-c", 'trap "" HUP; sleep 1000 & echo $! >"$0"; wait', str(note))
        waiting = run.when_ended()
        child = int(await self.until_written(note))
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        ended = await run.when_ended()
        await run.when_gone()
        self.assertEqual(ended.signal, signal.SIGTERM)
        eventually(lambda: not lives(child), "the child has ended")

    async def test_stubborn(self) -> None:
        """A program that ignores SIGTERM has SIGKILL 2 s later, as have its children."""
        note = self.path("note")
        script = 'trap "" TERM; sleep 1000 & echo $! >"$0"; wait'
        run = self.start("sh", "-c", script, str(note))
        child = int(await self.until_written(note))
        begun = reactor.seconds()
        run.end()
        ended = await run.when_ended()
        await run.when_gone()
        self.assertEqual(ended.signal, signal.SIGKILL)
        # SIGKILL never comes early, however slow the machine is.
        self.assertGreaterEqual(reactor.seconds() - begun, KILL_AFTER - 0.1)
        eventually(lambda: not lives(child), "the child has ended")

    async def test_stubborn_child(self) -> None:
        """A child that ignores SIGTERM is killed though the program itself ended at once."""
        note = self.path("note")
        script = '(trap "" TERM; exec sleep 1000) & echo $! >"$0"; wait'
        run = self.start("sh", "-c", script, str(note))
        child = int(await self.until_written(note))
        cmdline = Path(f"/proc/{child}/comm")
        while cmdline.read_text() != "sleep\n":
            await deferLater(reactor, 0.01)
        run.end()
        ended = await run.when_ended()
        self.assertEqual(ended.signal, signal.SIGTERM)
        self.assertTrue(lives(child))
        await run.when_gone()
        eventually(lambda: not lives(child), "the child has ended")

    async def test_not_begun(self) -> None:
        """A process that is ended before its orders came has run nothing."""
        run = self.make()
        run.end()
        ended = await run.when_ended()
        self.assertFalse(ended.is_good)
        await run.when_gone()
        self.assertFalse(lives(run.pid))

    async def test_reaped(self) -> None:
        """No process is left to be reaped."""
        run = self.start("true")
        await run.when_ended()
        self.assertNotIn(run.pid, children(os.getpid()))

    async def test_after_the_end(self) -> None:
        """Waiting for what has ended, and ending it, takes no time and does nothing."""
        run = self.start("true")
        first = await run.when_ended()
        run.end()
        self.assertEqual(self.successResultOf(run.when_ended()), first)
        self.assertIsNone(self.successResultOf(run.when_gone()))


class LeftoverTests(ProcessTestCase):
    """A group that an earlier run of the agent left behind is ended, and no other."""

    def leave(self, script: str, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sh", "-c", script, *arguments], start_new_session=True)

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

        self.addCleanup(end)
        return process

    async def test_ended(self) -> None:
        """It is ended with SIGTERM."""
        process = self.leave("exec sleep 1000")
        await end_leftover(reactor, process.pid, start_time(process.pid))
        self.assertEqual(process.wait(), -signal.SIGTERM)

    async def test_stubborn_child(self) -> None:
        """A child that ignores SIGTERM is ended too, though the leader has gone before it."""
        note = self.path("note")
        process = self.leave('(trap "" TERM; exec sleep 1000) & echo $! >"$0"; wait', str(note))
        child = int(await self.until_written(note))
        self.end_later(child)
        comm = Path(f"/proc/{child}/comm")
        while comm.read_text() != "sleep\n":
            await deferLater(reactor, 0.01)
        await end_leftover(reactor, process.pid, start_time(process.pid))
        eventually(lambda: not lives(child), "the child has ended")
        self.assertEqual(process.wait(), -signal.SIGTERM)

    async def test_another(self) -> None:
        """A process that has the number now but began at another time is left alone."""
        process = self.leave("exec sleep 1000")
        started = start_time(process.pid)
        assert started is not None
        await end_leftover(reactor, process.pid, started - 1)
        await end_leftover(reactor, process.pid, None)
        self.assertIsNone(process.poll())

    async def test_gone(self) -> None:
        """One that has ended already needs nothing."""
        process = self.leave("exit 0")
        started = start_time(process.pid)
        process.wait()
        await end_leftover(reactor, process.pid, started)

    def test_not_ours(self) -> None:
        """One that may not be ended, as another user's, stops nobody."""
        needs.root()
        process = self.leave("exec sleep 1000")
        done = subprocess.run(
            [sys.executable, "-c", LEFTOVER_OF_ANOTHER, str(process.pid)],
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.stdout, "None\n", done.stderr)
        self.assertIsNone(process.poll())


class StartTimeTests(ProcessTestCase):
    """When a process started names it for good."""

    def test_self(self) -> None:
        """It is the same whenever it is asked for."""
        self.assertIsNotNone(start_time(os.getpid()))
        self.assertEqual(start_time(os.getpid()), start_time(os.getpid()))

    def test_awkward_name(self) -> None:
        """A program's name with blanks and parentheses in it changes nothing."""
        program = self.path("a) R 1 (b", "#!/bin/sh\nread -r _\n")
        process = subprocess.Popen([program], stdin=subprocess.PIPE)
        eventually(
            lambda: Path(f"/proc/{process.pid}/comm").read_text() == "a) R 1 (b\n", "it runs"
        )
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
        self.assertEqual(start_time(process.pid), int(fields[19]))
        process.communicate()

    def test_zombie(self) -> None:
        """A process that has ended has none, even before it is reaped."""
        process = subprocess.Popen(["true"])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self.assertIsNone(start_time(process.pid))
        process.wait()

    def test_missing(self) -> None:
        """A number that no process has has none."""
        process = subprocess.Popen(["true"])
        process.wait()
        self.assertIsNone(start_time(process.pid))


class UnendingTests(ProcessTestCase):
    """Cancelling what waits for a process's going leaves the process alone."""

    async def test_no_more_waiting(self) -> None:
        """Who gives up waiting until a process is gone does not end it."""
        run = self.start("sleep", "1000")
        waiting: Deferred[None] = run.when_gone()
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assertTrue(lives(run.pid))
