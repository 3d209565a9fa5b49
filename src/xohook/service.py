"""The agent as a service: puts everything together, starts and stops it in order."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, globalLogPublisher

from xohook import __version__, certificate, config, credentials, listening, systemd
from xohook.auth import Gate
from xohook.connections import Connections, make_room
from xohook.course import Limits
from xohook.disk import Disk
from xohook.errors import StartError, XohookError
from xohook.keeper import Keeper
from xohook.logs import WaitingLog
from xohook.mounts import refuse_frozen
from xohook.participants import Participant
from xohook.participants.making import make
from xohook.process import IProcessReactor
from xohook.record import Record
from xohook.refusals import Refusals
from xohook.settings import Settings
from xohook.site import HookSite
from xohook.stamp import Stamp
from xohook.strays import Strays
from xohook.tls import ServerTLS
from xohook.web import make_root

RENEWAL_CHECK = 24 * 60 * 60.0
"""Seconds between two looks at the own certificate, which is renewed 30 days before its end."""

IDLE_BEYOND_HOLD = 10.0
"""Seconds that a connection is kept beyond the hold limit that its requester was told."""


class Agent(Service):
    """The whole agent.

    :param reactor: the reactor, whose clock is monotonic.
    :param settings: the configuration.
    :param record: the record of the runtime directory.
    :param strays: the ``/post-sync`` expected from windows of an earlier run.
    :param stamp: the stamp of the state directory.
    :param environ: the environment.
    :raises StartError: where something is missing that cannot be made.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        record: Record,
        strays: Strays,
        stamp: Stamp,
        environ: Mapping[str, str],
    ) -> None:
        refuse_frozen(settings.runtime_directory, settings.participants)
        self._reactor = reactor
        self._settings = settings
        self._environ = environ
        self._tls = ServerTLS(*_certificate_files(settings), _now())
        self._waiting_log = WaitingLog()
        # One thread: what is written to the disk is written in order.
        reactor.suggestThreadPoolSize(1)
        aside = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        self._keeper = Keeper(
            reactor,
            record,
            strays,
            _limits(settings),
            _participants(reactor, settings),
            Disk(stamp, self._waiting_log, aside),
        )
        self._root = make_root(self._keeper, _gate(settings), Refusals(reactor))
        self._site = HookSite(self._root, reactor, Connections(make_room()))
        self._ports: list[IListeningPort] = []
        self._renewal: IDelayedCall | None = None
        self._set_patience(settings)

    def privilegedStartService(self) -> None:
        """Open the listening sockets; an agent that listens on nothing does not stay up.

        :raises SystemExit: where one of them cannot be opened.
        """
        super().privilegedStartService()
        try:
            self._ports = listening.open_listeners(
                self._reactor, self._settings.listen, self._site, self._tls
            )
        except StartError as error:
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
            "xohook {version} answers on {places}, with {count} participants",
            version=__version__,
            places=listening.describe(self._ports),
            count=len(self._settings.participants),
        )
        systemd.notify("READY=1", self._environ)

    def stopService(self) -> Deferred[None]:
        """Thaw what is frozen, then end.

        :return: fires when nothing is frozen and nobody waits for an answer.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def reload(self) -> None:
        """Read the configuration again; a mistake in it leaves everything as it was."""
        try:
            settings = self._keep_fixed(config.load(self._settings.path, environ=self._environ))
            refuse_frozen(settings.runtime_directory, settings.participants)
            gate = _gate(settings)
            participants = _participants(self._reactor, settings)
            self._tls.load(*_certificate_files(settings), _now())
        except XohookError as error:
            for line in str(error).splitlines():
                self._log.error("not reloaded: {line}", line=line)
            return
        self._root.gate = gate
        self._keeper.configure(_limits(settings), participants)
        self._settings = settings
        self._set_patience(settings)
        self._log.info("reloaded, with {count} participants", count=len(settings.participants))

    def _keep_fixed(self, settings: Settings) -> Settings:
        """Put aside what only a restart can change."""
        fixed = {}
        for option in ("listen", "state_directory", "runtime_directory"):
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
        if self._renewal is not None:
            self._renewal.cancel()
        await self._keeper.stop()
        for port in self._ports:
            await _done(port.stopListening())
        await self._site.close()

    def _hang_up(self, *_: object) -> None:
        self._reactor.callFromThread(self._keeper.between_windows, self.reload)

    def _renew(self) -> None:
        self._renewal = self._reactor.callLater(RENEWAL_CHECK, self._renew)
        self._keeper.between_windows(self._renew_now)

    def _renew_now(self) -> None:
        try:
            self._tls.load(*_certificate_files(self._settings), _now())
        except XohookError as error:
            self._log.error("the certificate is not renewed: {error}", error=error)

    def _set_patience(self, settings: Settings) -> None:
        self._site.trusted_patience = settings.hold_limit + IDLE_BEYOND_HOLD


async def _done(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


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


def _participants(reactor: IProcessReactor, settings: Settings) -> list[Participant]:
    return [make(reactor, each) for each in settings.participants]
