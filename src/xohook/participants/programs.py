"""The programs that participants run: where, as whom and in which environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet.defer import Deferred, succeed

from xohook.errors import NotRunError, ParticipantError
from xohook.host import accounts
from xohook.host.accounts import Account
from xohook.host.pids import group_of_unkillable, unkillable
from xohook.participants import Operation
from xohook.processes.process import ENDING, OUTPUT_KEPT, Ended, IProcessReactor, Program, Run

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for, unless the participant's environment says it."""


class Surroundings:
    """What the programs of one participant have in common.

    :param account: the user to run as, None for the agent's own.
    :param directory: the working directory, None for ``/``.
    :param variables: variables to add.
    :param login: the user's name and home where they are known already; where not, and the user is
        the agent's own, it is looked up.
    """

    def __init__(
        self,
        account: Account | None,
        directory: Path | None,
        variables: Mapping[str, str],
        login: tuple[str, str] | None = None,
    ) -> None:
        self.account = account
        self.directory = str(directory or "/")
        self._variables = dict(variables)
        if login is None:
            user = account or accounts.own()
            login = user.name, user.home
        self._name, self._home = login
        self._language = os.environ.get("LANG", "C.UTF-8")

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Surroundings:
        """Take up what an earlier run of the agent wrote down.

        Nobody is looked up: something may be frozen that the answer waits for.

        :param data: what :meth:`recovery_data` returned then.
        :return: the same surroundings.
        :raises KeyError: where the record lacks a value; :exc:`TypeError` where one is wrong.
        """
        account = data["account"]
        if account is not None:
            account = Account(**account | {"groups": tuple(account["groups"])})
        # An earlier version wrote down no name and home of its own user.
        name, home = data.get("login") or _earlier_login(account)
        return cls(account, Path(data["directory"]), data["environment"], (str(name), str(home)))

    def recovery_data(self) -> dict[str, Any]:
        """Return what the next start needs to run a program in the same surroundings.

        :return: plain values for the record.
        """
        account = self.account
        return {
            "account": None
            if account is None
            else {
                "name": account.name,
                "uid": account.uid,
                "gid": account.gid,
                "groups": account.groups,
                "home": account.home,
            },
            "login": (self._name, self._home),
            "directory": self.directory,
            "environment": self._variables,
        }

    def environment(self, operation_name: str, operation: Operation) -> dict[str, str]:
        """Make the whole environment of a program.

        :param operation_name: ``freeze`` or ``thaw``.
        :param operation: what it is asked for.
        :return: the variables.
        """
        environment = {
            "PATH": PATH,
            "HOME": self._home,
            "USER": self._name,
            "LANG": self._language,
            **self._variables,
            "XOHOOK_PHASE": operation_name,
            "XOHOOK_WINDOW": operation.window,
            "XOHOOK_TIMEOUT": f"{operation.timeout:g}",
        }
        if operation.outcome:
            environment["XOHOOK_OUTCOME"] = operation.outcome
        return environment


def still_runs(pid: int) -> str:
    """Say that a program was told to end and runs on, because it may not be signalled.

    :param pid: the process.
    :return: what is wrong and what to do.
    """
    return (
        f"its earlier program (process {pid}) runs on as another user and cannot be"
        f" ended; wait for its end, or end it by hand, as root: kill {pid}"
    )


def _earlier_login(account: Account | None) -> tuple[str, str]:
    if account is not None:
        return account.name, account.home
    uid = os.geteuid()
    if uid == 0:
        return "root", "/root"
    return os.environ.get("USER", str(uid)), os.environ.get("HOME", "/")


class Runner:
    """Runs the programs of one participant, one at a time.

    :param reactor: the clock and the source of processes.
    :param surroundings: what they have in common.
    """

    def __init__(self, reactor: IProcessReactor, surroundings: Surroundings) -> None:
        self._reactor = reactor
        self._surroundings = surroundings
        self._last: Run | None = None
        self._told_to_end: set[int] = set()

    async def run(
        self,
        arguments: tuple[str, ...],
        operation_name: str,
        operation: Operation,
        ending: float = ENDING,
    ) -> bytes:
        """Run a program to its end.

        :param arguments: the program and its arguments.
        :param operation_name: ``freeze`` or ``thaw``.
        :param operation: what it is asked for.
        :param ending: seconds that its end may take where it is cancelled.
        :return: the end of its output.
        :raises NotRunError: where the system is too short of something to start it.
        :raises ParticipantError: where it cannot be run, or ends badly.
        """
        program = Program(
            arguments=arguments,
            environment=self._surroundings.environment(operation_name, operation),
            directory=self._surroundings.directory,
            account=self._surroundings.account,
        )
        return (await self._run(program, operation, ending)).output

    async def run_own(self, module: ModuleType, argument: str, operation: Operation) -> bytes:
        """Run a small program of xohook's own to its end, as the agent's user.

        :param module: the program, a module of :mod:`xohook.processes.guards`.
        :param argument: its argument.
        :param operation: what it is run for.
        :return: its output.
        :raises ParticipantError: where it cannot be run, ends badly or writes too much.
        """
        # Isolated from the environment, without site-packages, and never writing a .pyc file.
        arguments = (sys.executable, "-I", "-S", "-B", str(module.__file__), argument)
        ended = await self._run(Program(arguments, {}, "/", None), operation, ENDING)
        if ended.dropped:
            raise ParticipantError(f"more than {OUTPUT_KEPT} bytes")
        return ended.output

    async def _run(self, program: Program, operation: Operation, ending: float) -> Ended:
        try:
            run = Run(self._reactor, ending)
        except OSError as error:
            raise NotRunError(f"no process can be started: {error.strerror}") from error
        self._last = run
        ended = run.when_ended()
        try:
            operation.persist({"pid": run.pid, "started": run.started})
        except BaseException:
            ended.cancel()
            ended.addErrback(lambda _: None)
            raise
        run.begin(program)
        try:
            result = await ended
        except BaseException:
            self._told_to_end.add(run.pid)
            raise
        if not result.was_started:
            raise NotRunError(result.describe())
        if not result.is_good:
            raise ParticipantError(result.describe(), result.output)
        return result

    def tail(self) -> bytes:
        """Tell what the last program has written so far.

        :return: the end of it.
        """
        return b"" if self._last is None else self._last.tail()

    def when_quiet(self) -> Deferred[None]:
        """Wait for the last program's end.

        :return: fires when it has ended, or cannot be ended.
        """
        return succeed(None) if self._last is None else self._last.when_gone()

    def take_up(self, pid: int, started: int | None) -> None:
        """Take up a program that an earlier run of the agent has left.

        :param pid: its process.
        :param started: when that process started, as the record has it.
        """
        group = group_of_unkillable(pid, started)
        if group is not None:
            self._told_to_end.add(group)

    def not_ended(self) -> NotRunError | None:
        """Look for a program that was told to end and runs on, because it may not be signalled.

        :return: the error of who wants to run another one; None where there is no such program.
        """
        for group in tuple(self._told_to_end):
            process = unkillable(group)
            if process is not None:
                return NotRunError(still_runs(process["pid"]), process=process)
            self._told_to_end.discard(group)
        return None
