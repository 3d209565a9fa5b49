"""A start carries out nothing that another user has put into the agent's directories."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import COMMAND, Agent
from xohook.state.record import VERSION, boot_id

PLANTER = 47_201
"""The user who plants."""

AGENT = 47_202
"""The user whom an agent runs as that is not root's."""


class UsersAgent(Agent):
    """An agent of another user, who has no home; it may read all files, this checkout's too."""

    launcher = (
        "setpriv",
        f"--reuid={AGENT}",
        f"--regid={AGENT}",
        "--clear-groups",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
    )

    @property
    def environment(self) -> dict[str, str]:
        """The test's environment without what names a user's places."""
        users = ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "STATE_DIRECTORY")
        return {name: value for name, value in super().environment.items() if name not in users}


class PlantedTestCase(SynchronousTestCase):
    """Records and stamps whose thaws leave a trace."""

    def setUp(self) -> None:
        needs.root()
        needs.program("setpriv")
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        self.top = Path(held.name)
        self.top.chmod(0o755)
        self.trace = self.top / "trace" / "ran"
        self.trace.parent.mkdir()
        self.trace.parent.chmod(0o777)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """A command that is owed its thaw."""
        owed = {
            "thaw": ["touch", str(self.trace)],
            "timeout": 30.0,
            "account": None,
            "directory": "/",
            "environment": {},
        }
        return [{"name": "command:it", "order": 40, "owed": owed, "process": {}}]

    def stamp(self) -> str:
        values = {"version": VERSION, "window": "w", "time": 1.0, "boot": "another"}
        return json.dumps({**values, "at_rest": self.entries})

    def record(self) -> str:
        values = {"version": VERSION, "boot_id": boot_id(), "window": "w", "strays": []}
        return json.dumps({**values, "waiting": 0, "owed": 0, "entries": self.entries})

    def make(self, kind: type[Agent] = Agent) -> Agent:
        """Make an agent that a test may start."""
        agent = kind(self.top / "agent")
        self.addCleanup(agent.stop)
        return agent

    def plant(self, directory: Path, name: str, text: str, uid: int = PLANTER) -> Path:
        """Put a file into a directory, both of a user's."""
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / name
        path.write_text(text)
        path.chmod(0o600)
        for each in (directory, path):
            os.chown(each, uid, uid)
        return path

    def assert_refused(self, agent: Agent, *words: str) -> None:
        """See that the start is refused in words, and that nothing was carried out."""
        said = str(self.assertRaises(AssertionError, agent.start))
        for each in words:
            self.assertIn(each, said)
        self.assertFalse(self.trace.exists(), said)
        self.assertNotIn("Traceback", said)


class RootTests(PlantedTestCase):
    """Root's agent."""

    def test_anothers_runtime_directory(self) -> None:
        """A record in another user's runtime directory is not carried out."""
        agent = self.make()
        directory = agent.runtime_directory
        self.plant(directory, "record.json", self.record())
        self.assert_refused(agent, f"{directory} belongs to user {PLANTER}", f"chown 0 {directory}")

    def test_anothers_state_directory(self) -> None:
        """A stamp in another user's state directory is not carried out."""
        agent = self.make()
        directory = agent.state_directory
        self.plant(directory, "stamp.json", self.stamp())
        self.assert_refused(agent, f"{directory} belongs to user {PLANTER}", f"chown 0 {directory}")

    def test_open_state_directory(self) -> None:
        """Neither is one in a state directory that others may write to."""
        agent = self.make()
        directory = agent.state_directory
        self.plant(directory, "stamp.json", self.stamp(), uid=0)
        directory.chmod(0o777)
        self.assert_refused(agent, f"Others may write to {directory}", f"chmod go-w {directory}")

    def test_anothers_file(self) -> None:
        """A single file of another user's is refused in a directory of root's."""
        agent = self.make()
        for directory, name, text in (
            (agent.runtime_directory, "record.json", self.record()),
            (agent.state_directory, "stamp.json", self.stamp()),
            (agent.state_directory, "secret", "secret"),
            (agent.state_directory, "vm", "name"),
            (agent.state_directory, "certificate.pem", ""),
            (agent.state_directory, "private_key.pem", ""),
        ):
            path = self.plant(directory, name, text)
            os.chown(directory, 0, 0)
            self.assert_refused(agent, f"{path} belongs to user {PLANTER}", f"chown 0 {path}")
            os.chown(path, 0, 0)
            path.chmod(0o620)
            self.assert_refused(agent, f"Others may write to {path}", f"chmod go-w {path}")
            path.unlink()

    def test_exchangeable(self) -> None:
        """A directory that another user can exchange is refused, whatever lies in it now."""
        agent = self.make()
        agent.state_directory = self.top / "users" / "state"
        agent.configure()
        agent.state_directory.parent.mkdir()
        self.plant(agent.state_directory, "stamp.json", self.stamp(), uid=0)
        os.chown(agent.state_directory.parent, PLANTER, PLANTER)
        self.assert_refused(agent, f"{self.top}/users belongs to user {PLANTER}")

    def test_configuration(self) -> None:
        """Another user's configuration is refused to a service; started by hand the agent warns."""
        agent = self.make()
        os.chown(agent.configuration, PLANTER, PLANTER)
        environment = {**agent.environment, "INVOCATION_ID": ""}
        self.patch(Agent, "environment", environment)
        agent.start()
        warning = f"{agent.configuration} belongs to user {PLANTER}, and the agent is user 0"
        self.assertIn(warning, agent.log)
        agent.kill(signal.SIGHUP)
        agent.wait_for_log("reloaded, with")
        agent.stop()
        agent.log_path.unlink()
        self.patch(Agent, "environment", {**environment, "INVOCATION_ID": "5f1e"})
        self.assert_refused(agent, warning, f"chown 0 {agent.configuration}")

    def test_own(self) -> None:
        """What root's agent has left itself is carried out as ever."""
        agent = self.make()
        self.plant(agent.state_directory, "stamp.json", self.stamp(), uid=0)
        agent.start()
        self.assertTrue(self.trace.exists())


class FallBackTests(PlantedTestCase):
    """An agent of a user without a home, whom no directory is given."""

    def prepare(self, option: str, *fall_backs: Path) -> tuple[Agent, Path]:
        """Make an agent with only one directory given, and the places of the other one free."""
        agent = self.make(UsersAgent)
        given = self.top / "given"
        given.mkdir(mode=0o700)
        os.chown(given, AGENT, AGENT)
        agent.configuration.write_text(
            f"[xohook]\nlisten = tcp:{agent.port}:interface=127.0.0.1\n{option} = {given}\n"
        )
        for each in fall_backs:
            if os.path.lexists(each):
                self.fail(f"{each} is there already")
            self.addCleanup(shutil.rmtree, each, ignore_errors=True)
        return agent, given

    def test_state_directory(self) -> None:
        """A stamp that another user put into ``/var/tmp`` is not looked for there."""
        planted = Path(f"/var/tmp/xohook-{AGENT}")
        agent, _ = self.prepare("runtime_directory", planted)
        self.plant(planted, "stamp.json", self.stamp())
        planted.chmod(0o755)
        (planted / "stamp.json").chmod(0o644)
        self.assert_refused(agent, f"/var/lib/xohook-{AGENT}", "install -d", str(AGENT))

    def test_runtime_directory(self) -> None:
        """Neither is a record in ``/tmp``."""
        planted = Path(f"/tmp/xohook-{AGENT}")
        agent, _ = self.prepare("state_directory", planted)
        self.plant(planted, "record.json", self.record())
        planted.chmod(0o777)
        (planted / "record.json").chmod(0o644)
        self.assert_refused(agent, f"/run/xohook-{AGENT}", "install -d", str(AGENT))

    def test_made_by_root(self) -> None:
        """Where root has made the directory as it is told to, the agent starts."""
        place = Path(f"/var/lib/xohook-{AGENT}")
        agent, _ = self.prepare("runtime_directory", place)
        place.mkdir(mode=0o700)
        os.chown(place, AGENT, AGENT)
        agent.start()
        self.assertTrue((place / "secret").exists())


class HomeTests(PlantedTestCase):
    """An agent of an ordinary user, who has a home and nothing else."""

    def test_no_login(self) -> None:
        """It starts without ``XDG_RUNTIME_DIR``, and the command finds it there."""
        agent = self.make(UsersAgent)
        home = self.top / "home"
        home.mkdir(mode=0o750)
        os.chown(home, AGENT, AGENT)
        agent.configuration.write_text(f"[xohook]\nlisten = tcp:{agent.port}:interface=127.0.0.1\n")
        self.patch(UsersAgent, "environment", {**agent.environment, "HOME": str(home)})
        agent.start()
        places = [home / ".local/state/xohook" / each for each in ("secret", "run/control.sock")]
        self.assertEqual([each.exists() for each in places], [True, True], agent.log)
        told = subprocess.run(
            [*agent.launcher, sys.executable, "-c", COMMAND, "status", "-c", agent.configuration],
            env=agent.environment,
            capture_output=True,
            check=False,
        )
        self.assertIn(f"process {agent.pid}".encode(), told.stdout)


class SetupTests(PlantedTestCase):
    """``xohook setup``, run by root for an agent of another user."""

    def test_for_user(self) -> None:
        """What it makes in that user's directory is that user's, whose agent then starts."""
        agent = self.make(UsersAgent)
        for each in (agent.state_directory, agent.runtime_directory):
            each.mkdir(mode=0o700)
            os.chown(each, AGENT, AGENT)
        agent.runtime_directory.parent.chmod(0o755)
        agent.setup()
        made = {each.name: each.stat().st_uid for each in agent.state_directory.iterdir()}
        self.assertEqual(made, {"secret": AGENT, "vm": AGENT})
        agent.start()


class OddFileTests(PlantedTestCase):
    """What is odd in the agent's own directories is told in words, and holds nothing up."""

    def odd(self, make: Callable[[Path], object]) -> None:
        """Put something odd in the place of each file that a start reads first."""
        for name in ("record.json", "stamp.json"):
            agent = self.make()
            directory = agent.runtime_directory if name[0] == "r" else agent.state_directory
            directory.mkdir(mode=0o700)
            make(directory / name)
            self.assert_refused(agent, f"{directory}/{name}")
            shutil.rmtree(self.top / "agent")

    def test_fifo(self) -> None:
        """A FIFO, which nobody writes to."""
        self.odd(os.mkfifo)

    def test_device(self) -> None:
        """A device, which never comes to an end."""
        self.odd(lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)))

    def test_directory(self) -> None:
        """A directory."""
        self.odd(Path.mkdir)

    def test_huge(self) -> None:
        """A file as long as the disk, and longer."""

        def make(path: Path) -> None:
            path.touch()
            os.truncate(path, 2**42)

        self.odd(make)

    def test_nested(self) -> None:
        """JSON that is nested deeper than a stack."""
        self.odd(lambda path: path.write_text("[" * 1_000_000))

    def test_corrupted(self) -> None:
        """Values that no agent writes."""
        good = (
            json.loads(self.record()),
            json.loads(self.stamp()),
        )
        changes: tuple[dict[str, Any], ...] = (
            {"time": 1e300, "owed": 0.5},
            {"window": [], "boot": 1},
            {"time": 10**400, "owed": 10**400},
            {"time": "x", "waiting": "x"},
            {"entries": [{}], "at_rest": [{}]},
            {"entries": {"a": 1}, "at_rest": {"a": 1}},
        )
        for change in changes:

            def make(path: Path, change: dict[str, Any] = change) -> None:
                values = good[0] if path.name == "record.json" else good[1]
                changed = {name: change.get(name, value) for name, value in values.items()}
                path.write_text(json.dumps(changed))

            self.odd(make)

    def test_many_requests(self) -> None:
        """A number of requests that none could count is not counted."""
        agent = self.make()
        values = {**json.loads(self.record()), "owed": 2**62, "waiting": 2**62}
        self.plant(agent.runtime_directory, "record.json", json.dumps(values), uid=0)
        agent.start()
        self.assertTrue(self.trace.exists())
