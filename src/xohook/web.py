"""The hook: ``/sync`` and ``/post-sync`` behind the gate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from xohook.answers import Answer, Requester
from xohook.auth import Gate
from xohook.keeper import Coordinator
from xohook.refusals import Refusals
from xohook.reports import describe
from xohook.site import HookRequest
from xohook.steps import ParticipantRun
from xohook.text import printable

_log = Logger()

RETRY_AFTER = b"5"
"""Seconds after which an agent that is shutting down may be back."""

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
    """What a stranger hears, whatever it asks for."""

    def render(self, request: HookRequest) -> int:
        """Answer.

        :param request: the request.
        :return: :data:`~twisted.web.server.NOT_DONE_YET`, though it is done: of a body that is
            returned for a HEAD Twisted tells the log, query string and all.
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
    """The root of the hook: judges every request before anything else is looked at.

    :param gate: the judge; may be exchanged.
    :param refusals: takes note of those that are refused.
    """

    is_stopping = False

    def __init__(self, gate: Gate, refusals: Refusals) -> None:
        super().__init__()
        self.gate = gate
        self._refusals = refusals

    def getChildWithDefault(self, path: bytes, request: HookRequest) -> IResource:
        """Find what answers a request.

        :param path: the whole path, as it came.
        :param request: the request.
        :return: a child for a request that may have it; else a refusal.
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
    :param ask: asks it for what the path stands for.
    """

    isLeaf = True

    def __init__(self, coordinator: Coordinator, ask: Callable[[Requester], None]) -> None:
        super().__init__()
        self._coordinator = coordinator
        self._ask = ask

    def render(self, request: HookRequest) -> int:
        """Ask, and answer when there is an answer.

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
        finished.addErrback(_tell_of_fault)
        self._ask(requester)
        return NOT_DONE_YET


def make_root(coordinator: Coordinator, gate: Gate, refusals: Refusals) -> Guarded:
    """Put the resources together.

    :param coordinator: opens, holds and closes windows.
    :param gate: judges the requests.
    :param refusals: takes note of those that are refused.
    :return: the root.
    """
    root = Guarded(gate, refusals)
    root.putChild(b"/sync", Hook(coordinator, coordinator.sync))
    root.putChild(b"/post-sync", Hook(coordinator, coordinator.post_sync))
    return root


def respond(request: HookRequest, answer: Answer, runs: Sequence[ParticipantRun]) -> None:
    """Answer an authenticated request.

    :param request: the request.
    :param answer: what to say.
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
    """Tell whether JSON is asked for by name (RFC 9110, section 12.5.1)."""
    # In bytes: anything may stand in a header, and as text it would have to be UTF-8.
    for header in request.requestHeaders.getRawHeaders(b"Accept") or ():
        for choice in header.lower().split(b","):
            kind, *parameters = (part.strip() for part in choice.split(b";"))
            if kind == b"application/json":
                return _REFUSED.isdisjoint(parameters)
    return False


def _tell_of_fault(fault: Failure) -> None:
    _log.failure("a fault of xohook itself", fault)


def send(request: HookRequest, body: bytes) -> None:
    """Send an answer, headers and body in one write, and be done with the request.

    :param request: the request, its status set.
    :param body: the body, left out where the request is a HEAD.
    """
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)
    request.finish()
