"""The state machine of windows: all transitions are in this file.

It is pure: it does nothing itself but asks its :class:`~xohook.course.Work` to, and takes the
time from the clock that is passed in. The rules are those of ``docs/hook.rst``; the drawing made
from it is ``docs/window.svg``.

Answers are delivered when the state is whole: a requester may come back with its next request
from within the delivery of its answer. An input that comes within an output of a transition is
postponed by Automat until that output has returned.
"""

from __future__ import annotations

from automat import TypeMachineBuilder
from twisted.logger import Logger

from xohook.answers import Outcome, Requester
from xohook.course import Course
from xohook.inputs import Windows
from xohook.outputs import safe
from xohook.strays import Whose
from xohook.work import Opened

LINGER = 60.0
"""Seconds that a ``/post-sync`` leaves to the hold if not the last (docs/hook.rst, Windows)."""

_log = Logger()

_machine = TypeMachineBuilder(Windows, Course)

_idle = _machine.state("idle")
_freezing = _machine.state("freezing")
_holding = _machine.state("holding")
_thawing = _machine.state("thawing")
_stopping = _machine.state("stopping")
_stopped = _machine.state("stopped")

# A window opens.


@safe(_idle.upon(Windows.sync).to(_freezing))
def _open_window(inputs: Windows, course: Course, requester: Requester) -> None:
    course.open_window(inputs, requester, Opened(course.new_id(), waiting=[requester]))


@safe(_idle.upon(Windows.rehearse).to(_freezing))
def _open_rehearsal(inputs: Windows, course: Course, requester: Requester, hold: float) -> None:
    window = Opened(course.new_id(), rehearser=requester, rehearsal=hold)
    course.open_window(inputs, requester, window)


@safe(_idle.upon(Windows.post_sync).loop())
@safe(_freezing.upon(Windows.post_sync).loop())
def _take_stray(inputs: Windows, course: Course, requester: Requester) -> None:
    possible = course.take_late_post_sync(requester.source)
    _log.info(
        "/post-sync from {source}: {meaning}",
        source=requester.source,
        meaning=f"window {possible[-1].window} had ended before" if possible else "nothing to do",
    )
    course.deliver([requester], course.answer_late_post_sync(possible))


# The freeze, which every requester shares.


@safe(_freezing.upon(Windows.sync).loop())
def _share(inputs: Windows, course: Course, requester: Requester) -> None:
    course.open.waiting.append(requester)
    course.await_answer(inputs, requester)
    _log.info(
        "/sync from {source} shares the freeze of window {window}",
        source=requester.source,
        window=course.open.id,
    )
    course.work.save()


@safe(_freezing.upon(Windows.gone).loop())
def _leave_freeze(inputs: Windows, course: Course, requester: Requester) -> None:
    window = course.open
    if requester is window.rehearser:
        window.rehearser = None
        course.forget(requester)
    elif not course.let_leave(requester):
        return
    if not window.waiting and window.rehearser is None:
        inputs._deserted()


@safe(_freezing.upon(Windows._deserted).to(_thawing))
def _cancel(inputs: Windows, course: Course) -> None:
    why = "the requester closed its connection"
    course.begin_thaw(Outcome.CANCELLED, why, *course.work.cancel(why))


@safe(_freezing.upon(Windows._overdue).to(_thawing))
def _run_out_of_budget(inputs: Windows, course: Course, requester: Requester) -> None:
    course.begin_thaw(Outcome.FAILED, *course.work.cancel("the freeze budget is used up"))
    course.answer_failed_freeze()


@safe(_freezing.upon(Windows.freeze_failed).to(_thawing))
def _undo(inputs: Windows, course: Course, lines: tuple[str, ...]) -> None:
    course.begin_thaw(Outcome.FAILED, *lines)


@safe(_freezing.upon(Windows.let_go).to(_thawing))
def _break_freeze(inputs: Windows, course: Course, line: str) -> None:
    course.work.cancel("another participant has let go")
    course.begin_thaw(Outcome.BROKEN, line)


@safe(_freezing.upon(Windows.frozen).to(_holding))
def _hold(inputs: Windows, course: Course) -> None:
    window = course.open
    window.state = "holding"
    if window.waiting:
        waiting, window.waiting = window.waiting, []
        course.deliver(waiting, course.admit(inputs, waiting))
        return
    course.hold_rehearsal(inputs)


# The hold, which others may join.


@safe(_holding.upon(Windows.sync).loop())
def _join(inputs: Windows, course: Course, requester: Requester) -> None:
    window = course.open
    course.await_answer(inputs, requester)
    if course.is_too_late_to_join:
        course.queue.append(requester)
        _log.info(
            "/sync from {source} is too late to join window {window} and waits for its end",
            source=requester.source,
            window=window.id,
        )
        course.work.save()
        return
    _log.info(
        "/sync from {source} joins window {window}", source=requester.source, window=window.id
    )
    if not (window.answered or window.flushing):
        # The first to take a rehearsal over: those that follow it do not lengthen the hold.
        course.hold_for(inputs, course.limits.hold_limit)
    window.joining.append(requester)
    course.work.save()
    if not window.flushing:
        course.next_flush(inputs)


@safe(_holding.upon(Windows.flushed).loop())
def _admit_joined(inputs: Windows, course: Course, lines: tuple[str, ...]) -> None:
    window = course.open
    joined, window.flushing = window.flushing, []
    if lines:
        course.expect((each.source for each in joined), answered=False)
        course.work.save()
        answer = course.says(500, *lines)
    else:
        answer = course.admit(inputs, joined)
    course.next_flush(inputs)
    course.deliver(joined, answer)


@safe(_holding.upon(Windows.post_sync).loop())
def _count_post_sync(inputs: Windows, course: Course, requester: Requester) -> None:
    window = course.open
    whose = course.whose(requester.source)
    if whose is Whose.EARLIER:
        _take_stray(inputs, course, requester)
    elif whose is Whose.UNCLEAR:
        inputs._ambiguous_post_sync(requester)
    elif window.owed == 1 and not window.joining and not window.flushing:
        inputs._last_post_sync(requester)
    else:
        course.settle(requester.source)
        course.hold_at_most(inputs, LINGER)
        course.work.save()
        course.deliver([requester], course.says(200))


@safe(_holding.upon(Windows._last_post_sync).to(_thawing))
def _end_synced(inputs: Windows, course: Course, requester: Requester) -> None:
    window = course.open
    course.settle(requester.source)
    window.closing.append(requester)
    course.begin_thaw(Outcome.SYNCED)


@safe(_holding.upon(Windows._all_came).to(_thawing))
def _end_when_all_came(inputs: Windows, course: Course) -> None:
    if course.open.answered:
        course.begin_thaw(Outcome.SYNCED)
    else:
        course.begin_thaw(Outcome.FAILED, "who joined the rehearsal could not be served")


@safe(_holding.upon(Windows._ambiguous_post_sync).to(_thawing))
def _end_ambiguous(inputs: Windows, course: Course, requester: Requester) -> None:
    course.open.closing.append(requester)
    why = course.explain_doubt(requester.source)
    course.end_hold(Outcome.AMBIGUOUS, why, taken_by=requester)


@safe(_holding.upon(Windows._limit_passed).to(_thawing))
def _expire(inputs: Windows, course: Course) -> None:
    window = course.open
    if window.owed:
        course.end_hold(Outcome.EXPIRED, f"the hold ended with {window.owed} /post-sync missing")
    elif window.answered:
        course.end_hold(Outcome.SYNCED)
    else:
        course.end_hold(Outcome.EXPIRED, "the hold ended before who joined it was served")


@safe(_holding.upon(Windows._rehearsed).to(_thawing))
def _end_rehearsal(inputs: Windows, course: Course) -> None:
    course.begin_thaw(Outcome.REHEARSED)


@safe(_holding.upon(Windows.let_go).to(_thawing))
def _break_hold(inputs: Windows, course: Course, line: str) -> None:
    course.end_hold(Outcome.BROKEN, line)


@safe(_holding.upon(Windows._deserted).to(_thawing))
def _cancel_rehearsal(inputs: Windows, course: Course) -> None:
    course.begin_thaw(Outcome.CANCELLED, "who rehearsed went away")


@safe(_holding.upon(Windows.gone).loop())
def _leave_hold(inputs: Windows, course: Course, requester: Requester) -> None:
    window = course.open
    if requester is window.rehearser:
        window.rehearser = None
        course.forget(requester)
        if not (window.answered or window.joining or window.flushing):
            inputs._deserted()
    else:
        course.leave_hold(inputs, requester)


@safe(_holding.upon(Windows._overdue).loop())
def _give_up_join(inputs: Windows, course: Course, requester: Requester) -> None:
    if course.leave_hold(inputs, requester):
        course.deliver([requester], course.says(500, "the freeze budget is used up"))


# The thaw, which nothing stops.


@safe(_thawing.upon(Windows.sync).loop())
def _wait_for_thaw(inputs: Windows, course: Course, requester: Requester) -> None:
    course.queue.append(requester)
    course.await_answer(inputs, requester)
    course.work.save()


@safe(_thawing.upon(Windows.post_sync).loop())
def _wait_with_late_post_sync(inputs: Windows, course: Course, requester: Requester) -> None:
    course.late.append((requester, course.take_late_post_sync(requester.source)))


@safe(_thawing.upon(Windows.gone).loop())
@safe(_stopping.upon(Windows.gone).loop())
def _leave_thaw(inputs: Windows, course: Course, requester: Requester) -> None:
    course.let_leave(requester)


@safe(_thawing.upon(Windows._overdue).loop())
def _answer_before_thaw(inputs: Windows, course: Course, requester: Requester) -> None:
    if requester in course.open.waiting:
        course.answer_failed_freeze()
    elif course.let_leave(requester):
        course.deliver([requester], course.says(500, "the window before it was not thawed in time"))


@safe(_thawing.upon(Windows.thawed).to(_idle))
def _close_window(inputs: Windows, course: Course, lines: tuple[str, ...]) -> None:
    deliver = course.close(lines)
    late, course.late = course.late, []
    queue, course.queue = course.queue, []
    for requester in queue:
        inputs.sync(requester)
    # Last, so that whoever comes back with its next request has its turn after those.
    deliver()
    for requester, possible in late:
        # The window may have left late_post_syncs since.
        possible = possible or course.take_late_post_sync(requester.source)
        course.deliver([requester], course.answer_late_post_sync(possible))


# The administrator's end of a window.


@safe(_freezing.upon(Windows.thaw_now).to(_thawing))
def _stop_this_freeze(inputs: Windows, course: Course, requester: Requester) -> None:
    why = f"ended by {requester.source}"
    course.open.closing.append(requester)
    course.begin_thaw(Outcome.STOPPED, why, *course.work.cancel(why))


@safe(_holding.upon(Windows.thaw_now).to(_thawing))
def _stop_this_hold(inputs: Windows, course: Course, requester: Requester) -> None:
    course.open.closing.append(requester)
    course.end_hold(Outcome.STOPPED, f"ended by {requester.source}")


@safe(_thawing.upon(Windows.thaw_now).loop())
@safe(_stopping.upon(Windows.thaw_now).loop())
def _await_thaw(inputs: Windows, course: Course, requester: Requester) -> None:
    course.open.closing.append(requester)


@safe(_idle.upon(Windows.thaw_now).loop())
@safe(_stopped.upon(Windows.thaw_now).loop())
def _nothing_to_thaw(inputs: Windows, course: Course, requester: Requester) -> None:
    course.deliver([requester], course.says(200))


# The end.


@safe(_idle.upon(Windows.stop).to(_stopped))
def _stop_idle(inputs: Windows, course: Course) -> None:
    course.work.stopped()


@safe(_freezing.upon(Windows.stop).to(_stopping))
def _stop_freeze(inputs: Windows, course: Course) -> None:
    why = "the agent is shutting down"
    course.begin_thaw(Outcome.STOPPED, why, *course.work.cancel(why))


@safe(_holding.upon(Windows.stop).to(_stopping))
def _stop_hold(inputs: Windows, course: Course) -> None:
    course.end_hold(Outcome.STOPPED, "the agent is shutting down")


@safe(_stopping.upon(Windows.thawed).to(_stopped))
def _close_last_window(inputs: Windows, course: Course, lines: tuple[str, ...]) -> None:
    late, course.late = course.late, []
    course.deliver((requester for requester, _ in late), course.says(503))
    queue, course.queue = course.queue, []
    course.expect((each.source for each in queue), answered=False)
    deliver = course.close(lines, refusal=503)
    deliver()
    course.deliver(queue, course.says(503))
    course.work.stopped()


@safe(_stopping.upon(Windows._overdue).loop())
def _refuse_overdue(inputs: Windows, course: Course, requester: Requester) -> None:
    if course.let_leave(requester):
        course.deliver([requester], course.says(503))


@safe(_stopping.upon(Windows.sync).loop())
@safe(_stopped.upon(Windows.sync).loop())
def _refuse_sync(inputs: Windows, course: Course, requester: Requester) -> None:
    course.expect([requester.source], answered=False)
    course.work.save()
    course.deliver([requester], course.says(503))


@safe(_stopping.upon(Windows.post_sync).loop())
@safe(_stopped.upon(Windows.post_sync).loop())
def _refuse_post_sync(inputs: Windows, course: Course, requester: Requester) -> None:
    course.take_late_post_sync(requester.source)
    course.deliver([requester], course.says(503))


@safe(_freezing.upon(Windows.rehearse).loop())
@safe(_holding.upon(Windows.rehearse).loop())
@safe(_thawing.upon(Windows.rehearse).loop())
@safe(_stopping.upon(Windows.rehearse).loop())
@safe(_stopped.upon(Windows.rehearse).loop())
def _refuse_rehearsal(inputs: Windows, course: Course, requester: Requester, hold: float) -> None:
    course.deliver([requester], course.says(503, "a window is open, or the agent is shutting down"))


# What comes when it makes no difference any more.

_thawing.upon(Windows.stop).to(_stopping).returns(None)
_stopping.upon(Windows.stop).loop().returns(None)
_stopped.upon(Windows.stop).loop().returns(None)
_idle.upon(Windows.gone).loop().returns(None)
_stopped.upon(Windows.gone).loop().returns(None)
_idle.upon(Windows.let_go).loop().returns(None)
_thawing.upon(Windows.let_go).loop().returns(None)
_stopping.upon(Windows.let_go).loop().returns(None)
_stopped.upon(Windows.let_go).loop().returns(None)

new_windows = _machine.build()
"""Make the machine over a :class:`~xohook.course.Course`; it has no window open."""
