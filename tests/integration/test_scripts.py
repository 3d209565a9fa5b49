"""Directories of scripts in real windows: the real agent, real scripts."""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs
from tests.integration.agent import Agent, eventually
from tests.integration.footprint import children
from tests.integration.holds import Lock
from tests.integration.programs import Programs
from xohook.host.pids import start_time

FREEZE = ["freeze 10-first", "freeze 20-second", "freeze 30-third"]


class ScriptsTestCase(SynchronousTestCase):
    """A directory of scripts that tell what they do."""

    def setUp(self) -> None:
        self.programs = Programs(Path(self.mktemp()).resolve())
        # The journal and the gates beside the scripts cannot be executed, and are left out.
        self.directory = self.programs.directory

    def script(self, name: str, freeze: str = ":", thaw: str = ":") -> Path:
        """Write a script that notes its argument, and then does one of two things."""
        return self.programs.write(
            name,
            f'note "$@" {name} $XOHOOK_OUTCOME',
            'case "$1" in',
            f"freeze) {freeze} ;;",
            f"thaw) {thaw} ;;",
            "esac",
        )

    def three(self, freeze: str = ":", thaw: str = ":") -> None:
        """Write three scripts, in another order than theirs, the second with something to do."""
        self.script("30-third")
        self.script("20-second", freeze, thaw)
        self.script("10-first")

    def agent(self, *options: str) -> Agent:
        """Start an agent that runs them."""
        section = "\n".join(("[scripts:legacy]", f"directory = {self.directory}", *options))
        return Agent.for_test(self, sections=section)

    def assert_refused(self, agent: Agent, *lines: str) -> None:
        """See that a window fails, and why."""
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 500)
        self.assertEqual(answer.body.decode().splitlines(), ["Internal Error", *lines])


class OrderTests(ScriptsTestCase):
    """Which scripts run, with which argument and in which order."""

    def test_order(self) -> None:
        """They run in order of name with "freeze", in reverse order with "thaw", alone."""
        self.three()
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(self.programs.journal, FREEZE)
        self.programs.clear()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(
            self.programs.journal,
            ["thaw 30-third synced", "thaw 20-second synced", "thaw 10-first synced"],
        )
        agent.wait_for_outcomes("synced")

    def test_one_at_a_time(self) -> None:
        """Each waits for the end of the one before it."""
        self.three("stay freeze", "stay thaw")
        agent = self.agent()
        for target, gate, before in (
            ("/sync", "freeze", FREEZE[:2]),
            ("/post-sync", "thaw", ["thaw 30-third synced", "thaw 20-second synced"]),
        ):
            self.programs.clear()
            with agent.connect() as connection:
                connection.start("GET", target, agent.credentials)
                self.programs.wait_for(f"at {gate}")
                self.assertEqual(self.programs.journal, [*before, f"at {gate}"])
                self.programs.let_on(gate)
                self.assertEqual(connection.answer().status, 200)

    def test_left_out(self) -> None:
        """What is hidden, left over or not executable is not run; a link to a script is."""
        for name in (".hidden", "old~", "old.bak", "old.orig", "old.rpmsave", "old.dpkg-old"):
            self.script(name)
        self.script("plain").chmod(0o644)
        (self.directory / "folder").mkdir()
        (self.directory / "lost").symlink_to("nowhere")
        (self.directory / "circle").symlink_to("circle")
        elsewhere = Path(self.mktemp()).resolve()
        self.script("run").rename(elsewhere)
        (self.directory / "run").symlink_to(elsewhere)
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, ["freeze run", "thaw run synced"])

    def test_none(self) -> None:
        """An empty directory is as good as any; what is put there counts from the next window."""
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        self.three()
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal, [])
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(self.programs.journal, FREEZE)

    def test_surroundings(self) -> None:
        """They run in their own directory, and are told the phase, the time and the window."""
        show = 'note "$(pwd)" "$XOHOOK_PHASE" "$XOHOOK_TIMEOUT" "$COLOUR" "${XOHOOK_WINDOW:+w}"'
        self.script("show", show, show)
        agent = self.agent("environment = COLOUR=blue", "freeze_timeout = 7s")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(self.programs.journal[1], f"{self.directory} freeze 7 blue w")
        self.assertEqual(self.programs.journal[3], f"{self.directory} thaw 30 blue w")


class FailureTests(ScriptsTestCase):
    """What becomes of a window in which a script fails."""

    def test_freeze(self) -> None:
        """One that fails is named, and undone with those before it; those after it never ran."""
        self.three("echo checking; echo no luck >&2; exit 3")
        agent = self.agent()
        self.assert_refused(agent, "scripts:legacy: 20-second: exit status 3: no luck")
        self.assertEqual(
            self.programs.journal,
            [*FREEZE[:2], "thaw 20-second failed", "thaw 10-first failed"],
        )
        agent.wait_for_outcomes("failed")

    def test_cannot_run(self) -> None:
        """One that cannot be run is named with the reason, for its thaw too."""
        self.script("10-first")
        script = self.directory / "20-second"
        script.write_text("#!/no/such/shell\n")
        script.chmod(0o755)
        why = f"20-second: cannot run {script}: what runs it (see its first line) is missing"
        self.assert_refused(
            self.agent(), f"scripts:legacy: {why}", f"scripts:legacy: not thawed: {why}"
        )
        self.assertEqual(self.programs.journal, ["freeze 10-first", "thaw 10-first failed"])

    def test_thaw(self) -> None:
        """A thaw that fails is named, and stops none of the others."""
        self.three(thaw="echo stuck; exit 4")
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        self.programs.clear()
        answer = agent.get("/post-sync")
        self.assertEqual(answer.status, 500)
        agent.wait_for_outcomes("failed")
        self.assertIn(
            "scripts:legacy NOT THAWED: 20-second: exit status 4: stuck",
            agent.log,
        )
        self.assertEqual(self.programs.journal[-1], "thaw 10-first synced")

    def test_gone(self) -> None:
        """One that is removed in the hold cannot be thawed, and is named; the others are."""
        self.three()
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        (self.directory / "20-second").unlink()
        self.assertEqual(agent.get("/post-sync").status, 500)
        agent.wait_for_outcomes("failed")
        self.assertRegex(agent.log, "NOT THAWED: 20-second: cannot run .*: no such program")
        self.assertEqual(
            self.programs.journal, [*FREEZE, "thaw 30-third synced", "thaw 10-first synced"]
        )

    def test_directory_gone(self) -> None:
        """Without its directory the freeze fails with words."""
        directory = self.directory / "scripts"
        directory.mkdir()
        self.directory = directory
        agent = self.agent()
        directory.rmdir()
        self.assert_refused(
            agent, f"scripts:legacy: cannot read {directory}: No such file or directory"
        )

    def test_timeout(self) -> None:
        """The timeout is that of all scripts together; the one that runs then is undone too."""
        self.script("10-first", "sleep 0.6")
        self.script("20-second", "sleep 0.6; stay 20")
        self.script("30-third")
        agent = self.agent("freeze_timeout = 1s")
        self.assert_refused(agent, "scripts:legacy: not done within 1s, and told to end")
        begun = [line.split()[1] for line in self.programs.journal if line.startswith("freeze")]
        self.assertNotIn("30-third", begun)
        self.assertEqual(
            [line for line in self.programs.journal if line.startswith("thaw")],
            [f"thaw {name} failed" for name in reversed(begun)],
        )

    def test_continue(self) -> None:
        """With on_failure = continue the window goes on; those that were begun are thawed."""
        self.three("exit 1")
        agent = self.agent("on_failure = continue")
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(self.programs.journal, FREEZE[:2])
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(
            self.programs.journal[2:], ["thaw 20-second synced", "thaw 10-first synced"]
        )


class KilledTests(ScriptsTestCase):
    """kill -9 of the agent: the next start thaws those that were begun, in reverse."""

    def kill(self, agent: Agent) -> None:
        agent.kill()
        self.assertEqual(agent.wait(), -signal.SIGKILL)
        self.programs.clear()
        agent.start()
        agent.wait_for_outcomes("recovered")

    def test_freeze(self) -> None:
        """In the middle of the freeze: the script that runs is ended and undone."""
        self.three("stay freeze")
        agent = self.agent()
        with agent.connect() as connection:
            connection.start("GET", "/sync", agent.credentials)
            self.programs.wait_for("at freeze")
            [running] = children(agent.pid)
            self.kill(agent)
        self.assertIsNone(start_time(running))
        self.assertEqual(
            self.programs.journal, ["thaw 20-second recovered", "thaw 10-first recovered"]
        )

    def test_hold(self) -> None:
        """In the hold: a script that has come since is none of those to thaw."""
        self.three()
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        self.script("15-new")
        self.kill(agent)
        self.assertEqual(
            self.programs.journal,
            ["thaw 30-third recovered", "thaw 20-second recovered", "thaw 10-first recovered"],
        )

    def test_thaw(self) -> None:
        """In the middle of the thaw: those that are thawed stay so; the one cut off comes last."""
        self.three(thaw='[ "$XOHOOK_OUTCOME" = recovered ] || stay thaw')
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        with agent.connect() as connection:
            connection.start("GET", "/post-sync", agent.credentials)
            self.programs.wait_for("at thaw")
            self.kill(agent)
        self.assertEqual(
            self.programs.journal, ["thaw 10-first recovered", "thaw 20-second recovered"]
        )


QEMU_HOOK = """#!/bin/sh
# As QEMU's guest agent has them: one word, and an exit status that tells.
case "$1" in
  freeze)
    flock --no-fork {lock} sleep 1000 &
    echo $! >{pid}
    until ! flock --nonblock {lock} true; do sleep 0.01; done
    ;;
  thaw)
    [ -s {pid} ] || exit 0
    kill "$(cat {pid})"
    rm {pid}
    ;;
  *)
    echo "usage: $0 {{freeze|thaw}}" >&2
    exit 1
    ;;
esac
"""

VMWARE_SCRIPT = """#!/bin/bash
# As VMware's tools have them: freezeFail where the snapshot came to nothing.
set -e
if [[ $1 == freeze ]]; then
  touch {flag}
elif [[ $1 == freezeFail || $1 == thaw ]]; then
  rm --force {flag}
else
  echo "called with $1 $2" >&2
  exit 2
fi
"""


class FromOtherAgentsTests(ScriptsTestCase):
    """Scripts that were written for other agents run as they are."""

    def put(self, text: str, **places: Path) -> None:
        script = self.directory / "application"
        script.write_text(text.format(**places))
        script.chmod(0o755)

    def test_qemu(self) -> None:
        """One of qemu-ga's, which holds a lock in the background, holds it until the thaw."""
        needs.program("flock")
        lock = Lock(Path(self.mktemp()).resolve())
        self.put(QEMU_HOOK, lock=lock.path, pid=self.directory / "holder.pid")
        agent = self.agent()
        for _ in range(2):
            self.assertEqual(agent.get("/sync").status, 200)
            self.assertTrue(lock.is_held)
            self.assertEqual(agent.get("/post-sync").status, 200)
            lock.assert_let_go()
        agent.wait_for_outcomes("synced", "synced")
        # Nothing else lets go of such a lock than the script's own thaw.
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill()
        agent.wait()
        self.assertTrue(lock.is_held)
        agent.start()
        lock.assert_let_go()

    def test_vmware(self) -> None:
        """One of VMware's is undone by its thaw, after a failure of another too."""
        needs.program("bash")
        flag = self.directory / "flag"
        self.put(VMWARE_SCRIPT, flag=flag)
        agent = self.agent()
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertTrue(flag.exists())
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertFalse(flag.exists())
        self.script("breaks", "exit 1")
        self.assert_refused(agent, "scripts:legacy: breaks: exit status 1")
        eventually(lambda: not flag.exists(), "the first script is undone")
