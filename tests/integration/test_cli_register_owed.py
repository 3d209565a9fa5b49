"""Tests for ``xohook register`` with a freeze that it cannot end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.hook_client import PATIENCE
from tests.integration.programs import Programs
from tests.integration.test_cli_register import RegisterTestCase


class UnkillableTests(RegisterTestCase):
    """A freeze that runs as another user outlasts its time and cannot be ended."""

    launcher = ("setpriv", "--bounding-set=-kill")

    def setUp(self) -> None:
        needs.root()
        needs.program("setpriv")
        super().setUp()
        directory = Path(tempfile.mkdtemp(prefix="xohook-")).resolve()
        self.addCleanup(shutil.rmtree, directory)
        directory.chmod(0o755)
        self.programs = Programs(directory / "programs")
        self.programs.directory.chmod(0o777)
        (self.programs.directory / "journal").chmod(0o666)

    def begin(self) -> tuple[Agent, subprocess.Popen[bytes], int]:
        """Have the freeze outlast its time; its process's number comes back, too."""
        late = self.programs.write(
            "late",
            f"trap '' TERM; echo $$ >{self.programs.directory}/pid",
            "note freeze; stay late; note frozen",
        )
        user = needs.user("nobody").pw_uid
        freeze = f"setpriv --reuid={user} --clear-groups {late}"
        agent = self.agent_with("[app:orders]")
        app = self.register(
            *("--freeze", freeze, "--freeze-timeout", "500ms"),
            *("--thaw", str(self.programs.write("thaw", 'note thaw "$XOHOOK_OUTCOME"'))),
            *("-c", agent.configuration),
        )
        self.wait_for_registration(agent)
        self.assertEqual(agent.get("/sync").status, 500)
        pid = self.programs.number("pid")
        self.addCleanup(self.kill, pid)
        return agent, app, pid

    def kill(self, pid: int) -> None:
        """End the freeze, if its test did not."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def test_thaw_waits(self) -> None:
        """The thaw is refused with the process's number, and runs when that process has ended."""
        agent, _, pid = self.begin()
        agent.wait_for_log(f"app:orders NOT THAWED: .*process {pid}.*kill {pid}")
        self.assertEqual(self.programs.journal, ["freeze", "at late"])
        self.assertIn(f"process {pid}", self.said)
        self.programs.let_on("late")
        self.programs.wait_for("thaw failed")
        self.assertEqual(self.programs.journal[2:], ["frozen", "thaw failed"])
        eventually(lambda: "thawed now" in self.said, "it says so")

    def test_next_freeze(self) -> None:
        """No freeze begins before that thaw, which runs once."""
        agent, _, pid = self.begin()
        agent.wait_for_log("app:orders NOT THAWED")
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertIn(f"kill {pid}", answer.body.decode())
        self.programs.let_on("late")
        self.programs.wait_for("thaw failed")
        eventually(lambda: "thawed now" in self.said, "it says so")
        self.assertEqual(self.programs.journal, ["freeze", "at late", "frozen", "thaw failed"])

    def test_terminated(self) -> None:
        """SIGTERM does not end the command before the thaw has run."""
        agent, app, _ = self.begin()
        agent.wait_for_log("app:orders NOT THAWED")
        app.terminate()
        agent.wait_for_log("app orders .* unregistered")
        self.assertIsNone(app.poll())
        self.programs.let_on("late")
        self.assertEqual(app.wait(PATIENCE), 0, self.said)
        self.assertEqual(self.programs.journal[2:], ["frozen", "thaw failed"])
