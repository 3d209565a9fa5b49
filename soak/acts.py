"""Carries out the events of a step, and remembers what each of them did."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from soak.faults import Fault
from soak.machine import Machine
from soak.requesters import Request
from soak.scenario import HOLD_LIMIT, Event, Scenario
from soak.verdict import Break
from soak.watcher import LONGEST_WAIT
from tests.integration.footprint import writers
from tests.integration.holds import kill
from xohook.host.pids import process_state

#: The share of those ``/post-sync`` that are sent on the connection of a ``/sync``.
KEPT = 0.7

#: Whether an agent notices a thaw by somebody else whose freeze is still under way when its own
#: thaw comes: with Linux 6.6 or later (docs/hook.rst, What the agent cannot see).
SEES_FREEZES = [*map(int, re.findall(r"\d+", os.uname().release)[:2])] >= [6, 6]

#: Seconds in which a process that was killed has ended, unless it is stopped or stuck.
ENDING = 2.0

_T = TypeVar("_T")


class Step:
    """What happens in one step, and what is known of it.

    :param machine: what it happens to.
    :param source: the address that all of its requests come from.
    :param directory: a directory for files of its own.
    """

    def __init__(self, machine: Machine, source: str, directory: Path) -> None:
        self._machine = machine
        self._source = source
        self._directory = directory
        self.begin = time.monotonic()
        self.requests: list[Request] = []
        self.breaks: list[Break] = []
        #: When the agent was ended by the soak, and when its guards may have let go of what a
        #: stopped agent held.
        self.deaths: list[float] = []
        #: How often it was started again since.
        self.starts = 0
        #: How many system calls have failed.
        self.injected = 0
        self.has_faults = False
        #: Seconds for which the agent did not run.
        self.stopped = 0.0
        self._stopped_at: float | None = None
        self._refrozen: set[str] = set()
        self._calls: list[threading.Thread] = []
        self._faults: list[Fault] = []
        self.notes: list[str] = []
        #: What has happened, by its name alone.
        self.acts: list[str] = []
        #: The outcome of each window, once it has been judged.
        self.outcomes: Mapping[str, str] = {}

    @property
    def syncs(self) -> list[Request]:
        """All ``/sync``."""
        return [each for each in self.requests if each.path == "/sync"]

    @property
    def post_syncs(self) -> list[Request]:
        """All ``/post-sync``."""
        return [each for each in self.requests if each.path == "/post-sync"]

    def note(self, what: str) -> None:
        """Write down what has happened.

        :param what: what.
        """
        machine = self._machine
        at = time.monotonic() - self.begin
        self.notes.append(f"{at:8.3f} s [{machine.watcher.state or 'no agent'}] {what}")

    def play(self, scenario: Scenario) -> None:
        """Let all events happen.

        :param scenario: the events.
        """
        for event in scenario.events:
            if event.moment:
                came = self._machine.watcher.wait_for(event.moment, self._goes_on)
                self.note(f"{'came' if came else 'did not come'}: {event.moment}")
            if event.pause:
                time.sleep(event.pause)
            self.note(str(event))
            self.acts.append(event.act)
            self._acts[event.act](self, event)

    def _goes_on(self) -> bool:
        machine = self._machine
        if machine.agent.ended or machine.agent_is_stopped:
            return False
        is_asked = any(each.over is None for each in self.requests)
        is_asked |= any(each.is_alive() for each in self._calls)
        # Nothing ends a hold but its limit, unless it has been broken just now.
        is_moving = machine.watcher.is_open and machine.watcher.state != "holding"
        return is_asked or is_moving

    # Requests.

    def request(self, path: str, *, on_kept: bool = False) -> Request:
        """Send a request.

        :param path: its path.
        :param on_kept: whether on the connection of an earlier one, if there is any.
        :return: the request.
        """
        machine = self._machine
        kept = next(filter(None, (each.take_kept() for each in self.syncs)), None)
        if not on_kept and kept is not None:
            kept.close()
            kept = None
        request = Request(path, machine.agent.port, self._source, machine.credentials, kept)
        self.requests.append(request)
        return request

    def _sync(self, event: Event) -> None:
        self.request("/sync")

    def _post_sync(self, event: Event) -> None:
        # XO keeps the connection, and may have lost it.
        self.request("/post-sync", on_kept=event.pick < KEPT)

    def _drop(self, event: Event) -> None:
        pending = [each for each in self.requests if each.over is None]
        if pending:
            _pick(pending, event).drop()

    def _call(self, method: str) -> None:
        call = threading.Thread(target=self._machine.ask, args=(method,), daemon=True)
        call.start()
        self._calls.append(call)

    def _thaw(self, event: Event) -> None:
        self._call("thaw_now")

    def _reload(self, event: Event) -> None:
        self._call("reload")

    # Signals.

    def _hup(self, event: Event) -> None:
        self._signal(self._machine.agent.pid, signal.SIGHUP)

    def _stop_agent(self, event: Event) -> None:
        if not self._machine.agent.ended:
            self._stopped_at = self._stopped_at or time.monotonic()
            self._machine.stop(self._machine.agent.pid)

    def _stop_guard(self, event: Event) -> None:
        self._stop_one(self._machine.guards(), event)

    def _stop_client(self, event: Event) -> None:
        self._stop_one(self._machine.clients(), event)

    def _stop_app(self, event: Event) -> None:
        if self._machine.app:
            self._stop_one([self._machine.app], event)

    def _stop_one(self, pids: Sequence[int], event: Event) -> None:
        if pids:
            self._machine.stop(_pick(pids, event))

    def resume(self) -> None:
        """Let all go on that was stopped."""
        if self._stopped_at is not None:
            now = time.monotonic()
            self.stopped += now - self._stopped_at
            held = [each.over for each in self.syncs if each.status == 200 and each.over]
            # The guards let go of it half a second after the limit, which counts from the last.
            if held and now - max(held) > HOLD_LIMIT + 1.0:
                self.breaks.append(Break("the guards' limit", max(held) + HOLD_LIMIT + 1.0, now))
            self._stopped_at = None
        self._machine.resume()

    def _continue(self, event: Event) -> None:
        self.resume()

    def _term_guard(self, event: Event) -> None:
        self._break([_pick_some(self._machine.guards(), event)], signal.SIGTERM, "guard terminated")

    def _kill_guard(self, event: Event) -> None:
        self._break([_pick_some(self._machine.guards(), event)], signal.SIGKILL, "guard killed")

    def _kill_client(self, event: Event) -> None:
        self._break(self._machine.clients(), signal.SIGKILL, "client killed")

    def _kill_app(self, event: Event) -> None:
        begin = time.monotonic()
        self._machine.end_app()
        self.breaks.append(Break("app killed", begin, time.monotonic()))

    def _break(self, pids: Sequence[int], number: signal.Signals, what: str) -> None:
        begin = time.monotonic()
        for pid in filter(None, pids):
            self._signal(pid, number)
            deadline = begin + ENDING
            while process_state(pid) not in "ZXx" and time.monotonic() < deadline:
                time.sleep(0.001)
            if process_state(pid) in "ZXx":
                self.breaks.append(Break(what, begin, time.monotonic()))

    def _term_agent(self, event: Event) -> None:
        if len(self.deaths) == self.starts and not self._machine.agent.ended:
            self.deaths.append(time.monotonic())
            self._signal(self._machine.agent.pid, signal.SIGTERM)

    def _kill_agent(self, event: Event) -> None:
        self._kill([self._machine.agent.pid], "agent killed")

    def _kill_agent_and_guards(self, event: Event) -> None:
        self._kill([self._machine.agent.pid, *self._machine.guards()], "agent and guards killed")

    def _kill(self, pids: list[int], what: str) -> None:
        if self._machine.agent.ended:
            return
        begin = time.monotonic()
        if len(self.deaths) == self.starts:
            self.deaths.append(begin)
        kill(*pids)
        self._machine.agent.wait()
        self.breaks.append(Break(what, begin, time.monotonic()))

    def _start_agent(self, event: Event) -> None:
        if len(self.deaths) > self.starts:
            # After SIGTERM it thaws first, and may be stopped.
            self.resume()
            self.end_faults()
            self.note(f"the agent has ended with {self._machine.agent.wait()}")
            self.starts += 1
            self._machine.restart()

    def _signal(self, pid: int, number: signal.Signals) -> None:
        self.note(f"{number.name} to {pid}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    # Filesystems.

    def _foreign_thaw(self, event: Event) -> None:
        self._thaw_one(event, "foreign thaw")

    def _foreign_thaw_and_freeze(self, event: Event) -> None:
        self._thaw_one(event, "foreign thaw and freeze", freezes=True)

    def _thaw_one(self, event: Event, what: str, *, freezes: bool = False) -> None:
        machine = self._machine
        kind = _pick(sorted(machine.disks), event)
        begin = time.monotonic()
        if not os.path.ismount(machine.disks[kind].mount) or not machine.thaw(kind):
            return
        self.note(f"{kind} has been thawed by somebody else")
        end = time.monotonic()
        if freezes:
            self._refrozen.add(kind)
            # It fails where the agent was quicker.
            with contextlib.suppress(AssertionError):
                machine.disks[kind].freeze()
            if not SEES_FREEZES:
                end = time.monotonic()
        self.breaks.append(Break(what, begin, end))

    def _remount(self, event: Event) -> None:
        kind = _pick(sorted(self._machine.disks), event)
        self._machine.unmount(kind)
        self.note(f"{kind} mounted again: {self._machine.mount(kind)}")

    def tidy_disks(self) -> bool:
        """Undo what somebody else has done to the filesystems.

        :return: whether all are mounted where they were.
        """
        are_mounted = [self._machine.mount(kind) for kind in self._machine.disks]
        for kind in self._refrozen:
            self._machine.thaw(kind)
        self._refrozen.clear()
        return all(are_mounted)

    # Faults.

    def _fault(self, event: Event) -> None:
        target, call, error, when = event.detail.split()
        machine = self._machine
        pids = machine.guards() if target == "guards" else [machine.agent.pid]
        if not pids or machine.agent.ended or self._faults:
            # A process has one tracer at the most (ptrace(2)).
            return
        if target == "agent":
            pids += [*machine.guards(), *writers(machine.agent.pid)]
        fault = Fault(pids, call, error, when, self._directory / "strace")
        machine.adopt(fault.pid)
        self._faults.append(fault)
        self.has_faults = True

    def let_fail(self) -> None:
        """Where system calls fail, let the freeze and the thaw have their share of that."""
        if not self._faults:
            return
        self.resume()
        self._wait_for_answers()
        if self._machine.watcher.state == "holding":
            self.note("/post-sync, while system calls fail")
            self.request("/post-sync")
            self._wait_for_answers()

    def _wait_for_answers(self) -> None:
        deadline = time.monotonic() + LONGEST_WAIT
        for request in self.requests:
            request.wait(deadline - time.monotonic())

    def end_faults(self) -> None:
        """Let system calls succeed again."""
        for fault in self._faults:
            self.injected += fault.end()
            self._machine.disown(fault.pid)
        if self._faults:
            self.note(f"{self.injected} system calls have failed")
        self._faults.clear()

    def end(self) -> None:
        """Let go of everything."""
        self.resume()
        self.end_faults()
        for request in self.requests:
            request.drop()
            if (kept := request.take_kept()) is not None:
                kept.close()

    _acts: ClassVar[dict[str, Callable[[Step, Event], None]]] = {
        "sync": _sync,
        "post-sync": _post_sync,
        "drop": _drop,
        "thaw": _thaw,
        "reload": _reload,
        "hup": _hup,
        "stop agent": _stop_agent,
        "stop guard": _stop_guard,
        "stop client": _stop_client,
        "stop app": _stop_app,
        "continue": _continue,
        "term guard": _term_guard,
        "term agent": _term_agent,
        "kill guard": _kill_guard,
        "kill client": _kill_client,
        "kill app": _kill_app,
        "kill agent": _kill_agent,
        "kill agent and guards": _kill_agent_and_guards,
        "start agent": _start_agent,
        "foreign thaw": _foreign_thaw,
        "foreign thaw and freeze": _foreign_thaw_and_freeze,
        "remount": _remount,
        "fault": _fault,
    }


def _pick(several: Sequence[_T], event: Event) -> _T:
    return several[int(event.pick * len(several))]


def _pick_some(pids: Sequence[int], event: Event) -> int:
    return _pick(pids, event) if pids else 0
