"""The agent as a service: puts everything together, starts and stops it in order."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from xohook import __version__
from xohook.config.options import LAST_ORDER
from xohook.config.settings import FilesystemSettings, Settings
from xohook.control.apps import Apps
from xohook.control.connections import Control
from xohook.control.methods import Methods
from xohook.control.socket import ControlPort, close_control, let_reach, open_control
from xohook.coordinator.coordinator import Coordinator
from xohook.coordinator.recovery import Recovered
from xohook.coordinator.start_check import StartLook
from xohook.errors import StartError, XohookError
from xohook.hook import certificate, listening
from xohook.hook.auth import Gate
from xohook.hook.connection_limits import Connections, make_room
from xohook.hook.refusals import Refusals
from xohook.hook.resources import make_root
from xohook.hook.site import HookSite
from xohook.hook.tls import ServerTLS
from xohook.host import systemd
from xohook.host.systemd import Inherited
from xohook.participants import Participant
from xohook.participants.factory import make
from xohook.processes.process import IProcessReactor
from xohook.service.reading import Fresh, Reader, StuckError, Task
from xohook.state.disk import Disk
from xohook.state.record import Record
from xohook.text import counted
from xohook.window.effects import Limits

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
    :param fresh: the configuration, with credentials and certificate.
    :param record: the record of the runtime directory.
    :param recovered: what the start has recovered of an earlier run.
    :param disk: the stamp of the state directory, and the log.
    :param inherited: the sockets that systemd has opened.
    :param environ: the environment.
    :raises StartError: where something is missing that cannot be made.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        fresh: Fresh,
        record: Record,
        recovered: Recovered,
        disk: Disk,
        inherited: Inherited,
        environ: Mapping[str, str],
    ) -> None:
        settings, gate = _settings(fresh), _gate(fresh)
        self._reactor = reactor
        self._settings = settings
        self._inherited = inherited
        self._unthawed = recovered.unthawed
        self._environ = environ
        self._tls = ServerTLS(fresh.pair, fresh.served)
        self._reader = Reader(reactor, environ)
        self._turn = DeferredLock()
        self._is_hung_up = False
        self._has_opened = False
        self._disk = disk
        self._apps = Apps(reactor, settings.apps, _last_wish(settings))
        self._coordinator = Coordinator(
            reactor,
            record,
            recovered.late_post_syncs,
            _limits(settings),
            _participants(reactor, fresh),
            self._apps.participants,
            disk,
        )
        room = make_room(has_control=settings.control is not None)
        self._root = make_root(self._coordinator, gate, Refusals(reactor))
        self._site = HookSite(self._root, reactor, Connections(room.hook))
        self._start_look = StartLook(reactor, settings.path, environ)
        self._coordinator.watchers += [self._start_look.changed, self._note_window]
        methods = Methods(
            self._coordinator, self._apps, self.reload, lambda: self._start_look.missing
        )
        self._control = Control(reactor, methods, self._apps, room.control)
        self._control_socket: socket.socket | None = None
        self._control_port: ControlPort | None = None
        self._ports: list[IListeningPort] = []
        self._renewal: IDelayedCall | None = None
        self._set_patience(settings)

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
        self._disk.attach(globalLogPublisher)
        self._coordinator.adopt(self._unthawed)
        signal.signal(signal.SIGHUP, self._hang_up)
        self._plan_renewal()
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

    def reload(self) -> Deferred[tuple[str, ...]]:
        """Read the configuration again, in another process, and go by it between windows.

        :return: fires with a line for each mistake; with any, everything is as it was.
        """
        return Deferred.fromCoroutine(self._reload())

    async def _reload(self) -> tuple[str, ...]:
        fixed = {option: getattr(self._settings, option) for option in _UNTIL_RESTART}
        await self._turn.acquire()
        self._is_hung_up = False
        try:
            self._apply(await self._read(Task(path=self._settings.path, fixed=fixed)))
        except XohookError as error:
            problems = tuple(str(error).splitlines())
            for line in problems:
                self._log.error("not reloaded: {line}", line=line)
            return problems
        finally:
            self._turn.release()
        return ()

    def _apply(self, fresh: Fresh) -> None:
        settings, gate = _settings(fresh), _gate(fresh)
        participants = _participants(self._reactor, fresh)
        self._tls.serve(fresh.pair, fresh.served)
        self._root.gate = gate
        self._coordinator.configure(_limits(settings), participants)
        self._apps.configure(settings.apps, _last_wish(settings))
        self._settings = settings
        self._set_patience(settings)
        self._start_look.begin()
        self._plan_renewal()
        self._log.info(
            "reloaded, with {participants}", participants=_counted_participants(settings)
        )

    async def _read(self, task: Task) -> Fresh:
        """Read between windows, and return between windows.

        :raises StartError: where it cannot be read.
        """
        while True:
            await self._between_windows()
            # What is read, and whoever looks a user up, may wait for that filesystem.
            if self._coordinator.filesystem_frozen:
                raise StartError("a filesystem is still frozen after a thaw that failed")
            self._has_opened = False
            try:
                fresh = await self._reader.read(task)
            except StuckError:
                # What the window froze may be the reason.
                if not self._has_opened:
                    raise
                continue
            await self._between_windows()
            return fresh

    def _between_windows(self) -> Deferred[None]:
        result: Deferred[None] = Deferred()
        self._coordinator.between_windows(lambda: result.callback(None))
        return result

    def _note_window(self, *_: object) -> None:
        self._has_opened = True

    async def _stop(self) -> None:
        systemd.notify("STOPPING=1", self._environ)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # It is being done; a second one would only make Twisted complain.
            signal.signal(number, signal.SIG_IGN)
        self._root.is_stopping = True
        self._start_look.stop()
        self._reader.stop()
        if self._renewal is not None:
            self._renewal.cancel()
        await self._coordinator.stop()
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
        self._reactor.callFromThread(self._reload_soon)

    def _reload_soon(self) -> None:
        # One that has not begun to read will read what there is now.
        if not self._is_hung_up:
            self._is_hung_up = True
            self.reload().addErrback(self._own_fault)

    def _own_fault(self, fault: Failure) -> None:
        self._log.failure("a fault of xohook itself", fault)

    def _plan_renewal(self) -> None:
        """Renew the certificate in a day, or at once where it is time."""
        if self._renewal is not None and self._renewal.active():
            self._renewal.cancel()
        is_due = self._tls.expires - datetime.now(timezone.utc) <= certificate.RENEW_BEFORE
        is_own = _given_files(self._settings) is None
        wait = 0.0 if is_due and is_own else RENEWAL_CHECK
        self._renewal = self._reactor.callLater(wait, self._renew)

    def _renew(self) -> None:
        self._renewal = self._reactor.callLater(RENEWAL_CHECK, self._renew)
        Deferred.fromCoroutine(self._renew_now()).addErrback(self._own_fault)

    async def _renew_now(self) -> None:
        await self._turn.acquire()
        try:
            files, state = _given_files(self._settings), self._settings.state_directory
            fresh = await self._read(Task(files=files, state_directory=state, is_renewal=True))
            self._tls.serve(fresh.pair, fresh.served)
        except XohookError as error:
            self._log.error("the certificate is not renewed: {error}", error=error)
        finally:
            self._turn.release()

    def _set_patience(self, settings: Settings) -> None:
        self._site.trusted_patience = settings.hold_limit + IDLE_BEYOND_HOLD


async def _done(result: Deferred[None] | None) -> None:
    if result is not None:
        await result


def _last_wish(settings: Settings) -> int:
    """Place apps before the first filesystem: they would keep it frozen while they thaw."""
    each = (it.order for it in settings.participants if isinstance(it, FilesystemSettings))
    return max(0, min(each, default=LAST_ORDER + 1) - 1)


def _settings(fresh: Fresh) -> Settings:
    assert fresh.settings is not None
    return fresh.settings


def _given_files(settings: Settings) -> tuple[Path, Path] | None:
    """Name the certificate's files that are given; None where the agent has its own."""
    if settings.certificate is not None and settings.private_key is not None:
        return settings.certificate, settings.private_key
    return None


def _gate(fresh: Fresh) -> Gate:
    settings = _settings(fresh)
    assert fresh.credentials is not None
    return Gate(fresh.credentials, settings.authenticate, settings.allow_from)


def _limits(settings: Settings) -> Limits:
    return Limits(settings.freeze_budget, settings.hold_limit)


def _counted_participants(settings: Settings) -> str:
    return counted(len(settings.participants), "participant")


def _participants(reactor: IProcessReactor, fresh: Fresh) -> list[Participant]:
    return [make(reactor, each, fresh.login) for each in _settings(fresh).participants]
