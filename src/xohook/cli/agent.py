"""The running agent, asked over its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from xohook import __version__
from xohook.client.transport import refuse_stranger
from xohook.config import loading
from xohook.control.wire import LONGEST_OUT, Request, encode
from xohook.errors import CallError, XohookError
from xohook.host.ownership import read_regular
from xohook.text import printable

if TYPE_CHECKING:
    # The standard library has it from Python 3.11 on.
    from typing_extensions import Self

PATIENCE = 10.0
"""Seconds that the agent has for an answer; one that is well needs a few milliseconds."""

_PIECE = 64 * 1024
_LOOK = "'systemctl status xohook' says how it is"


class UnreachableError(XohookError):
    """The agent cannot be asked."""


class SilentError(UnreachableError):
    """The agent has not answered in time."""


def locate(context: click.Context, file: Path) -> Path:
    """Find the control socket of the agent that is meant.

    It is told by ``-c FILE`` where that is given, else by ``XOHOOK_CONTROL``, else by the default
    configuration. Where that leaves the place open, the agent may be this user's own or root's.

    :param context: the subcommand's, whose parameter ``file`` is the configuration.
    :param file: the configuration.
    :return: an absolute path; nothing needs to be there.
    :raises UnreachableError: where the agent is to have no socket, or the file that is given
        cannot be read: another agent must not be taken for the one that is meant.
    """
    told = os.environ.get("XOHOOK_CONTROL")
    is_default = context.get_parameter_source("file") is ParameterSource.DEFAULT
    if told and is_default:
        return Path(told).absolute()
    file = file.absolute()
    if not is_default:
        _see(file)
    own = loading.locate_control(file, environ=os.environ, uid=os.geteuid())
    roots = loading.locate_control(file, environ={}, uid=0)
    if own is None or roots is None:
        raise UnreachableError(
            f"{file}: control = no, so the agent has no socket to be reached by: set control = yes "
            "and restart it"
        )
    return own if os.path.lexists(own) else roots


def _see(file: Path) -> None:
    try:
        read_regular(file)
    except OSError as error:
        raise UnreachableError(
            f"{file}: cannot be read: {error.strerror}; name the agent's configuration with -c, or "
            "its socket in XOHOOK_CONTROL"
        ) from error


class Connection:
    """A connection to the agent.

    :param path: the control socket.
    :raises UnreachableError: where nobody can be reached there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = bytearray()
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._asked = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(os.fspath(path))
            refuse_stranger(self._socket, os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise UnreachableError(_explain(path, error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def ask(self, method: str, **params: Any) -> int:
        """Ask for something, and do not wait for the answer.

        :param method: what.
        :param params: the parameters.
        :return: what :meth:`answer` knows the question by.
        """
        self._asked += 1
        # One that takes no further connection has closed it, and its reason is there to be read.
        with contextlib.suppress(OSError):
            self._socket.sendall(encode(Request(self._asked, method, params)))
        return self._asked

    def answer(self, number: int, patience: float = PATIENCE) -> Any:
        """Wait for an answer.

        :param number: what :meth:`ask` gave.
        :param patience: seconds to wait.
        :return: the result.
        :raises CallError: where the answer is an error.
        :raises SilentError: where none comes in time; it may be waited for again.
        :raises UnreachableError: where the connection ends before it.
        """
        deadline = time.monotonic() + patience
        while number not in self._answers:
            self._take(self._line(deadline, patience))
        answer = self._answers.pop(number)
        if "error" in answer:
            error = answer["error"]
            raise CallError(error.get("code", 0), printable(error["message"]), error.get("data"))
        return answer["result"]

    def call(self, method: str) -> Any:
        """Ask for something and wait for the answer.

        :param method: what.
        :return: the result.
        :raises CallError: where the answer is an error.
        :raises UnreachableError: where the agent cannot be reached or does not answer in time.
        """
        return self.answer(self.ask(method))

    def _take(self, line: bytes) -> None:
        """Keep a line that is an answer; the agent may send others, which are of no concern."""
        try:
            message = json.loads(line)
            if "method" in message:
                return
            # An agent that takes no further connection says so before any question.
            number = self._asked if message["id"] is None else message["id"]
            if "error" not in message:
                _ = message["result"]
            elif not isinstance(message["error"]["message"], str):
                raise TypeError("message")
            self._answers[number] = message
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._stranger() from error

    def _line(self, deadline: float, patience: float) -> bytes:
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > LONGEST_OUT:
                raise self._stranger()
            try:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                piece = self._socket.recv(_PIECE)
            except TimeoutError:
                raise SilentError(
                    f"the agent at {self._path} does not answer within {patience:g} s: it hangs, "
                    f"or is stopped; {_LOOK}, and docs/operation.rst what to do at 3 a.m."
                ) from None
            except OSError as error:
                raise self._ended() from error
            if not piece:
                raise self._ended()
            self._rest += piece
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line

    def _ended(self) -> UnreachableError:
        return UnreachableError(
            f"the agent at {self._path} has closed the connection: it ended or was restarted; "
            f"{_LOOK}"
        )

    def _stranger(self) -> UnreachableError:
        return UnreachableError(
            f"what answers at {self._path} is not the agent: name the agent's configuration with "
            "-c FILE"
        )


@contextmanager
def understanding(version: object) -> Iterator[None]:
    """Take what an agent of another version answers otherwise for that.

    :param version: what the agent says that its version is.
    :raises UnreachableError: where what is looked for within is not in its answer.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreachableError(
            f"the agent's answer is not understood: its version is {printable(str(version))}, this"
            f" command's {__version__}; restart the agent, or use the xohook of its installation"
        ) from error


def _explain(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return (
            f"there is no control socket {path}: the agent is not running, or has another "
            f"configuration (-c FILE); {_LOOK}"
        )
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on {path}: the agent has ended; {_LOOK}"
    if isinstance(error, PermissionError):
        return (
            f"user {os.geteuid()} may not connect to {path}: do it as root, or as a member of the "
            "group that control_group names"
        )
    # Python's own refusals, of a path that is too long for instance, have no words of the system.
    return f"cannot connect to {path}: {error.strerror or error}; {_LOOK}"
