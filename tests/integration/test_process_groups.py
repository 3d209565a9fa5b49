"""Tests for :mod:`xohook.processes.process`: process groups and their ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests import needs
from tests.integration.agent import eventually
from tests.integration.footprint import children
from tests.integration.process_case import ProcessTestCase, lives, reactor
from xohook.host.pids import start_time
from xohook.processes.process import KILL_AFTER, end_leftover

#: Run as another user, tells what that user's agent makes of a group that is root's.
LEFTOVER_OF_ANOTHER = """
import os, sys
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from xohook.host.pids import start_time
from xohook.processes.process import end_leftover
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
