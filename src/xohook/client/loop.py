"""The registration loop that all client styles share. Pure, no I/O: connect, register, stay, retry.

A style carries out what :meth:`RegistrationLoop.next_action` returns, and reports what happens::

    action          carry it out                      report
    Connect         open the connection               connected() or connect_failed()
    Disconnect      close the connection              lost()
    Registered      wake those who wait for it
    Freeze, Thaw    start the callback                done(), or put_back() if it did not start
    Withdrawn       cancel the freeze, if possible
    None            send outgoing; wait for bytes,    receive(), lost() or disconnect()
                    the end of the connection, or
                    the time deadline

Everything that decides whether and when to connect, what ``problem`` says and what is logged about
it is in this file. :class:`~xohook.client.conversation.Conversation` has the protocol.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xohook.client.conversation import (
    Conversation,
    Event,
    Freeze,
    Refused,
    Registered,
    Thaw,
    Withdrawn,
)
from xohook.client.messages import ProtocolError

FIRST_PAUSE = 0.1
"""Seconds, at most, from a failure to the next attempt; doubled for each further attempt
(docs/protocol.rst, Registering again)."""

LONGEST_PAUSE = 5.0
"""Seconds, at most, between two attempts to register (docs/protocol.rst, Registering again)."""


@dataclass(frozen=True)
class Connect:
    """Open a connection to the agent."""


@dataclass(frozen=True)
class Disconnect:
    """Close the connection."""


Action = Connect | Disconnect | Registered | Freeze | Thaw | Withdrawn
"""What a style carries out."""


class RegistrationLoop:
    """Decides when to connect, and what an application's registration is like now.

    All times are in seconds of one monotonic clock, which the caller reads.

    :param name: the application's name.
    :param options: the other parameters of ``register``.
    :param control: the path of the agent's socket, for messages.
    :param log: logs a line at a level of :mod:`logging`.
    :raises ValueError: where an option is a number that JSON does not have.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, object],
        control: str,
        log: Callable[[int, str], None],
    ) -> None:
        # A number that JSON does not have is the caller's mistake: raise before the start.
        Conversation(name, **options)
        self.is_stopped = False
        """Whether it was stopped. It disconnects then, and does not connect again."""
        self._name = name
        self._options = options
        self._control = control
        self._log = log
        # From connected() until the connection is closed and nothing is frozen.
        self._conversation: Conversation | None = None
        self._is_connecting = self._is_connected = self._is_disconnecting = False
        # Why the present connection ended; empty while it has not.
        self._lost_because = ""
        # Why the application is not registered, without regard to _lost_because.
        self._problem = "it has not been started"
        self._attempt_at: float | None = None
        self._pause = self._next_pause = FIRST_PAUSE
        self._registered_at = 0.0
        self._was_registered = False
        self._logged: set[str] = set()

    @property
    def problem(self) -> str:
        """Why the application is not registered now; empty where it is."""
        # A connection that has ended may still wait for its thaw.
        return "it has been closed" if self.is_stopped else self._problem or self._lost_because

    @property
    def is_idle(self) -> bool:
        """Whether there is no connection, none is being opened, and nothing is frozen."""
        return self._conversation is None and not self._is_connecting

    @property
    def is_finished(self) -> bool:
        """Whether it was stopped and is idle: there will be no action any more."""
        return self.is_stopped and self.is_idle

    @property
    def outgoing(self) -> bytearray:
        """Bytes to send. The caller removes what it has sent."""
        return bytearray() if self._conversation is None else self._conversation.outgoing

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`next_action` at the latest; None where no time matters."""
        if self._conversation is not None:
            return self._conversation.deadline
        return None if self.is_stopped else self._attempt_at

    def start(self, now: float) -> None:
        """Begin to register. A connection that is not closed yet is ended first.

        :param now: the time.
        """
        self.disconnect("it has been started again")
        self.is_stopped = False
        self._problem = "the agent has not answered yet"
        self._attempt_at = now

    def stop(self) -> None:
        """Disconnect and register no more. What is frozen is thawed. Any thread may call it."""
        self.is_stopped = True

    def next_action(self, now: float) -> Action | None:
        """Return what to do next, once.

        :param now: the time.
        :return: the action; None where there is none now.
        """
        conversation = self._conversation
        if conversation is not None:
            if self.is_stopped and not conversation.is_ended:
                self.disconnect("it has been closed")
            conversation.tick(now)
            action = self._next_of(conversation, now)
            if action is not None or self._is_connected or not conversation.is_over:
                return action
            self._conversation = None
            self._retry(self._lost_because, now)
        is_due = self._attempt_at is not None and now >= self._attempt_at
        if self.is_stopped or self._is_connecting or not is_due:
            return None
        self._attempt_at = None
        self._is_connecting = True
        return Connect()

    def connected(self) -> None:
        """Register over the connection that is open now."""
        self._is_connecting, self._is_connected, self._is_disconnecting = False, True, False
        self._lost_because = ""
        self._conversation = Conversation(self._name, **self._options)

    def connect_failed(self, error: OSError, now: float) -> None:
        """Try again later.

        :param error: why there is no connection.
        :param now: the time.
        """
        self._is_connecting = False
        hint = ""
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            hint = ": is the agent running, and is this the socket that its option control names?"
        elif isinstance(error, PermissionError):
            hint = ": is this user in the agent's control_group?"
        why = error.strerror or error
        self._retry(f"cannot connect to the agent at {self._control} ({why}){hint}", now)

    def receive(self, data: bytes, now: float) -> None:
        """Handle bytes from the agent.

        :param data: the bytes, in pieces of any size.
        :param now: the time.
        """
        if self._conversation is None:
            return
        try:
            self._conversation.receive(data, now)
        except ProtocolError as error:
            self.disconnect(f"what the agent sends makes no sense: {error}")

    def disconnect(self, problem: str) -> None:
        """End the connection. What is frozen is thawed.

        :param problem: why; the first reason counts.
        """
        self._lost_because = self._lost_because or problem
        if self._conversation is not None:
            self._conversation.end()

    def lost(self, problem: str) -> None:
        """Handle the end of the connection. It is closed on this side too.

        :param problem: why, where it was not this side that ended it.
        """
        self.disconnect(problem)
        self._is_connected = False

    def done(self, problem: str, now: float) -> None:
        """Handle the end of the callback of the last :class:`Freeze` or :class:`Thaw`.

        :param problem: why it failed, in one line; empty for success.
        :param now: the time.
        """
        if self._conversation is not None:
            # The window may be over by now, and the freeze has failed then.
            self._conversation.tick(now)
            self._conversation.done(problem)

    def put_back(self) -> None:
        """Return the last :class:`Freeze` or :class:`Thaw` again: its callback did not start."""
        if self._conversation is not None:
            self._conversation.put_back()

    def _next_of(self, conversation: Conversation, now: float) -> Action | None:
        event: Event | None = None
        while not (conversation.is_ended and self._is_connected and not self._is_disconnecting):
            event = conversation.next_event()
            if not isinstance(event, Refused):
                break
            self.disconnect(event.problem)
        else:
            self._is_disconnecting = True
            return Disconnect()
        if isinstance(event, Registered):
            self._registered(now)
        return event

    def _registered(self, now: float) -> None:
        self._registered_at = now
        self._logged.clear()
        self._problem = ""
        again, self._was_registered = " again" if self._was_registered else "", True
        self._log(
            logging.INFO, f"{self._name}: registered{again} with the agent at {self._control}"
        )

    def _retry(self, problem: str, now: float) -> None:
        was_registered = not self._problem
        # Pauses get longer for an agent that ends again at once, too.
        if was_registered and now - self._registered_at > self._pause:
            self._next_pause = FIRST_PAUSE
        self._problem = problem
        if problem not in self._logged and not self.is_stopped:
            self._logged.add(problem)
            what = "lost the agent" if was_registered else "not registered"
            self._log(logging.WARNING, f"{self._name}: {what}: {problem}; trying again")
        self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, LONGEST_PAUSE)
        # A random part of it, so that not all applications connect at the same moment.
        self._attempt_at = now + self._pause * (0.5 + os.urandom(1)[0] / 510)
