"""Lets an application take part in snapshots: it freezes before one, and continues after it.

::

    from xohook.client import Freeze, Registration, Thaw

    registration = Registration("orders")

    @registration.freeze
    def freeze(request: Freeze) -> None:
        ...  # write to disk what is in memory, and write no more until the thaw

    @registration.thaw
    def thaw(request: Thaw) -> None:
        ...  # continue; request.outcome is "synced" where all went well

    with registration:
        serve_forever()

The callbacks can also be parameters: ``Registration("orders", freeze=freeze, thaw=thaw)``.

:class:`AsyncRegistration` is the same for asyncio, with coroutine functions;
:mod:`xohook.txclient` has one for Twisted. Each registers by itself, and tries again where the
agent is not there, restarts or refuses. None of them ends the application or keeps it from ending.

After each call of ``freeze`` there is exactly one of ``thaw``, even where ``freeze`` raised an
exception. The client thaws by itself where the connection to the agent ends first (``broken``) or
the agent is silent for too long (``expired``). A ``freeze`` that raises an exception fails the
window, with the exception as the reason.

The logger ``xohook.client`` gets a line at ``INFO`` for each registration, the first and every
later one, and one at ``WARNING`` when the agent is lost or refuses the registration.

Everything but the style for Twisted needs the standard library alone. The protocol is that of
``docs/protocol.rst``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xohook.client.conversation import (
    CALLBACK_FAILED,
    UNKNOWN_METHOD,
    Conversation,
    Event,
    Freeze,
    Refused,
    Registered,
    Thaw,
    Withdrawn,
)
from xohook.client.loop import FIRST_PAUSE, LONGEST_PAUSE
from xohook.client.messages import LONGEST, LONGEST_TEXT, ProtocolError, describe_error
from xohook.client.registration import CONTROL, RegistrationBase
from xohook.client.threads import LONGEST_JOIN, Registration

if TYPE_CHECKING:
    from xohook.client.aio import AsyncRegistration

__all__ = [
    "CALLBACK_FAILED",
    "CONTROL",
    "FIRST_PAUSE",
    "LONGEST",
    "LONGEST_JOIN",
    "LONGEST_PAUSE",
    "LONGEST_TEXT",
    "UNKNOWN_METHOD",
    "AsyncRegistration",
    "Conversation",
    "Event",
    "Freeze",
    "ProtocolError",
    "Refused",
    "Registered",
    "Registration",
    "RegistrationBase",
    "Thaw",
    "Withdrawn",
    "describe_error",
]


def __getattr__(name: str) -> object:
    # An application without asyncio does not import it.
    if name == "AsyncRegistration":
        from xohook.client.aio import AsyncRegistration

        return AsyncRegistration
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
