"""Interrupts an agent at each step of its way, one after the other.

The steps are those of the agent itself, each call with which it changes something outside of it, as
:mod:`tests.integration.interrupting` counts them; it dies before the call and after it.
"""

from __future__ import annotations

import signal
import ssl
import sys
from itertools import count
from pathlib import Path

from tests import needs
from tests.integration import interrupting
from tests.integration.agent import Agent, accepts, eventually
from tests.integration.disks import DiskTestCase
from tests.integration.holds import Lock, filesystem
from tests.integration.programs import Programs

#: Who notes its freeze and its thaw, in the order of the freeze.
NOTED = ("a", "b", "10-first", "20-second")

#: The order of their thaw.
UNDONE = NOTED[::-1]


class InterruptedTestCase(DiskTestCase):
    """An agent with two commands, two scripts, a session and a filesystem."""

    def setUp(self) -> None:
        self.need_disks()
        needs.program("flock")
        self.disk = self.make_disk()
        self.lock = Lock(Path(self.mktemp()).resolve())
        self.programs = Programs(Path(self.mktemp()).resolve())
        scripts = Path(self.mktemp()).resolve()
        scripts.mkdir()
        for name in NOTED[2:]:
            self.programs.write(name, f'note "$1" {name} $XOHOOK_OUTCOME').rename(scripts / name)
        self.agent = Agent(
            Path(self.mktemp()).resolve(),
            "hold_limit = 10m",
            "\n".join(
                (
                    self.programs.command("a", order=10),
                    self.programs.command("b", order=20),
                    f"[scripts:both]\ndirectory = {scripts}",
                    self.lock.section(),
                    filesystem(self.disk, "data"),
                )
            ),
        )
        self.addCleanup(self.agent.stop)

    def walk(self, target: str, *before: str) -> list[list[str]]:
        """Ask for something again and again, interrupted one step later each time.

        :param target: what is asked for, until it is answered.
        :param before: what is asked for before, and answered.
        :return: what the programs noted in each interrupted window and the start after it.
        """
        journals = []
        for last in count(1):
            self.agent.launcher = (sys.executable, "-m", interrupting.__name__, str(last))
            self.agent.start()
            if last > 1:
                journals.append(self.programs.journal)
                self.assert_as_before()
            self.programs.clear()
            for each in before:
                self.assertEqual(self.agent.get(each).status, 200)
            self.agent.kill(signal.SIGUSR2)
            try:
                self.assertEqual(self.agent.get(target).status, 200)
                # What it does after its answer is part of its way.
                self.assertEqual(self.agent.get("/nothing").status, 404)
            except (ConnectionError, ssl.SSLError):
                self.assertEqual(self.agent.wait(), -signal.SIGKILL)
                # A child that it has just forked has its sockets until it becomes its program.
                eventually(lambda: not accepts(self.agent.port), "the dead one accepts nobody")
            else:
                break
        return journals

    def assert_as_before(self) -> None:
        """See that nothing is left of the window, and that the next one is a good one."""
        self.assert_let_go()
        self.lock.assert_let_go()
        self.assertFalse((self.agent.state_directory / "stamp.json").exists())
        # Takes the stray away, where one is expected.
        self.agent.get("/post-sync")
        self.assertFalse((self.agent.runtime_directory / "record.json").exists())
        self.programs.clear()
        self.assertEqual(self.agent.get("/sync").status, 200)
        self.assert_frozen(self.disk)
        self.assertTrue(self.lock.is_held)
        self.assertEqual(self.agent.get("/post-sync").status, 200)
        self.assertEqual(
            self.programs.journal,
            [*(f"freeze {name}" for name in NOTED), *(f"thaw {name} synced" for name in UNDONE)],
        )

    def assert_thawed_once(self, journal: list[str]) -> None:
        """See that whoever was frozen was thawed, once and in reverse order.

        A thaw whose end is not in the record, since the agent died over it, runs again; one for a
        freeze that the record named and that never came about runs too.
        """
        frozen = [name for name in NOTED if f"freeze {name}" in journal]
        thawed = [line.split()[1] for line in journal if line.endswith(" synced")]
        recovered = [line.split()[1] for line in journal if line.endswith(" recovered")]
        self.assertEqual(thawed, [*UNDONE[: len(thawed)]], journal)
        # A script whose thaw was broken off comes after the others of its directory.
        scripts = sorted(set(NOTED[2:]) & set(recovered))
        self.assertEqual(sorted(recovered[: len(scripts)]), scripts, journal)
        pairs = recovered[len(scripts) :]
        self.assertEqual(pairs, [name for name in UNDONE[2:] if name in recovered], journal)
        owed = set(frozen) - set(thawed)
        under_way = {*thawed[-1:], *NOTED[len(frozen) : len(frozen) + 1]}
        self.assertLessEqual(owed, set(recovered), journal)
        self.assertLessEqual(set(recovered), owed | under_way, journal)
