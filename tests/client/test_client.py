"""What an app imports: its arguments, its texts, and what its import brings along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.client import Registration, describe_error

SOURCES = Path(__file__).parents[2] / "src"

#: Imports the client where nothing is installed, and names what came with it.
BARE = """
import sys
sys.path.insert(0, sys.argv[1])
import xohook.client
print(*sys.modules)
"""


class ErrorTests(SynchronousTestCase):
    """Exceptions in one line."""

    def test_line(self) -> None:
        """The type and the text, in one printable line of 500 characters at most."""
        self.assertEqual(describe_error(OSError("no\n room \x1b")), "OSError: no room \\x1b")
        self.assertEqual(describe_error(ValueError()), "ValueError")
        self.assertEqual(len(describe_error(ValueError("\udc80" * 10_000_000))), 500)

    def test_no_text(self) -> None:
        """An exception whose text raises another one is described all the same."""

        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        self.assertIn("MuteError", describe_error(MuteError()))


class ArgumentTests(SynchronousTestCase):
    """What a registration is given."""

    def test_name(self) -> None:
        """A name that cannot be one is refused at once."""
        for name in ("", "two words", "a" * 65, "é", "a\n"):
            with self.assertRaises(ValueError):
                Registration(name, freeze=print, thaw=print)

    def test_numbers(self) -> None:
        """So is a number that JSON does not have."""
        with self.assertRaises(ValueError):
            Registration("a", freeze=print, thaw=print, freeze_timeout=float("inf"))

    def test_not_started(self) -> None:
        """What has not been started is not registered, says so, and can be closed."""
        registration = Registration("a", freeze=print, thaw=print)
        self.assertFalse(registration.registered)
        self.assertIn("not been started", registration.problem)
        self.assertFalse(registration.wait(0))
        registration.close()
        self.assertRaises(RuntimeError, registration.start)


class CallbackTests(SynchronousTestCase):
    """The callbacks as parameters and as decorated functions."""

    def test_decorated(self) -> None:
        """A decorated function stays what it was."""
        registration = Registration("a")
        self.assertIs(registration.freeze(print), print)
        self.assertIs(registration.thaw(print), print)

    def test_twice(self) -> None:
        """A second callback for the same operation is an error that names both ways to set one."""
        registration = Registration("orders", freeze=print)
        with self.assertRaises(RuntimeError) as raised:
            registration.freeze(print)
        self.assertIn("orders has a freeze callback already", str(raised.exception))
        registration.thaw(print)
        self.assertRaises(RuntimeError, registration.thaw, print)

    def test_missing(self) -> None:
        """A registration without one of its callbacks does not start, and says which is missing."""
        for given, missing in (("freeze", "thaw"), ("thaw", "freeze")):
            registration = Registration("orders")
            getattr(registration, given)(print)
            with self.assertRaises(RuntimeError) as raised:
                registration.start()
            self.assertIn(f"orders has no {missing} callback", str(raised.exception))
            self.assertIn(f"@registration.{missing}", str(raised.exception))


class ImportTests(SynchronousTestCase):
    """What comes with the client."""

    def test_standard_library_alone(self) -> None:
        """It is imported where nothing is installed, and asyncio does not come with it."""
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", BARE, SOURCES],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        loaded = set(done.stdout.split())
        own = {name for name in loaded if name.startswith("xohook")}
        self.assertIn("xohook.client.threads", own)
        self.assertEqual({name for name in own if not name.startswith("xohook.client")}, {"xohook"})
        roots = {name.partition(".")[0] for name in loaded - own}
        self.assertEqual(roots - sys.stdlib_module_names - {"__main__"}, set())
        self.assertNotIn("asyncio", loaded)
