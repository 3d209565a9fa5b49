"""Tests for what ``xohook status`` says."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xohook.cli import overview

OPENED = 1_772_330_400.0


def participant(name: str, phase: str, outcome: str = "ok", output: str = "") -> dict[str, Any]:
    """Make what is told of one participant."""
    return {
        "name": name,
        "phase": phase,
        "outcome": outcome,
        "seconds": 0.041207,
        "limit": None,
        "output": output,
    }


def status(*participants: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Make a status, of an agent that has done nothing yet unless more is said."""
    idle = {
        "window": None,
        "state": "idle",
        "problems": [],
        "participants": list(participants),
        "version": "1.0",
        "pid": 7,
        "started": OPENED - 30_000,
        "open": False,
        "opened": None,
        "left": None,
        "apps": [],
        "absent": [],
        "unthawed": [],
        "missing": [],
    }
    return idle | members


def described(told: dict[str, Any]) -> list[str]:
    """Describe a status, a minute after the window has opened."""
    return list(overview.lines(told, OPENED + 60, lambda uid: f"login{uid}"))


class LinesTests(SynchronousTestCase):
    """The lines for a human."""

    def test_hold(self) -> None:
        """All there is to say of a hold."""
        holding = status(
            participant("command:flush", "frozen"),
            participant("app:x", "failed", "no", "one\ntwo\n"),
            window="w1",
            state="holding",
            open=True,
            opened=OPENED,
            left=101.6,
            problems=["something"],
            apps=[{"name": "x", "uid": 5, "pid": 9, "order": 20}],
            absent=["orders"],
        )
        self.assertEqual(
            described(holding),
            [
                "HOLDING window w1 for 1m42s more",
                "agent 1.0, process 7, for 8h21m",
                "the window opened at 2026-03-01 02:00:00 UTC, 1m00s ago",
                "",
                "1 problem:",
                "  something",
                "",
                "1 required app NOT REGISTERED, start:",
                "  orders",
                "",
                "2 participants: 1 frozen, 1 failed",
                "  command:flush  frozen  0.041 s  ok",
                "  app:x          failed  0.041 s  no",
                "    | one",
                "    | two",
                "",
                "1 app registered",
                "  x  user login5  process 9  order 20",
            ],
        )

    def test_first_line(self) -> None:
        """The first line says what is so now."""
        last = {"window": "w1", "opened": OPENED}
        unthawed = {"name": "filesystem:data", "mounts": ["/srv"], "problem": "no answer"}
        still = "MAY STILL BE FROZEN, thaw tried again and again: filesystem:data: /srv (no answer)"
        for told, line in (
            (status(), "idle; NO WINDOW YET since the agent started"),
            (status(**last, state="synced"), "idle; last window w1 synced"),
            (status(**last, state="thawing", open=True), "thawing window w1"),
            (
                status(unthawed=[unthawed]),
                still,
            ),
        ):
            self.assertEqual(described(told)[0], line)

    def test_foreign_text(self) -> None:
        """Nothing that others say reaches the terminal as it is."""
        evil = "\x1b[2J\r\n\x9b"
        told = status(
            participant(evil, evil, evil, evil),
            window=evil,
            state=evil,
            version=evil,
            problems=[evil],
            apps=[{"name": evil, "uid": 5, "pid": 9, "order": 20}],
            absent=[evil],
            missing=[evil],
        )
        lines = list(overview.lines(told, OPENED, lambda _: evil))
        self.assertTrue(all(line.isprintable() for line in lines), lines)

    def test_running(self) -> None:
        """Of a phase that runs the time so far and its limit are told, and no outcome yet."""
        running = participant("command:slow", "freezing") | {"seconds": 3.24, "limit": 30.0}
        lines = described(status(running, window="w1", state="freezing", open=True))
        self.assertIn("  command:slow  freezing  3.2 s of 30 s", lines)

    def test_missing(self) -> None:
        """What a participant needs and was not there is told."""
        lines = described(status(missing=["[command:x] freeze: y is not found"]))
        self.assertIn("MISSING when the agent started, and needed by the next window:", lines)
        self.assertIn("  [command:x] freeze: y is not found", lines)

    def test_no_window(self) -> None:
        """Before the first window the text says what to do."""
        self.assertIn("take a snapshot of this VM", described(status())[2])

    def test_older_agent(self) -> None:
        """An agent of an earlier version, which tells less, is described as well."""
        told = status(participant("command:x", "frozen"))
        del told["started"], told["missing"], told["participants"][0]["limit"]
        self.assertEqual(described(told)[1], "agent 1.0, process 7")

    def test_many(self) -> None:
        """Ten thousand are told line by line, after their number."""
        lines = described(status(*[participant(f"app:{n}", "frozen") for n in range(10_000)]))
        self.assertIn("10000 participants: 10000 frozen", lines)
        self.assertIn("  app:9999  frozen  0.041 s  ok", lines)

    def test_length(self) -> None:
        """Lengths of time are as on a clock."""
        for seconds, text in (
            (-0.2, "0s"),
            (59.4, "59s"),
            (59.6, "1m00s"),
            (102.0, "1m42s"),
            (3_660.0, "1h01m"),
            (360_000.0, "100h00m"),
        ):
            self.assertEqual(overview.length(seconds), text)


class GoodTests(SynchronousTestCase):
    """Whether all is well."""

    def test_good(self) -> None:
        """A good end is, and so is a window that can still end well, or none."""
        for told in (
            status(),
            status(window="w1", state="synced"),
            status(window="w1", state="rehearsed"),
            status(window="w1", state="holding", open=True),
        ):
            self.assertTrue(overview.is_good(told), told)

    def test_not_good(self) -> None:
        """Any other end is not, nor what is stuck, spoiled or missing."""
        for told in (
            *(status(window="w1", state=state) for state in ("failed", "expired", "stopped")),
            status(window="w1", state="thawing", open=True, problems=["x"]),
            status(
                unthawed=[{"name": "filesystem:data", "mounts": [], "problem": ""}],
                window="w1",
                state="synced",
            ),
            status(absent=["orders"]),
            status(missing=["x"]),
        ):
            self.assertFalse(overview.is_good(told), told)
