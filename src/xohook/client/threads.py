"""The plain style: the callbacks run on a thread that the registration starts and ends."""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

from xohook.client.conversation import Freeze, Registered, Thaw
from xohook.client.loop import FIRST_PAUSE, Action, Connect, Disconnect
from xohook.client.messages import describe_error
from xohook.client.registration import RegistrationBase, reject_unawaited
from xohook.client.transport import Transport

if TYPE_CHECKING:
    # The standard library has it from Python 3.11 on.
    from typing_extensions import Self

LONGEST_JOIN = 1.0
"""Seconds, at most, that :meth:`Registration.close` waits for the thread."""


class Registration(RegistrationBase[object]):
    """The plain style: the callbacks run on a thread of their own.

    It is a context manager, and used once. A freeze cannot be cancelled: where the thaw is due
    while the freeze runs, the thaw starts when the freeze has ended.
    """

    _thread: threading.Thread | None = None
    _transport: Transport | None = None
    _is_abandoned = False

    def _prepare(self) -> None:
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to register. This does not wait.

        :raises RuntimeError: where it was started or closed before, or has no callbacks.
        """
        if self._thread is not None or self._loop.is_stopped:
            raise RuntimeError("a registration is started once: create another one")
        self._require_callbacks()
        self._loop.start(time.monotonic())
        thread = threading.Thread(target=self._run, name=f"xohook {self._app}", daemon=True)
        _running.add(self)
        thread.start()
        self._thread = thread

    def close(self) -> None:
        """End the registration. What is frozen is thawed.

        This waits for the end a second at most, and not at all within a callback. A program that
        ends without this call behaves as if it had made it.
        """
        self._stop()
        self._join(LONGEST_JOIN)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the application is registered, or the registration closed.

        :param timeout: seconds to wait at most; None for no limit.
        :return: whether it is registered.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.registered or self._loop.is_stopped, timeout)
        return self.registered

    def _stop(self) -> None:
        with self._changed:
            self._loop.stop()
            self._changed.notify_all()
            if self._transport is not None:
                # This wakes the thread where it waits for bytes.
                self._transport.shut_down()

    def _join(self, timeout: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _abandon(self) -> None:
        """Do nothing more, in the child of a fork: the registration is the parent's."""
        # The thread that held the lock does not run in the child.
        self._changed = threading.Condition()
        self._transport = None
        self._is_abandoned = True
        self._loop.stop()

    def _run(self) -> None:
        while not (self._loop.is_finished or self._is_abandoned):
            try:
                self._carry_out(self._loop.next_action(time.monotonic()))
            except Exception as error:  # noqa: BLE001 - an error in the client leaves nothing frozen.
                self._loop.disconnect(f"internal error of the client: {describe_error(error)}")
                time.sleep(FIRST_PAUSE)

    def _carry_out(self, action: Action | None) -> None:
        if action is None:
            self._wait_for_more()
        elif isinstance(action, Freeze | Thaw):
            self._run_callback(action)
        elif isinstance(action, Connect):
            self._connect()
        elif isinstance(action, Disconnect):
            self._disconnect()
        elif isinstance(action, Registered):
            with self._changed:
                self._changed.notify_all()

    def _connect(self) -> None:
        try:
            transport = Transport(self._control, self._loop)
        except OSError as error:
            self._loop.connect_failed(error, time.monotonic())
            return
        with self._changed:
            self._transport = transport
        self._loop.connected()

    def _disconnect(self) -> None:
        with self._changed:
            if self._transport is not None:
                self._transport.close()
            self._transport = None
        self._loop.lost("")

    def _run_callback(self, event: Freeze | Thaw) -> None:
        problem = self._problem_of(event)
        if self._is_abandoned:
            # The callback forked, and this is the child.
            return
        try:
            # Before the answer: the window may have ended meanwhile.
            if self._transport is not None:
                self._transport.read()
        finally:
            self._loop.done(problem, time.monotonic())

    def _problem_of(self, event: Freeze | Thaw) -> str:
        try:
            reject_unawaited(self._call(event))
        except BaseException as error:  # noqa: BLE001 - the application continues in any case.
            return self._log_failure(event, error)
        return ""

    def _wait_for_more(self) -> None:
        deadline = self._loop.deadline
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._transport is None:
            with self._changed:
                self._changed.wait_for(lambda: self._loop.is_stopped, timeout)
            return
        self._transport.write()
        # Unlike select(2), poll(2) takes descriptors above 1,023.
        poll = select.poll()
        wanted = select.POLLOUT if self._loop.outgoing else 0
        poll.register(self._transport.socket, select.POLLIN | wanted)
        poll.poll(None if timeout is None else timeout * 1000)
        self._transport.read()


_running: WeakSet[Registration] = WeakSet()


def _abandon_all() -> None:
    for registration in list(_running):
        registration._abandon()


def _close_all() -> None:
    running = list(_running)
    for registration in running:
        registration._stop()
    deadline = time.monotonic() + LONGEST_JOIN
    for registration in running:
        registration._join(max(0.0, deadline - time.monotonic()))


os.register_at_fork(after_in_child=_abandon_all)
atexit.register(_close_all)
