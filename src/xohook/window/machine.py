"""The state machine of windows: all transitions, by the rules of ``docs/hook.rst``. Pure.

A transition is an input in a state, and the state after it; the function under it is its output. It
changes the :class:`~xohook.window.context.WindowContext`, which owns the present window, and asks
that for its :class:`~xohook.window.effects.WindowEffects`: freeze, thaw, write. Three rules hold:

- Automat postpones an input that comes while an output runs. So an output may send an input itself
  (``inputs._deserted()``), and a requester may come back while its answer is delivered.
- An answer is delivered after all else has changed, and after the record was written.
- No exception leaves an output (:mod:`~xohook.window.outputs`): Automat would drop the inputs.
"""

from __future__ import annotations

from automat import TypeMachineBuilder
from twisted.logger import Logger

from xohook.window.answers import Outcome, Requester
from xohook.window.context import WindowContext
from xohook.window.effects import LINGER, Window
from xohook.window.inputs import WindowInputs
from xohook.window.late_post_syncs import Whose
from xohook.window.outputs import safe

_log = Logger()

_machine = TypeMachineBuilder(WindowInputs, WindowContext)

_idle = _machine.state("idle")
_freezing = _machine.state("freezing")
_holding = _machine.state("holding")
_thawing = _machine.state("thawing")
_stopping = _machine.state("stopping")
_stopped = _machine.state("stopped")

# A window opens.


@safe(_idle.upon(WindowInputs.sync).to(_freezing))
def _open_window(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.open_window(inputs, requester, Window(context.new_id(), waiting=[requester]))


@safe(_idle.upon(WindowInputs.rehearse).to(_freezing))
def _open_rehearsal(
    inputs: WindowInputs, context: WindowContext, requester: Requester, hold: float
) -> None:
    window = Window(context.new_id(), rehearser=requester, rehearsal=hold)
    context.open_window(inputs, requester, window)


@safe(_idle.upon(WindowInputs.post_sync).loop())
@safe(_freezing.upon(WindowInputs.post_sync).loop())
def _take_late(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    possible = context.take_late_post_sync(requester.source)
    _log.info(
        "/post-sync from {source}: {meaning}",
        source=requester.source,
        meaning=f"window {possible[-1].window} had ended before" if possible else "nothing to do",
    )
    context.deliver([requester], context.answer_late_post_sync(possible))


# The freeze: every requester shares it.


@safe(_freezing.upon(WindowInputs.sync).loop())
def _share(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.present.waiting.append(requester)
    context.start_budget(inputs, requester)
    _log.info(
        "/sync from {source} shares the freeze of window {window}",
        source=requester.source,
        window=context.present.id,
    )
    context.persist()


@safe(_freezing.upon(WindowInputs.gone).loop())
def _leave_freeze(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    window = context.present
    if requester is window.rehearser:
        window.rehearser = None
        context.stop_budget(requester)
    elif not context.leave(requester):
        return
    if not window.waiting and window.rehearser is None:
        inputs._deserted()


@safe(_freezing.upon(WindowInputs._deserted).to(_thawing))
def _cancel(inputs: WindowInputs, context: WindowContext) -> None:
    why = "the requester closed its connection"
    context.begin_thaw(inputs, Outcome.CANCELLED, why, *context.effects.cancel(why))


@safe(_freezing.upon(WindowInputs._overdue).to(_thawing))
def _run_out_of_time(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    undone = context.effects.cancel("the freeze budget is used up")
    context.begin_thaw(inputs, Outcome.FAILED, *undone)
    context.answer_failed_freeze()


@safe(_freezing.upon(WindowInputs.freeze_failed).to(_thawing))
def _undo(inputs: WindowInputs, context: WindowContext, lines: tuple[str, ...]) -> None:
    context.begin_thaw(inputs, Outcome.FAILED, *lines)


@safe(_freezing.upon(WindowInputs.let_go).to(_thawing))
def _break_freeze(inputs: WindowInputs, context: WindowContext, line: str) -> None:
    context.effects.cancel("another participant has let go")
    context.begin_thaw(inputs, Outcome.BROKEN, line)


@safe(_freezing.upon(WindowInputs.frozen).to(_holding))
def _hold(inputs: WindowInputs, context: WindowContext) -> None:
    window = context.present
    window.state = "holding"
    if window.waiting:
        waiting, window.waiting = window.waiting, []
        context.deliver(waiting, context.admit(inputs, waiting))
        return
    context.hold_rehearsal(inputs)


# The hold: others may join it.


@safe(_holding.upon(WindowInputs.sync).loop())
def _join(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    window = context.present
    context.start_budget(inputs, requester)
    if window.is_too_late_to_join(context.limits.hold_limit, context.clock.seconds()):
        context.queue.append(requester)
        _log.info(
            "/sync from {source} is too late to join window {window} and waits for its end",
            source=requester.source,
            window=window.id,
        )
        context.persist()
        return
    _log.info(
        "/sync from {source} joins window {window}", source=requester.source, window=window.id
    )
    if not (window.answered or window.flushing):
        # It takes a rehearsal over. Those that follow it do not lengthen the hold.
        context.hold_for(inputs, context.limits.hold_limit)
    window.joining.append(requester)
    context.persist()
    if not window.flushing:
        context.next_flush(inputs)


@safe(_holding.upon(WindowInputs.flushed).loop())
def _admit_joined(inputs: WindowInputs, context: WindowContext, lines: tuple[str, ...]) -> None:
    window = context.present
    joined, window.flushing = window.flushing, []
    if lines:
        context.expect_late((each.source for each in joined), answered=False)
        context.persist()
        answer = context.answer(500, *lines)
    else:
        answer = context.admit(inputs, joined)
    context.next_flush(inputs)
    context.deliver(joined, answer)


@safe(_holding.upon(WindowInputs.post_sync).loop())
def _count_post_sync(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    window = context.present
    whose = context.whose(requester.source)
    if whose is Whose.EARLIER:
        _take_late(inputs, context, requester)
    elif whose is Whose.UNCLEAR:
        inputs._ambiguous_post_sync(requester)
    elif window.owed == 1 and not window.joining and not window.flushing:
        inputs._last_post_sync(requester)
    else:
        context.settle(requester.source)
        context.hold_at_most(inputs, LINGER)
        context.persist()
        context.deliver([requester], context.answer(200))


@safe(_holding.upon(WindowInputs._last_post_sync).to(_thawing))
def _end_synced(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.settle(requester.source)
    context.present.closing.append(requester)
    context.begin_thaw(inputs, Outcome.SYNCED)


@safe(_holding.upon(WindowInputs._all_came).to(_thawing))
def _end_all_came(inputs: WindowInputs, context: WindowContext) -> None:
    if context.present.answered:
        context.begin_thaw(inputs, Outcome.SYNCED)
    else:
        context.begin_thaw(inputs, Outcome.FAILED, "who joined the rehearsal could not be served")


@safe(_holding.upon(WindowInputs._ambiguous_post_sync).to(_thawing))
def _end_ambiguous(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.present.closing.append(requester)
    why = context.explain_doubt(requester.source)
    context.end_hold(inputs, Outcome.AMBIGUOUS, why, taken_by=requester)


@safe(_holding.upon(WindowInputs._limit_passed).to(_thawing))
def _expire(inputs: WindowInputs, context: WindowContext) -> None:
    window = context.present
    if window.owed:
        why = f"the hold ended with {window.owed} /post-sync missing"
        context.end_hold(inputs, Outcome.EXPIRED, why)
    elif window.answered:
        context.end_hold(inputs, Outcome.SYNCED)
    else:
        context.end_hold(inputs, Outcome.EXPIRED, "the hold ended before who joined it was served")


@safe(_holding.upon(WindowInputs._rehearsed).to(_thawing))
def _end_rehearsal(inputs: WindowInputs, context: WindowContext) -> None:
    context.begin_thaw(inputs, Outcome.REHEARSED)


@safe(_holding.upon(WindowInputs.let_go).to(_thawing))
def _break_hold(inputs: WindowInputs, context: WindowContext, line: str) -> None:
    context.end_hold(inputs, Outcome.BROKEN, line)


@safe(_holding.upon(WindowInputs._deserted).to(_thawing))
def _cancel_rehearsal(inputs: WindowInputs, context: WindowContext) -> None:
    context.begin_thaw(inputs, Outcome.CANCELLED, "who rehearsed went away")


@safe(_holding.upon(WindowInputs.gone).loop())
def _leave_hold(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    window = context.present
    if requester is window.rehearser:
        window.rehearser = None
        context.stop_budget(requester)
        if not (window.answered or window.joining or window.flushing):
            inputs._deserted()
    else:
        context.leave_hold(inputs, requester)


@safe(_holding.upon(WindowInputs._overdue).loop())
def _give_up_join(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    if context.leave_hold(inputs, requester):
        context.deliver([requester], context.answer(500, "the freeze budget is used up"))


# The thaw: nothing stops it.


@safe(_thawing.upon(WindowInputs.sync).loop())
def _wait_for_thaw(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.queue.append(requester)
    context.start_budget(inputs, requester)
    context.persist()


@safe(_thawing.upon(WindowInputs.post_sync).loop())
def _wait_with_late(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.late.append((requester, context.take_late_post_sync(requester.source)))


@safe(_thawing.upon(WindowInputs.gone).loop())
@safe(_stopping.upon(WindowInputs.gone).loop())
def _leave_thaw(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.leave(requester)


@safe(_thawing.upon(WindowInputs._overdue).loop())
def _answer_early(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    if requester in context.present.waiting:
        context.answer_failed_freeze()
    elif context.leave(requester):
        why = "the window before it was not thawed in time"
        context.deliver([requester], context.answer(500, why))


@safe(_thawing.upon(WindowInputs.thawed).to(_idle))
def _close_window(inputs: WindowInputs, context: WindowContext, lines: tuple[str, ...]) -> None:
    deliver = context.close(lines)
    late, context.late = context.late, []
    queue, context.queue = context.queue, []
    for requester in queue:
        inputs.sync(requester)
    # Last, so that requests that come during the delivery have their turn after those.
    deliver()
    for requester, possible in late:
        # The window may have left some since.
        possible = possible or context.take_late_post_sync(requester.source)
        context.deliver([requester], context.answer_late_post_sync(possible))


# The administrator ends a window.


@safe(_freezing.upon(WindowInputs.thaw_now).to(_thawing))
def _stop_this_freeze(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    why = f"ended by {requester.source}"
    context.present.closing.append(requester)
    context.begin_thaw(inputs, Outcome.STOPPED, why, *context.effects.cancel(why))


@safe(_holding.upon(WindowInputs.thaw_now).to(_thawing))
def _stop_this_hold(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.present.closing.append(requester)
    context.end_hold(inputs, Outcome.STOPPED, f"ended by {requester.source}")


@safe(_thawing.upon(WindowInputs.thaw_now).loop())
@safe(_stopping.upon(WindowInputs.thaw_now).loop())
def _await_thaw(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.present.closing.append(requester)


@safe(_idle.upon(WindowInputs.thaw_now).loop())
@safe(_stopped.upon(WindowInputs.thaw_now).loop())
def _nothing_to_thaw(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.deliver([requester], context.answer(200))


# The agent stops.


@safe(_idle.upon(WindowInputs.stop).to(_stopped))
def _stop_idle(inputs: WindowInputs, context: WindowContext) -> None:
    context.effects.stopped()


@safe(_freezing.upon(WindowInputs.stop).to(_stopping))
def _stop_freeze(inputs: WindowInputs, context: WindowContext) -> None:
    why = "the agent is shutting down"
    context.begin_thaw(inputs, Outcome.STOPPED, why, *context.effects.cancel(why))


@safe(_holding.upon(WindowInputs.stop).to(_stopping))
def _stop_hold(inputs: WindowInputs, context: WindowContext) -> None:
    context.end_hold(inputs, Outcome.STOPPED, "the agent is shutting down")


@safe(_stopping.upon(WindowInputs.thawed).to(_stopped))
def _close_last(inputs: WindowInputs, context: WindowContext, lines: tuple[str, ...]) -> None:
    late, context.late = context.late, []
    context.deliver((requester for requester, _ in late), context.answer(503))
    queue, context.queue = context.queue, []
    context.expect_late((each.source for each in queue), answered=False)
    deliver = context.close(lines, refusal=503)
    deliver()
    context.deliver(queue, context.answer(503))
    context.effects.stopped()


@safe(_stopping.upon(WindowInputs._overdue).loop())
def _refuse_overdue(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    if context.leave(requester):
        context.deliver([requester], context.answer(503))


@safe(_stopping.upon(WindowInputs.sync).loop())
@safe(_stopped.upon(WindowInputs.sync).loop())
def _refuse_sync(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.expect_late([requester.source], answered=False)
    context.persist()
    context.deliver([requester], context.answer(503))


@safe(_stopping.upon(WindowInputs.post_sync).loop())
@safe(_stopped.upon(WindowInputs.post_sync).loop())
def _refuse_post_sync(inputs: WindowInputs, context: WindowContext, requester: Requester) -> None:
    context.take_late_post_sync(requester.source)
    context.deliver([requester], context.answer(503))


@safe(_freezing.upon(WindowInputs.rehearse).loop())
@safe(_holding.upon(WindowInputs.rehearse).loop())
@safe(_thawing.upon(WindowInputs.rehearse).loop())
@safe(_stopping.upon(WindowInputs.rehearse).loop())
@safe(_stopped.upon(WindowInputs.rehearse).loop())
def _refuse_rehearsal(
    inputs: WindowInputs, context: WindowContext, requester: Requester, hold: float
) -> None:
    why = "a window is open, or the agent is shutting down"
    context.deliver([requester], context.answer(503, why))


# Inputs that change nothing in these states.

_thawing.upon(WindowInputs.stop).to(_stopping).returns(None)
_stopping.upon(WindowInputs.stop).loop().returns(None)
_stopped.upon(WindowInputs.stop).loop().returns(None)
_idle.upon(WindowInputs.gone).loop().returns(None)
_stopped.upon(WindowInputs.gone).loop().returns(None)
for _state in (_idle, _thawing, _stopping, _stopped):
    _state.upon(WindowInputs.let_go).loop().returns(None)

new_machine = _machine.build()
"""Make the machine of a :class:`~xohook.window.context.WindowContext` that has no window."""
