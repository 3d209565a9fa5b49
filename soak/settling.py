"""After each step: all is let go, the answers were right, and a good window follows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from soak.acts import Step
from soak.machine import FREEZE_BUDGET, PATIENCE, Machine
from soak.requesters import Request
from soak.scenario import Scenario
from soak.verdict import Deaths, judge_answers, judge_delays, judge_journal, outcomes
from tests.integration.agent import GLANCE

#: Seconds beyond the freeze budget that an answer may take on a loaded machine.
SLACK = 5.0

#: Seconds in which the log tells the outcome of a window that has ended.
LOGGED = 5.0


class Wrong(Exception):  # noqa: N818 - it is no error of the soak's.
    """The agent has done what it may not do."""


def settle(machine: Machine, step: Step, scenario: Scenario) -> None:
    """Let go of everything, end all windows, and see that nothing is left of them.

    :param machine: what the step happened to.
    :param step: what has happened.
    :param scenario: how the step ends.
    :raises Wrong: where something is left.
    """
    step.let_fail()
    step.end_faults()
    step.resume()
    if len(step.deaths) > step.starts:
        if not _eventually(lambda: machine.agent.ended, time.monotonic() + PATIENCE):
            raise Wrong("the agent does not end after SIGTERM")
        step.starts += 1
        machine.restart()
        step.note("the agent has been started again")
    elif machine.agent.ended:
        raise Wrong(f"the agent has ended by itself, with {machine.agent.wait()}")
    machine.revive_app()
    deadline = time.monotonic() + PATIENCE
    if scenario.ending == "thaw":
        step.note("thaw_now, to end the step")
        machine.ask("thaw_now")
    _end_windows(machine, step, scenario.ending, deadline)
    _wait_for_disks(step, deadline)
    # Removing the last entry from the record and the end of a guard come a moment after the answer.
    _wait_for_rest(machine, deadline)
    if found := machine.written():
        raise Wrong(found)
    if machine.lock_is_held():
        raise Wrong("the lock is held")
    step.note("at rest")


def judge(machine: Machine, step: Step) -> dict[str, str]:
    """Judge what the agent has said and done in a step.

    :param machine: what the step happened to.
    :param step: what has happened.
    :return: the outcome of each window.
    :raises Wrong: where something was not right.
    """
    ended = _logged_outcomes(machine, step)
    longest = FREEZE_BUDGET + SLACK + step.stopped
    mistakes = [
        *judge_answers(step.requests, step.breaks, ended, step.has_faults),
        *judge_delays(step.requests, longest),
    ]
    for each in step.requests:
        lost = each.status is None and not each.is_dropped and not step.deaths
        if lost and not step.has_faults:
            mistakes.append(f"{each}: it was not answered.")
    app_died = any(each.what == "app killed" for each in step.breaks)
    log = machine.log if step.has_faults else ""
    mistakes += _journal(machine, log, Deaths(agent=bool(step.deaths), app=app_died))
    if "Traceback" in machine.log and not step.has_faults:
        mistakes.append("The log has a traceback.")
    if mistakes:
        raise Wrong("\n".join(mistakes))
    return ended


def good_window(machine: Machine, source: str) -> None:
    """Have a window pass that has to be good.

    :param machine: where.
    :param source: an address that nothing is expected from.
    :raises Wrong: where it is not.
    """
    sync = Request("/sync", machine.agent.port, source, machine.credentials)
    sync.wait(FREEZE_BUDGET + SLACK)
    if sync.status != 200:
        raise Wrong(f"the good window: {sync}")
    free = [kind for kind, disk in machine.disks.items() if not disk.is_frozen]
    if not machine.lock_is_held():
        free.append("the lock")
    post_sync = Request("/post-sync", machine.agent.port, source, machine.credentials)
    post_sync.wait(PATIENCE)
    if free:
        raise Wrong(f"the good window: {sync}, but not held: {free}")
    if (post_sync.status, post_sync.state, post_sync.window) != (200, "synced", sync.window):
        raise Wrong(f"the good window {sync.window}: {post_sync}")
    if not _eventually(lambda: not _entries(machine), time.monotonic() + PATIENCE):
        raise Wrong(f"after the good window the record has {_entries(machine)}")
    if mistakes := _journal(machine, "", Deaths()):
        raise Wrong("after the good window: " + "\n".join(mistakes))


def _end_windows(machine: Machine, step: Step, ending: str, deadline: float) -> None:
    """Send each ``/post-sync`` that is missing, at once or after the end of all windows."""
    is_told = False
    while time.monotonic() < deadline:
        is_open = machine.watcher.is_open
        pending = [each for each in step.requests if each.over is None]
        missing = _missing(step)
        if missing > 0 and (ending == "post-sync" or not (is_open or pending)):
            step.note(f"{missing} /post-sync, to end the step")
            for _ in range(missing):
                step.request("/post-sync")
        elif not is_open and not pending:
            if is_told and not machine.ask("status")["open"]:
                return
            is_told = True
        time.sleep(GLANCE / 4)
    raise Wrong(f"a window does not end: {machine.ask('status')}\n{_listed(step.requests)}")


def _missing(step: Step) -> int:
    """Count the ``/post-sync`` that XO would send yet: for each ``/sync`` that is over."""
    left = sorted(each.made for each in step.post_syncs)
    missing = 0
    for sync in sorted((each for each in step.syncs if each.over), key=_over):
        # One that was sent before a hold was no snapshot's.
        later = [each for each in left if sync.status != 200 or each > _over(sync)]
        if later:
            left.remove(later[0])
        else:
            missing += 1
    return missing


def _over(request: Request) -> float:
    return request.over or 0.0


def _wait_for_disks(step: Step, deadline: float) -> None:
    if not _eventually(step.tidy_disks, deadline):
        raise Wrong("a filesystem cannot be mounted again")


def _wait_for_rest(machine: Machine, deadline: float) -> None:
    # A record that could not be written is written again by and by, with no window.
    found: object = None

    def at_rest() -> bool:
        nonlocal found
        status = machine.ask("status")
        if status is None:
            found = "no status"
        elif status["open"] or status["unthawed"] or status["absent"]:
            found = {name: status[name] for name in ("open", "state", "unthawed", "absent")}
        else:
            found = machine.leftovers() or machine.left_open() or _entries(machine)
            found = found or (machine.has_stamp and "the stamp")
        return not found

    if not _eventually(at_rest, deadline):
        raise Wrong(f"something is left: {found}")


def _entries(machine: Machine) -> object:
    path = machine.agent.runtime_directory / "record.json"
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return record["entries"] or record.get("window")


def _logged_outcomes(machine: Machine, step: Step) -> dict[str, str]:
    """Wait for the outcome of each window that was answered; a killed agent may have lost one."""
    known = {each.window for each in step.syncs if each.status == 200}

    def told() -> bool:
        return known <= set(outcomes(machine.log))

    if not step.deaths and not _eventually(told, time.monotonic() + LOGGED):
        missing = known - set(outcomes(machine.log))
        raise Wrong(f"the log has no outcome of {missing}")
    return dict(outcomes(machine.log))


def _journal(machine: Machine, log: str, deaths: Deaths) -> list[str]:
    def mistakes() -> list[str]:
        return list(judge_journal(machine.journal.read_text().splitlines(), log, deaths))

    # The app says that it goes on before it has noted so, where it does so by itself.
    _eventually(lambda: not mistakes(), time.monotonic() + LOGGED)
    found = mistakes()
    machine.journal.write_text("")
    return found


def _listed(requests: Iterable[Request]) -> str:
    return "\n".join(map(str, requests))


def _eventually(true: object, deadline: float) -> bool:
    assert callable(true)
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(GLANCE / 4)
    return True
