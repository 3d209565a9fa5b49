"""The plain style of the client in programs that end or fork, against a scripted agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.fake_control import FakeControl

#: What ends with its registration in some state: the path, and what the script is to do then.
APP = """
import logging, os, sys, threading, time
from xohook.client import Registration
logging.getLogger().addHandler(logging.NullHandler())
def tell(word):
    os.write(1, word.encode() + b"\\n")
def freeze(freeze):
    tell("freeze")
    {freeze}
def thaw(thaw):
    tell(f"thaw {{thaw.outcome}}")
registration = Registration("orders", freeze=freeze, thaw=thaw, control=sys.argv[1])
registration.start()
{main}
"""

#: Seconds that an app has for its end: more than it is given by the client, far less than forever.
PROMPT = 20.0


class ExitTests(SynchronousTestCase):
    """The end of a program that has registered, and its children."""

    def setUp(self) -> None:
        self.agent = FakeControl(self)

    def start(self, main: str = "", freeze: str = "") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                sys.executable,
                # From Python 3.12 on it warns of a fork beside threads.
                *("-W", "ignore::DeprecationWarning"),
                *("-c", APP.format(main=main, freeze=freeze)),
                self.agent.path,
            ],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def assertEnds(self, process: subprocess.Popen[bytes], printed: str = "") -> None:
        """See that a program ends soon, well and silently."""
        out, err = process.communicate(timeout=PROMPT)
        self.assertEqual((process.returncode, err.decode()), (0, ""))
        self.assertEqual(out.decode().split("\n")[:-1], printed.split(", ") if printed else [])

    def test_registering(self) -> None:
        """A program ends while it connects."""
        self.assertEnds(self.start())

    def test_backing_off(self) -> None:
        """A program ends while it waits to try again."""
        self.agent.path.unlink()
        self.assertEnds(self.start("while 'cannot' not in registration.problem: time.sleep(.01)"))

    def test_not_answered(self) -> None:
        """A program ends while the agent does not answer."""
        process = self.start("sys.stdin.read()")
        self.agent.accept().receive()
        self.assertEnds(process)

    def test_frozen(self) -> None:
        """A program that ends while it is frozen is thawed."""
        process = self.start("sys.stdin.read()")
        end = self.agent.accept_registration()
        end.freeze("a")
        end.receive()
        self.assertEnds(process, "freeze, thaw broken")

    def test_descriptors_closed(self) -> None:
        """A program that closes all descriptors is thawed, and registers anew."""
        process = self.start("sys.stdin.read()", freeze="os.closerange(3, 256)")
        end = self.agent.accept_registration()
        end.freeze("a")
        self.assertEqual(end.receive(), {})
        self.agent.accept_registration()
        self.assertEnds(process, "freeze, thaw broken")

    def test_callback_does_not_end(self) -> None:
        """A callback that does not end does not keep a program from its end."""
        process = self.start("sys.stdin.read()", freeze="threading.Event().wait()")
        end = self.agent.accept_registration()
        end.freeze("a")
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"freeze\n")
        self.assertEnds(process)

    def test_broken_pipe(self) -> None:
        """An answer that finds nobody is no program's end, and does not stop it from listening."""
        process = self.start(
            "import signal\n"
            "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
            "tell('ready'); sys.stdin.read()"
        )
        end = self.agent.accept_registration()
        assert process.stdout is not None
        self.assertEqual(process.stdout.readline(), b"ready\n")
        end.stop_reading()
        end.freeze("a")
        self.assertEqual(process.stdout.readline(), b"freeze\n")
        end.thaw("a")
        self.assertEqual(process.stdout.readline(), b"thaw synced\n")
        self.assertEnds(process)

    def test_fork(self) -> None:
        """The parent's death is seen, whatever its children do; they neither thaw nor close."""
        process = self.start(
            "sys.stdin.readline()\n"
            "if os.fork() == 0:\n"
            "    tell(registration.problem); registration.close(); tell('child')\n"
            "    sys.stdin.read(); os._exit(0)\n"
            "sys.stdin.readline(); os._exit(0)"
        )
        end = self.agent.accept_registration()
        end.freeze("a")
        end.receive()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(3)]
        self.assertEqual(lines, [b"freeze\n", b"it has been closed\n", b"child\n"])
        end.thaw("a")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        # Only now, so that the parent is the one that reads it.
        process.send_signal(signal.SIGKILL)
        self.assertEqual(end.receive(), {})
        self.assertEqual(process.stdout.readline(), b"thaw synced\n")

    def test_fork_in_callback(self) -> None:
        """A child that was forked in a callback does nothing more."""
        process = self.start("sys.stdin.read()", freeze="os.fork()")
        end = self.agent.accept_registration()
        end.freeze("a")
        self.assertEqual(end.receive(), {"id": "freeze a", "result": {}})
        end.thaw("a")
        self.assertEqual(end.receive(), {"id": "thaw a", "result": {}})
        self.assertEnds(process, "freeze, thaw synced")
