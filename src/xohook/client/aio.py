"""The style for asyncio: the callbacks are coroutine functions."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from xohook.client.conversation import Freeze, Registered, Thaw
from xohook.client.loop import Action, Connect, Disconnect
from xohook.client.messages import describe_error
from xohook.client.registration import RegistrationBase
from xohook.client.transport import Transport

if TYPE_CHECKING:
    # The standard library has it from Python 3.11 on.
    from typing_extensions import Self


class AsyncRegistration(RegistrationBase[Awaitable[object]]):
    """The style for asyncio: the callbacks are coroutine functions.

    It is an asynchronous context manager, and used once. Where the thaw is due while a freeze
    runs, the thaw starts when the freeze has ended; only the end of the registration cancels a
    freeze.
    """

    cancel_freeze = False
    """Whether to cancel a freeze when its thaw is due. Set it where that ends the freeze. What runs
    in a thread is not cancelled, and would freeze the application after its thaw."""

    _task: asyncio.Task[None] | None = None
    _transport: Transport | None = None
    _callback: asyncio.Task[str] | None = None
    # The callback of a freeze whose thaw is due.
    _overdue: asyncio.Task[str] | None = None
    _timer: asyncio.TimerHandle | None = None

    def _prepare(self) -> None:
        self._changed = asyncio.Event()
        self._finished = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to register, in the running event loop. This does not wait.

        :raises RuntimeError: where it was started or closed before, has no callbacks, or no event
            loop runs.
        """
        if self._task is not None or self._loop.is_stopped:
            raise RuntimeError("a registration is started once: create another one")
        self._require_callbacks()
        self._event_loop = asyncio.get_running_loop()
        self._loop.start(time.monotonic())
        self._task = self._event_loop.create_task(self._run(), name=f"xohook {self._app}")

    async def close(self) -> None:
        """End the registration. What is frozen is thawed.

        This waits for the end, but not within a callback. To cancel this cancels the thaw.
        """
        self._loop.stop()
        self._notify()
        if self._task is None:
            return
        self._task.cancel()
        if asyncio.current_task() is self._callback:
            return
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the application is registered, or the registration closed.

        :param timeout: seconds to wait at most; None for no limit.
        :return: whether it is registered.
        """

        async def settled() -> None:
            while not (self.registered or self._loop.is_stopped):
                await self._changed.wait()

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(settled(), timeout)
        return self.registered

    def _notify(self) -> None:
        """Wake those who wait for a change; the next ones wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self) -> None:
        """Stay registered until cancelled, and until nothing is frozen then."""
        self._proceed()
        cancelled: asyncio.CancelledError | None = None
        while not self._finished.is_set():
            try:
                await self._finished.wait()
            except asyncio.CancelledError as error:
                # The first time means: thaw and end. The second time cancels the thaw too.
                if cancelled is not None and self._callback is not None:
                    self._callback.cancel()
                cancelled = error
                self._loop.stop()
                self._proceed()
                if self._overdue is not None:
                    self._overdue.cancel()
        if cancelled is not None:
            raise cancelled

    def _proceed(self) -> None:
        """Carry out everything that is due, and have the event loop watch for more."""
        while (action := self._loop.next_action(time.monotonic())) is not None:
            self._carry_out(action)
        if self._transport is not None:
            self._transport.write()
            self._watch_for_writing(self._transport)
        self._set_timer()
        if self._loop.is_finished:
            self._finished.set()

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Freeze | Thaw):
            self._callback = self._event_loop.create_task(self._problem_of(action))
            self._callback.add_done_callback(self._callback_done)
        elif isinstance(action, Connect):
            self._connect()
        elif isinstance(action, Disconnect):
            self._disconnect()
        elif isinstance(action, Registered):
            self._notify()
        elif self._callback is not None and self.cancel_freeze:
            self._callback.cancel()
        else:
            self._overdue = self._callback

    def _connect(self) -> None:
        try:
            self._transport = Transport(self._control, self._loop)
        except OSError as error:
            self._loop.connect_failed(error, time.monotonic())
            return
        self._event_loop.add_reader(self._transport.socket, self._read)
        self._loop.connected()

    def _disconnect(self) -> None:
        if self._transport is not None:
            # In the child of a fork it is closed already.
            if self._transport.socket.fileno() >= 0:
                self._event_loop.remove_reader(self._transport.socket)
                self._event_loop.remove_writer(self._transport.socket)
            self._transport.close()
        self._transport = None
        self._loop.lost("")

    def _read(self) -> None:
        if self._transport is not None:
            self._transport.read()
        self._proceed()

    async def _problem_of(self, event: Freeze | Thaw) -> str:
        try:
            returned = self._call(event)
            if not inspect.isawaitable(returned):
                kind = type(returned).__name__
                raise TypeError(f"the callback is no coroutine function: it returned a {kind}")
            await returned
        except KeyboardInterrupt:
            # Not the callback's: on Python 3.10 it is raised wherever the event loop is.
            raise
        except asyncio.CancelledError as error:
            return describe_error(error)
        except BaseException as error:  # noqa: BLE001 - the application continues in any case.
            return self._log_failure(event, error)
        return ""

    def _callback_done(self, task: asyncio.Task[str]) -> None:
        self._callback = None
        if task.cancelled():
            # It was cancelled before its first step: the callback was not called.
            self._loop.put_back()
        else:
            error = task.exception()
            problem = describe_error(error) if error else task.result()
            self._loop.done(problem, time.monotonic())
        self._proceed()

    def _watch_for_writing(self, transport: Transport) -> None:
        if self._loop.outgoing:
            self._event_loop.add_writer(transport.socket, self._proceed)
        else:
            self._event_loop.remove_writer(transport.socket)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._loop.deadline
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            self._timer = self._event_loop.call_later(left, self._proceed)
