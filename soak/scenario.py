"""Draws what happens in a step of the interleavings, from a seed. Pure."""

from __future__ import annotations

from random import Random

import attrs

#: Seconds that the agent of the interleavings holds at most. A good window needs a fraction of it.
HOLD_LIMIT = 4.0

#: Events of a step at most.
MOST_EVENTS = 6

#: Seconds between an event's state and the event, at most. A window takes about so long.
LONGEST_PAUSE = 0.06

#: A stopped agent whose guards have let go by themselves: they do so 0.5 s after the limit
#: (docs/hook.rst, Nothing stays frozen).
LONG_STOP = HOLD_LIMIT + 1.5

#: What happens, and how often of all.
ACTS = {
    "post-sync": 24,
    "sync": 12,
    "drop": 8,
    "thaw": 5,
    "hup": 4,
    "reload": 4,
    "stop agent": 3,
    "stop guard": 3,
    "stop client": 2,
    "stop app": 1,
    "term guard": 4,
    "term agent": 1,
    "kill agent": 2,
    "kill guard": 5,
    "kill client": 4,
    "kill agent and guards": 2,
    "kill app": 2,
    "foreign thaw": 3,
    "foreign thaw and freeze": 2,
    "remount": 3,
    "fault": 4,
}

#: What an event waits for. A phase is that of a participant.
MOMENTS = (
    "",
    "freezing",
    "holding",
    "thawing",
    "app:soak freezing",
    "command:pair freezing",
    "scripts:both freezing",
    "session:lock freezing",
    "filesystem:ext4 preparing",
    "filesystem:ext4 freezing",
    "filesystem:xfs frozen",
    "filesystem:xfs thawing",
    "session:lock thawing",
    "command:pair thawing",
)

#: What needs a hold, and how often it waits for one. A fault in a hold is one of the thaw.
IN_A_HOLD = {
    "post-sync": 0.7,
    "term guard": 0.7,
    "kill guard": 0.7,
    "kill client": 0.7,
    "foreign thaw": 0.7,
    "foreign thaw and freeze": 0.7,
    "remount": 0.7,
    "kill agent and guards": 0.7,
    "fault": 0.5,
}

#: System calls that fail, and with which error.
FAULTS = (
    ("ioctl", "EIO"),
    ("openat", "EMFILE"),
    ("openat", "EIO"),
    ("fsync", "EIO"),
    ("unlink,unlinkat", "EIO"),
    ("clone,clone3,vfork", "EAGAIN"),
)

#: Whose: the agent's and of all that it starts, or those of the guards that there are.
TRACED = ("agent", "agent", "guards")

#: How a step ends, if nothing has ended its windows: as XO does it, by an administrator, or never.
ENDINGS = {"post-sync": 84, "thaw": 14, "expire": 2}


@attrs.frozen
class Event:
    """One thing that happens.

    :param act: what, one of :data:`ACTS`, ``continue`` or ``start agent``.
    :param moment: what is waited for, one of :data:`MOMENTS`.
    :param pause: seconds to wait after that.
    :param pick: from 0 to 1, which of several things it happens to.
    :param detail: the fault, by words that strace(1) knows.
    """

    act: str
    moment: str
    pause: float
    pick: float
    detail: str = ""

    def __str__(self) -> str:
        when = f" when {self.moment}" if self.moment else ""
        return f"{self.act}{f' ({self.detail})' if self.detail else ''}{when} +{self.pause:.3f} s"


@attrs.frozen
class Scenario:
    """What happens in a step.

    :param events: the events, in order.
    :param ending: one of :data:`ENDINGS`.
    """

    events: tuple[Event, ...]
    ending: str


def draw(seed: str, step: int) -> Scenario:
    """Draw a step; the same seed and step give the same.

    :param seed: the seed.
    :param step: the step's number.
    :return: what happens.
    """
    random = Random(f"{seed} {step}")  # noqa: S311 - it is to be repeated.
    events: list[Event] = []
    if random.random() < 0.1:
        # It takes longer to attach than to freeze.
        events.append(Event("fault", "", 0, random.random(), _fault(random, "agent")))
    if random.random() < 0.9:
        events.append(Event("sync", "", 0, random.random()))
    more = random.randint(0 if events else 1, MOST_EVENTS - 1)
    for _ in range(more):
        if len(events) < MOST_EVENTS:
            events += _some(random)
    return Scenario(tuple(events[:MOST_EVENTS]), _weighted(random, ENDINGS))


#: What may happen unseen while the agent is stopped, so that it finds out about all at once.
UNSEEN = ("term guard", "kill guard", "kill client", "foreign thaw", "kill app")


def _at_once(random: Random) -> list[Event]:
    acts = ["stop agent", random.choice(UNSEEN), "post-sync", "continue"]
    return [
        Event(act, moment, _pause(random), random.random())
        for act, moment in zip(acts, ("holding", "", "", ""), strict=True)
    ]


def _some(random: Random) -> list[Event]:
    if random.random() < 0.03:
        return _at_once(random)
    act = _weighted(random, ACTS)
    moment = random.choice(MOMENTS)
    if act in IN_A_HOLD and random.random() < IN_A_HOLD[act]:
        moment = "holding"
    detail = _fault(random, random.choice(TRACED)) if act == "fault" else ""
    found = [Event(act, moment, _pause(random), random.random(), detail)]
    if act.startswith("stop") and random.random() < 0.6:
        pause = LONG_STOP if random.random() < 0.02 else _pause(random)
        found.append(Event("continue", "", pause, random.random()))
    if act in ("kill agent", "kill agent and guards", "term agent") and random.random() < 0.5:
        found.append(Event("start agent", "", _pause(random), random.random()))
    return found


def _fault(random: Random, target: str) -> str:
    call, error = random.choice(FAULTS)
    when = f"{random.choice((1, 1, 1, 2, 3, 5, 8))}{random.choice(('', '+'))}"
    return f"{target} {call} {error} {when}"


def _pause(random: Random) -> float:
    return random.choice((0.0, random.uniform(0, 0.005), random.uniform(0, LONGEST_PAUSE)))


def _weighted(random: Random, weights: dict[str, int]) -> str:
    return random.choices(list(weights), list(weights.values()))[0]
