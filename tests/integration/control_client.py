"""A small blocking client of the control socket: it can do what an app does, and what none would.

The standard library alone, and nothing of :mod:`xohook.client`: what the tests find is the agent's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration.agent import eventually
from tests.integration.hook_client import PATIENCE

if TYPE_CHECKING:
    # The standard library has it from Python 3.11 on.
    from typing_extensions import Self


class CallFailedError(Exception):
    """The answer to a call is an error.

    :param error: the answer's error.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data = error.get("data")


class ControlClient:
    """One connection to the control socket.

    :param path: the socket's path.
    """

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.settimeout(PATIENCE)
            # With many who connect at once there may be no room for a moment (connect(2), EAGAIN).
            eventually(lambda: self._connects(str(path)), "there is room to connect")
        except BaseException:
            self.socket.close()
            raise
        self._incoming = self.socket.makefile("rb")
        self._numbers = itertools.count(1)
        #: What has come and was not waited for.
        self.unread: list[dict[str, Any]] = []

    def _connects(self, path: str) -> bool:
        try:
            self.socket.connect(path)
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        :param data: what to send; nothing makes sure that it is a message.
        """
        self.socket.sendall(data)

    def tell(self, **members: Any) -> None:
        """Send a message.

        :param members: its members but for the version.
        """
        self.send(json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Wait for the next message.

        :return: the message.
        :raises ConnectionError: where the agent closed instead.
        """
        line = self._incoming.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the agent closed the connection")
        message: dict[str, Any] = json.loads(line)
        if message.pop("jsonrpc") != "2.0":
            raise AssertionError(f"no JSON-RPC 2.0: {line!r}")
        return message

    def start(self, method: str, **params: Any) -> int:
        """Send a request and do not wait for its answer.

        :param method: the method.
        :param params: the parameters.
        :return: the request's id.
        """
        number = next(self._numbers)
        self.tell(id=number, method=method, params=params)
        return number

    def answer(self, number: int) -> Any:
        """Wait for the answer to a request; what comes before it is kept.

        :param number: the request's id.
        :return: the result.
        :raises CallFailedError: where it is an error.
        """
        message = self._next(lambda each: "method" not in each and each["id"] == number)
        if "error" in message:
            raise CallFailedError(message["error"])
        return message["result"]

    def call(self, method: str, **params: Any) -> Any:
        """Send a request and wait for its answer.

        :param method: the method.
        :param params: the parameters.
        :return: the result.
        :raises CallFailedError: where it is an error.
        """
        return self.answer(self.start(method, **params))

    def register(self, name: str, **wishes: Any) -> None:
        """Register an app.

        :param name: its name.
        :param wishes: how it wishes to take part.
        """
        self.call("register", name=name, **wishes)

    def asked(self, method: str) -> dict[str, Any]:
        """Wait until the agent asks for something; what comes before it is kept.

        :param method: what.
        :return: the request.
        """
        return self._next(lambda each: each.get("method") == method)

    def reply(self, request: dict[str, Any], **answer: Any) -> None:
        """Answer a request of the agent's.

        :param request: the request.
        :param answer: ``result`` or ``error``; by default an empty result.
        """
        self.tell(id=request["id"], **(answer or {"result": {}}))

    def serve(self, method: str) -> dict[str, Any]:
        """Wait until the agent asks for something, and say that it is done.

        :param method: what.
        :return: its parameters.
        """
        request = self.asked(method)
        self.reply(request)
        params: dict[str, Any] = request["params"]
        return params

    def ended(self) -> bool:
        """Wait for the agent to close or to send more.

        :return: whether it closed.
        """
        try:
            return not self._incoming.read(1)
        except ConnectionError:
            return True

    def shut(self) -> None:
        """Have a thread that waits for the next message find the connection's end."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; it may be closed."""
        with contextlib.suppress(OSError):
            self._incoming.close()
        self.socket.close()

    def _next(self, wanted: Any) -> dict[str, Any]:
        for each in self.unread:
            if wanted(each):
                self.unread.remove(each)
                return each
        while not wanted(message := self.receive()):
            self.unread.append(message)
        return message
