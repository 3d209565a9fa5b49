"""The agent as a service: puts everything together, starts and stops it in order."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger, globalLogPublisher

from xohook import __version__, certificate, config, credentials, listening, systemd
from xohook.apps import Apps
from xohook.auth import Gate
from xohook.connections import Connections, make_room
from xohook.control import Control
from xohook.control_socket import ControlPort, close_control, let_reach, open_control
from xohook.disk import Disk
from xohook.errors import StartError, XohookError
from xohook.keeper import Keeper
from xohook.logs import WaitingLog
from xohook.looking import StartLook
from xohook.methods import Methods
from xohook.mounts import refuse_frozen
from xohook.options import LAST_ORDER
from xohook.participants import Participant
from xohook.participants.making import make
from xohook.process import IProcessReactor
from xohook.record import Record
from xohook.refusals import Refusals
from xohook.settings import FilesystemSettings, Settings
from xohook.site import HookSite
from xohook.stamp import Stamp
from xohook.strays import Strays
from xohook.systemd import Inherited
from xohook.text import counted
from xohook.tls import ServerTLS
from xohook.web import make_root
from xohook.work import Limits

RENEWAL_CHECK = 24 * 60 * 60.0
"""Seconds between two looks at the own certificate, which is renewed 30 days before its end."""

_UNTIL_RESTART = (
    "listen",
    "control",
    "control_group",
    "state_directory",
    "runtime_directory",
)

IDLE_BEYOND_HOLD = 10.0
"""Seconds that a connection is kept beyond the hold limit that its requester was told."""


class Agent(Service):
    """The whole agent.

    :param reactor: the reactor, whose clock is monotonic.
    :param settings: the configuration.
    :param record: the record of the runtime directory.
    :param strays: the ``/post-sync`` expected from windows of an earlier run.
    :param stamp: the stamp of the state directory.
    :param inherited: the sockets that systemd has opened.
    :param environ: the environment.
    :raises StartError: where something is missing that cannot be made.
    """

    log_observer: ILogObserver | None = None
    """What twistd logs to in the place of its own; None for its own."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        record: Record,
        strays: Strays,
        stamp: Stamp,
        inherited: Inherited,
        environ: Mapping[str, str],
    ) -> None:
        _refuse_frozen(settings)
        self._reactor = reactor
        self._settings = settings
        self._inherited = inherited
        self._environ = environ
        self._tls = ServerTLS(*_certificate_files(settings), _now())
        self._waiting_log = WaitingLog()
        # One thread: what is written to the disk is written in order.
        reactor.suggestThreadPoolSize(1)
        aside = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        self._apps = Apps(reactor, settings.apps, _last_wish(settings))
        self._keeper = Keeper(
            reactor,
            record,
            strays,
            _limits(settings),
            _participants(reactor, settings),
            self._apps.participants,
            Disk(stamp, self._waiting_log, aside),
        )
        room = make_room(has_control=settings.control is not None)
        self._root = make_root(self._keeper, _gate(settings), Refusals(reactor))
        self._site = HookSite(self._root, reactor, Connections(room.hook))
        self._start_look = StartLook(reactor, settings.path, environ)
        self._keeper.watchers.append(self._start_look.changed)
        methods = Methods(self._keeper, self._apps, self.reload, lambda: self._start_look.missing)
        self._control = Control(reactor, methods, self._apps, room.control)
        self._control_socket: socket.socket | None = None
        self._control_port: ControlPort | None = None
        self._ports: list[IListeningPort] = []
        self._renewal: IDelayedCall | None = None
        self._set_patience(settings)

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of twistd's application, and tell it what to log to.

        :param parent: the application.
        """
        super().setServiceParent(parent)
        if self.log_observer is not None:
            parent.setComponent(ILogObserver, self.log_observer)

    def privilegedStartService(self) -> None:
        """Open the listening sockets; an agent that listens on nothing does not stay up.

        :raises SystemExit: where one of them cannot be opened.
        """
        super().privilegedStartService()
        try:
            # First, so that apps can register as soon as the hook answers.
            self._open_control()
            self._ports = listening.open_listeners(
                self._reactor, self._settings.listen, self._site, self._tls, self._inherited.hook
            )
        except StartError as error:
            self._close_control()
            self._log.critical("{error}", error=error)
            # twistd has standard error go to the log, which has been told already.
            raise SystemExit(1) from error

    def startService(self) -> None:
        """Begin to answer, and say so."""
        super().startService()
        self._waiting_log.attach(globalLogPublisher)
        signal.signal(signal.SIGHUP, self._hang_up)
        self._renewal = self._reactor.callLater(RENEWAL_CHECK, self._renew)
        self._log.info(
            "xohook {version} answers on {places}, with {participants}",
            version=__version__,
            places=listening.describe(self._ports),
            participants=_counted_participants(self._settings),
        )
        if self._settings.control is not None:
            self._log.info("apps register on {path}", path=str(self._settings.control))
        systemd.notify("READY=1", self._environ)
        self._start_look.begin()

    def stopService(self) -> Deferred[None]:
        """Thaw what is frozen, then end.

        :return: fires when nothing is frozen and nobody waits for an answer.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> tuple[str, ...]:
        """Read the configuration again; to be called between windows.

        :return: a line for each mistake; with any, everything is as it was.
        """
        try:
            settings = self._keep_fixed(config.load(self._settings.path, environ=self._environ))
            _refuse_frozen(settings)
            if self._keeper.is_still:
                raise StartError("a filesystem is still frozen after a thaw that failed")
            gate = _gate(settings)
            participants = _participants(self._reactor, settings)
            self._tls.load(*_certificate_files(settings), _now())
        except XohookError as error:
            problems = tuple(str(error).splitlines())
            for line in problems:
                self._log.error("not reloaded: {line}", line=line)
            return problems
        self._root.gate = gate
        self._keeper.configure(_limits(settings), participants)
        self._apps.configure(settings.apps, _last_wish(settings))
        self._settings = settings
        self._set_patience(settings)
        self._start_look.begin()
        self._log.info(
            "reloaded, with {participants}", participants=_counted_participants(settings)
        )
        return ()

    def _keep_fixed(self, settings: Settings) -> Settings:
        """Put aside what only a restart can change."""
        fixed = {}
        for option in _UNTIL_RESTART:
            fixed[option] = getattr(self._settings, option)
            if getattr(settings, option) != fixed[option]:
                self._log.warn("{option} has changed: restart the agent for it", option=option)
        return attrs.evolve(settings, **fixed)

    async def _stop(self) -> None:
        systemd.notify("STOPPING=1", self._environ)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # It is being done; a second one would only make Twisted complain.
            signal.signal(number, signal.SIG_IGN)
        self._root.is_stopping = True
        self._start_look.stop()
        if self._renewal is not None:
            self._renewal.cancel()
        await self._keeper.stop()
        for port in self._ports:
            await _done(port.stopListening())
        self._close_control()
        await self._site.close()

    def _open_control(self) -> None:
        path, group = self._settings.control, self._settings.control_group
        inherited = self._inherited.control
        if path is None:
            if inherited is not None:
                raise StartError(
                    "systemd passes in a control socket, and control = no: leave one of them out"
                )
            return
        if inherited is not None and inherited.getsockname() != str(path):
            raise StartError(
                f"systemd passes in the control socket {inherited.getsockname()}, and clients look"
                f" for it at {path}: name the same path in control and in the socket unit"
            )
        self._control_socket = inherited
        if self._control_socket is None:
            if group is not None and path.parent == self._settings.runtime_directory:
                let_reach(path.parent)
            self._control_socket = open_control(path, group)
        self._control_port = ControlPort(self._reactor, self._control_socket, self._control)
        self._control_port.start()

    def _close_control(self) -> None:
        if self._control_port is not None:
            self._control_port.stop()
        if self._control_socket is not None and self._settings.control is not None:
            close_control(self._control_socket, self._settings.control)
        self._control.close()

    def _hang_up(self, *_: object) -> None:
        self._reactor.callFromThread(self._keeper.between_windows, self.reload)

    def _renew(self) -> None:
        self._renewal = self._reactor.callLater(RENEWAL_CHECK, self._renew)
        self._keeper.between_windows(self._renew_now)

    def _renew_now(self) -> None:
        if self._keeper.is_still:
            return
        try:
            self._tls.load(*_certificate_files(self._settings), _now())
        except XohookError as error:
            self._log.error("the certificate is not renewed: {error}", error=error)

    def _set_patience(self, settings: Settings) -> None:
        self._site.trusted_patience = settings.hold_limit + IDLE_BEYOND_HOLD


async def _done(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


def _refuse_frozen(settings: Settings) -> None:
    """See that no participant freezes what the agent writes to meanwhile."""
    refuse_frozen("runtime_directory", settings.runtime_directory, settings.participants)
    if settings.control is not None:
        refuse_frozen("control", settings.control, settings.participants)


def _last_wish(settings: Settings) -> int:
    """Place apps before the first filesystem: they would keep it frozen while they thaw."""
    each = (it.order for it in settings.participants if isinstance(it, FilesystemSettings))
    return max(0, min(each, default=LAST_ORDER + 1) - 1)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _certificate_files(settings: Settings) -> tuple[Any, Any]:
    """Name the files to serve; the agent's own are made, or made anew, where it is time."""
    if settings.certificate is not None and settings.private_key is not None:
        return settings.certificate, settings.private_key
    return certificate.ensure(settings.state_directory, _now())


def _gate(settings: Settings) -> Gate:
    return Gate(credentials.load(settings), settings.authenticate, settings.allow_from)


def _limits(settings: Settings) -> Limits:
    return Limits(settings.freeze_budget, settings.hold_limit)


def _counted_participants(settings: Settings) -> str:
    return counted(len(settings.participants), "participant")


def _participants(reactor: IProcessReactor, settings: Settings) -> list[Participant]:
    return [make(reactor, each) for each in settings.participants]
