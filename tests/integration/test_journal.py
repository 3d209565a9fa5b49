"""Tests for the log in systemd's journal, by a pipe that stands for a stream to it."""

from __future__ import annotations

from pathlib import Path

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.programs import Programs
from xohook.state.journal import DELAYED, format_event


class JournalAgent(Agent):
    """An agent whose standard output is what ``JOURNAL_STREAM`` names, or is not."""

    is_journal = True

    @property
    def environment(self) -> dict[str, str]:
        self.log_path.touch()
        found = self.log_path.stat()
        inode = found.st_ino if self.is_journal else found.st_ino + 1
        return {**super().environment, "JOURNAL_STREAM": f"{found.st_dev}:{inode}"}


class ElsewhereAgent(JournalAgent):
    """An agent whose standard output is not the journal."""

    is_journal = False


class AgentTests(SynchronousTestCase):
    """What a real agent writes."""

    def test_priorities(self) -> None:
        """Each line has its priority, warnings theirs, and none has a time."""
        agent = JournalAgent.for_test(self, sections="[command:bad]\nfreeze = false")
        self.assertEqual(agent.get("/sync").status, 500)
        agent.wait_for_log("command:bad not frozen")
        agent.stop()
        lines = agent.log.splitlines()
        self.assertEqual([line for line in lines if not line.startswith("<")], [])
        self.assertTrue(any(line.startswith("<6>twistd ") for line in lines), lines)
        [warning] = [line for line in lines if "command:bad not frozen" in line]
        self.assertTrue(warning.startswith("<4>"), warning)
        self.assertNotIn("+0000", agent.log)

    def test_elsewhere(self) -> None:
        """Where the output is not the journal, the text is twistd's own."""
        agent = ElsewhereAgent.for_test(self)
        self.assertRegex(agent.log, r"\A\d{4}-\d\d-\d\dT[\d:+]+ \[")

    def test_recovery(self) -> None:
        """A start that thaws what was left says nothing of its reactor."""
        programs = Programs(Path(self.mktemp()).resolve())
        agent = Agent.for_test(self, sections=programs.command("one"))
        self.assertEqual(agent.get("/sync").status, 200)
        agent.kill()
        agent.wait()
        agent.start()
        agent.wait_for_log(r"recovered\n")
        self.assertNotIn("Main loop terminated", agent.log)


class FormatTests(SynchronousTestCase):
    """The lines of one event."""

    def test_lines(self) -> None:
        """Each line of a long text has the priority."""
        event = {"log_level": LogLevel.error, "log_format": "{a}", "a": "x\ny", "log_time": 5.0}
        self.assertEqual(format_event(event, 5.5), "<3>x\n<3>y\n")

    def test_delayed(self) -> None:
        """What is written late has its own time."""
        event = {"log_level": LogLevel.warn, "log_format": "late", "log_time": 1772330400.25}
        self.assertEqual(
            format_event(event, 1772330400.5 + DELAYED),
            "<4>[2026-03-01T02:00:00.250+00:00] late\n",
        )

    def test_printed(self) -> None:
        """What somebody prints has the priority of information."""
        event = {"log_format": "{log_io}", "log_io": "printed", "log_time": 5.0}
        self.assertEqual(format_event(event, 5.0), "<6>printed\n")

    def test_nothing(self) -> None:
        """An event without a text is no line."""
        self.assertEqual(format_event({"log_time": 5.0}, 5.0), "")
