"""What the registrations of all styles have in common: options, callbacks, state and log."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Generic, Literal, TypeVar

from xohook.client.conversation import Freeze, Thaw
from xohook.client.loop import RegistrationLoop
from xohook.client.messages import describe_error

CONTROL = "/run/xohook/control.sock"
"""The agent's socket, unless ``XOHOOK_CONTROL`` says otherwise (docs/protocol.rst, Connecting)."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("xohook.client")
_Returned = TypeVar("_Returned")


class RegistrationBase(Generic[_Returned]):
    """An application's name, its two callbacks, and whether it is registered.

    Pass the callbacks, or decorate them with :meth:`freeze` and :meth:`thaw` before the start.

    :param name: the application's name, ``[A-Za-z0-9._-]{1,64}``.
    :param freeze: freezes the application; it is frozen when this has ended.
    :param thaw: lets it continue.
    :param order: 0 to 999, lower ones freeze first; None for the agent's default, 20. The agent's
        configuration overrides this and the next three.
    :param freeze_timeout: seconds that a freeze may take; None for the agent's default, 30.
    :param thaw_timeout: seconds that a thaw may take; None for the agent's default, 30.
    :param on_failure: whether a freeze that fails ends the window (``abort``) or not
        (``continue``); None for the agent's default, ``abort``.
    :param control: the agent's socket; None for that of ``XOHOOK_CONTROL``, or else
        ``/run/xohook/control.sock``.
    :raises ValueError: where the name is not allowed, or a timeout is a number that JSON does not
        have.
    """

    def __init__(
        self,
        name: str,
        *,
        freeze: Callable[[Freeze], _Returned] | None = None,
        thaw: Callable[[Thaw], _Returned] | None = None,
        order: int | None = None,
        freeze_timeout: float | None = None,
        thaw_timeout: float | None = None,
        on_failure: Literal["abort", "continue"] | None = None,
        control: str | os.PathLike[str] | None = None,
    ) -> None:
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is not a name for an application: use {_NAME.pattern}")
        options = {
            "order": order,
            "freeze_timeout": freeze_timeout,
            "thaw_timeout": thaw_timeout,
            "on_failure": on_failure,
        }
        given = {option: value for option, value in options.items() if value is not None}
        self._app = name
        self._freeze = freeze
        self._thaw = thaw
        self._control = os.fspath(control or os.environ.get("XOHOOK_CONTROL") or CONTROL)
        self._loop = RegistrationLoop(name, given, self._control, self._write_log)
        self._prepare()

    @property
    def registered(self) -> bool:
        """Whether the application is registered now."""
        return not self.problem

    @property
    def problem(self) -> str:
        """Why the application is not registered now; empty where it is."""
        return self._loop.problem

    def freeze(self, callback: Callable[[Freeze], _Returned]) -> Callable[[Freeze], _Returned]:
        """Use a function as the freeze callback. This is a decorator.

        :param callback: freezes the application; it is frozen when this has ended.
        :return: the function.
        :raises RuntimeError: where there is a freeze callback already.
        """
        if self._freeze is not None:
            raise self._twice("freeze")
        self._freeze = callback
        return callback

    def thaw(self, callback: Callable[[Thaw], _Returned]) -> Callable[[Thaw], _Returned]:
        """Use a function as the thaw callback. This is a decorator.

        :param callback: lets the application continue.
        :return: the function.
        :raises RuntimeError: where there is a thaw callback already.
        """
        if self._thaw is not None:
            raise self._twice("thaw")
        self._thaw = callback
        return callback

    def _twice(self, operation: str) -> RuntimeError:
        return RuntimeError(
            f"{self._app} has a {operation} callback already: pass {operation}=, or use "
            f"@registration.{operation} once"
        )

    def _prepare(self) -> None:
        """Create what one style needs besides."""

    def _require_callbacks(self) -> None:
        """Raise an exception where a callback is missing.

        :raises RuntimeError: where it is.
        """
        for operation, callback in (("freeze", self._freeze), ("thaw", self._thaw)):
            if callback is None:
                raise RuntimeError(
                    f"{self._app} has no {operation} callback: pass {operation}=, or decorate a "
                    f"function with @registration.{operation} before the start"
                )

    def _call(self, event: Freeze | Thaw) -> _Returned:
        assert self._freeze is not None, "the start requires the callbacks"
        assert self._thaw is not None, "the start requires the callbacks"
        return self._freeze(event) if isinstance(event, Freeze) else self._thaw(event)

    def _log_failure(self, event: Freeze | Thaw, error: BaseException) -> str:
        """Log what a callback raised, with its traceback.

        :return: a description in one line.
        """
        operation = type(event).__name__.lower()
        text = f"{self._app}: the {operation} of window {event.window} failed"
        self._write_log(logging.ERROR, text, error)
        return describe_error(error)

    def _write_log(self, level: int, text: str, error: BaseException | None = None) -> None:
        """Log a line, with the traceback of an exception where there is one."""
        # A handler that cannot write, for a full disk perhaps, must leave nothing frozen.
        with contextlib.suppress(Exception):
            _log.log(level, "%s", text, exc_info=error)


def reject_unawaited(returned: object) -> None:
    """Raise an exception where a callback has not done its work but returned it.

    :param returned: what the callback returned.
    :raises TypeError: where that is a coroutine, a generator or the like.
    """
    if isinstance(returned, Generator | AsyncGenerator) or hasattr(returned, "__await__"):
        if isinstance(returned, Coroutine | Generator):
            returned.close()
        kind = type(returned).__name__
        raise TypeError(
            f"the callback returned a {kind}, which nobody runs: use AsyncRegistration or "
            "xohook.txclient for coroutines, and check for a missing decorator"
        )
