"""The hook: the resources ``/sync`` and ``/post-sync``, and their authentication."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from xohook.control.reports import describe
from xohook.coordinator.coordinator import Coordinator
from xohook.coordinator.participant_runs import ParticipantRun
from xohook.hook.auth import Gate
from xohook.hook.refusals import Refusals
from xohook.hook.site import HookRequest
from xohook.text import printable
from xohook.window.answers import Answer, Requester

_log = Logger()

RETRY_AFTER = b"5"
"""Seconds after which an agent that shuts down may be back."""

_REFUSED = frozenset({b"q=0", b"q=0.", b"q=0.0", b"q=0.00", b"q=0.000"})
"""The ways to give a type no weight (RFC 9110, section 12.4.2)."""

_BODIES = {
    200: b"Ok",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Content Too Large",
    500: b"Internal Error",
    503: b"Service Unavailable",
}


class Forbidden(Resource):
    """The answer to a request that is not authenticated, whatever it asks for."""

    def render(self, request: HookRequest) -> int:
        """Answer.

        :param request: the request.
        :return: :data:`~twisted.web.server.NOT_DONE_YET`, though it is done: if a body is returned
            for a HEAD, Twisted logs the request with its query string.
        """
        request.setResponseCode(403)
        send(request, _BODIES[403])
        return NOT_DONE_YET


class Refused(Resource):
    """The answer to an authenticated request that is not one of the hook's.

    :param status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__()
        self._status = status

    def render(self, request: HookRequest) -> int:
        """Answer.

        :param request: the request.
        :return: :data:`~twisted.web.server.NOT_DONE_YET`, though it is done.
        """
        respond(request, Answer(status=self._status, state="none"), ())
        return NOT_DONE_YET


class Guarded(Resource):
    """The root of the hook: it authenticates every request before anything else.

    :param gate: authenticates requests; may be exchanged.
    :param refusals: logs those that are refused.
    """

    is_stopping = False

    def __init__(self, gate: Gate, refusals: Refusals) -> None:
        super().__init__()
        self.gate = gate
        self._refusals = refusals

    def getChildWithDefault(self, path: bytes, request: HookRequest) -> IResource:
        """Return the resource that answers a request.

        :param path: the whole path, as it came.
        :param request: the request.
        :return: a child if the request is authenticated and there is one; else a refusal.
        """
        authorization = request.requestHeaders.getRawHeaders(b"Authorization") or ()
        verdict = self.gate.judge(request.source, authorization, request.args)
        if verdict.method is None:
            self._refusals.note(printable(request.source), verdict.reason)
            # Thousands of requests, sent ahead over one connection, would be refused in one go
            # while everybody else waits.
            request.be_last()
            return Forbidden()
        request.method_of_proof = verdict.method
        request.channel.trust()
        child = self.children.get(path) if request.method == b"GET" else None
        if request.has_body:
            return Refused(413)
        return child or Refused(503 if self.is_stopping else 404)


class Hook(Resource):
    """One of the two paths of the hook.

    :param coordinator: opens, holds and closes windows.
    :param ask: its method for this path.
    """

    isLeaf = True

    def __init__(self, coordinator: Coordinator, ask: Callable[[Requester], None]) -> None:
        super().__init__()
        self._coordinator = coordinator
        self._ask = ask

    def render(self, request: HookRequest) -> int:
        """Pass the request on to the coordinator, and respond when it delivers the answer.

        :param request: the request.
        :return: :data:`~twisted.web.server.NOT_DONE_YET`.
        """
        is_open = True

        def deliver(answer: Answer) -> None:
            if not is_open:
                return
            try:
                respond(request, answer, self._coordinator.runs(answer.window))
            except Exception:  # noqa: BLE001 - the requester must not be left without an answer.
                request.fail()

        def close(_: object) -> None:
            nonlocal is_open
            is_open = False
            self._coordinator.gone(requester)

        requester = Requester(request.source or "a local socket", deliver)
        finished = request.notifyFinish().addErrback(close)
        finished.addErrback(_log_fault)
        self._ask(requester)
        return NOT_DONE_YET


def make_root(coordinator: Coordinator, gate: Gate, refusals: Refusals) -> Guarded:
    """Make the resources of the hook.

    :param coordinator: opens, holds and closes windows.
    :param gate: authenticates requests.
    :param refusals: logs those that are refused.
    :return: the root.
    """
    root = Guarded(gate, refusals)
    root.putChild(b"/sync", Hook(coordinator, coordinator.sync))
    root.putChild(b"/post-sync", Hook(coordinator, coordinator.post_sync))
    return root


def respond(request: HookRequest, answer: Answer, runs: Sequence[ParticipantRun]) -> None:
    """Send the answer to an authenticated request.

    :param request: the request.
    :param answer: the answer.
    :param runs: how far each participant of that window has come.
    """
    request.setResponseCode(answer.status)
    if answer.status == 503:
        request.setHeader(b"Retry-After", RETRY_AFTER)
    if answer.hold is not None and request.channel.persistent:
        request.setHeader(b"Keep-Alive", b"timeout=%d" % math.ceil(answer.hold))
    if _wants_json(request):
        request.setHeader(b"Content-Type", b"application/json")
        body = json.dumps(describe(answer, runs)).encode() + b"\n"
    else:
        lines = (printable(line, longest=1000).encode() for line in answer.lines)
        body = b"\n".join((_BODIES[answer.status], *lines))
    send(request, body)


def _wants_json(request: HookRequest) -> bool:
    """Return whether the request asks for JSON by name (RFC 9110, section 12.5.1)."""
    # In bytes: a header may contain anything, and as text it would have to be UTF-8.
    for header in request.requestHeaders.getRawHeaders(b"Accept") or ():
        for choice in header.lower().split(b","):
            kind, *parameters = (part.strip() for part in choice.split(b";"))
            if kind == b"application/json":
                return _REFUSED.isdisjoint(parameters)
    return False


def _log_fault(fault: Failure) -> None:
    _log.failure("a fault of xohook itself", fault)


def send(request: HookRequest, body: bytes) -> None:
    """Send headers and body in one write, and finish the request.

    :param request: the request, its status set.
    :param body: the body, left out where the request is a HEAD.
    """
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)
    request.finish()
