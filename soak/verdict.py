"""Judges what the agent has said in a step, by what the soak knows to have happened. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from soak.requesters import Request

_OUTCOME = re.compile(r"window (\S+) ([a-z]+)$", re.MULTILINE)

_BAD = frozenset(("failed", "cancelled", "expired", "broken", "ambiguous", "stopped", "recovered"))


@attrs.frozen
class Break:
    """A hold was broken, if there was one.

    :param what: by what.
    :param begin: before that, by the monotonic clock.
    :param end: after it.
    """

    what: str
    begin: float
    end: float


def outcomes(log: str) -> Mapping[str, str]:
    """Find how windows ended.

    :param log: the agent's log.
    :return: the outcome of each window, by its id.
    """
    return dict(_OUTCOME.findall(log))


def judge_answers(
    requests: Iterable[Request],
    breaks: Sequence[Break],
    ended: Mapping[str, str],
    has_failed: bool,
) -> Iterator[str]:
    """Find what may not have been answered so.

    :param requests: all requests of a step, which are over.
    :param breaks: what broke a hold, if there was one.
    :param ended: the outcomes of windows by the log.
    :param has_failed: whether system calls have failed: where the record cannot be written, the
        next start takes a window for open that has ended.
    :return: a sentence for each mistake.
    """
    requests = list(requests)
    post_syncs = [each for each in requests if each.path == "/post-sync" and each.sent is not None]
    holds: dict[str, list[Request]] = defaultdict(list)
    for each in requests:
        if each.path == "/sync" and each.status == 200 and each.window:
            holds[each.window].append(each)
    yield from _judge_each(requests)
    if not has_failed:
        yield from _compare(requests, ended)
    good = {each.window for each in post_syncs if each.state == "synced"}
    good |= {window for window, outcome in ended.items() if outcome == "synced"}
    for window, syncs in holds.items():
        if window in good:
            yield from _judge_synced(window, syncs, post_syncs, breaks)
    yield from _judge_late(requests, post_syncs, holds, ended)


def _judge_each(requests: Iterable[Request]) -> Iterator[str]:
    for each in requests:
        if each.status not in (None, 200, 500, 503):
            yield f"{each}: the hook has no such status."
        if each.path == "/post-sync" and each.status == 200 and each.state in _BAD:
            yield f"{each}: its window has ended badly."
        if each.path == "/post-sync" and each.status == 500 and each.state == "synced":
            yield f"{each}: its window has ended well."


def _compare(requests: Iterable[Request], ended: Mapping[str, str]) -> Iterator[str]:
    for each in requests:
        logged = ended.get(each.window or "", each.state)
        if each.state in {*_BAD, "synced"} and logged != each.state:
            yield f"{each}: the log says {logged}."


def _judge_synced(
    window: str, syncs: Sequence[Request], post_syncs: Sequence[Request], breaks: Sequence[Break]
) -> Iterator[str]:
    """Allow ``synced`` where nothing broke the hold before all of its ``/post-sync`` were sent."""
    held = min(each.over for each in syncs if each.over)
    for broken in breaks:
        if broken.begin < held:
            continue
        sent = [each for each in post_syncs if each.sent and each.sent < broken.end]
        if len(sent) < len(syncs):
            yield (
                f"Window {window} was synced, and had been broken before its last /post-sync was "
                f"sent: {broken.what}."
            )


def _judge_late(
    requests: Sequence[Request],
    post_syncs: Sequence[Request],
    holds: Mapping[str, Sequence[Request]],
    ended: Mapping[str, str],
) -> Iterator[str]:
    """Expect 500 where no window was good: the clear cases, with no ``/post-sync`` too many."""
    syncs = [each for each in requests if each.path == "/sync"]
    is_clear = all(each.status == 200 for each in syncs) and len(post_syncs) <= len(syncs)
    if not is_clear or not holds:
        return
    if any(ended.get(window, "") not in _BAD for window in holds):
        return
    last = max(each.over for each in syncs if each.over)
    for each in post_syncs:
        if each.status == 200 and each.state != "holding" and each.sent and each.sent > last:
            yield f"{each}: every window of its sender had ended badly."


def judge_delays(requests: Iterable[Request], longest: float) -> Iterator[str]:
    """Find what was answered late, or never.

    :param requests: all requests of a step.
    :param longest: seconds that an answer may take.
    :return: a sentence for each.
    """
    for each in requests:
        if each.over is None:
            yield f"{each}: it is never answered."
        elif each.sent is not None and each.over - each.sent > longest:
            yield f"{each}: it took {each.over - each.sent:.1f} s."


@attrs.frozen(kw_only=True)
class Deaths:
    """Who has died in a step.

    :param agent: whether the agent has: it is told to thaw again what was interrupted.
    :param app: whether the app has: it is not thawed then.
    """

    agent: bool = False
    app: bool = False


def judge_journal(lines: Iterable[str], log: str, deaths: Deaths) -> Iterator[str]:
    """Find what was frozen and not thawed after that, or not as often.

    A thaw that was run and failed is not run again (docs/hook.rst, Nothing stays frozen). It may
    have failed before it could note anything, so there the log's word counts. A thaw that could
    not be run at all is still owed (Unthawed filesystems).

    :param lines: the lines that programs and the app have written: who, phase, and the window,
        which a thaw that is owed since before the agent's start does not know.
    :param log: the agent's log where system calls have failed, and programs with them; empty where
        none have.
    :param deaths: who has died.
    :return: a sentence for each mistake.
    """
    counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    last: dict[tuple[str, str], str] = {}
    for line in lines:
        who, phase, *known = line.split()
        windows = known or [window for each, window in counted if each == who]
        for window in windows:
            counted[who, window][phase] += 1
            last[who, window] = phase
    for (who, window), phases in counted.items():
        is_excused = deaths.app if who == "app" else _has_run_and_failed(who, window, log)
        if phases["freeze"] and last[who, window] != "thaw" and not is_excused:
            yield f"{who} was frozen in {window} and not thawed after that."
        has_died = deaths.agent or (deaths.app and who == "app")
        if (phases["freeze"] > 1 or phases["thaw"] > 1) and not has_died:
            yield f"{who} was asked more than once in {window}: {dict(phases)}"


def _has_run_and_failed(who: str, window: str, log: str) -> bool:
    """Tell whether the log says that a program's thaw was run, in its turn or later, and failed."""
    name, script = ("command:pair", "") if who == "pair" else ("scripts:both", f"{who}: ")
    # The other script's end may be told before this one's.
    failed = f"(?:.*; )?{script}(?:exit status|ended by|cannot run|not done within)"
    # Where the machine was so slow that the time of all was up, no script is named.
    problem = f"{name} NOT THAWED: (?:{failed}|not done within)"
    return re.search(rf"(?:window {window}: |\] ){problem}", log) is not None
