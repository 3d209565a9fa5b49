"""What the configuration says, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs

from xohook.host.accounts import Account


@attrs.frozen(kw_only=True)
class CommonSettings:
    """What the section of every participant says that the agent makes by itself.

    :param name: the participant's whole name, ``KIND:NAME``.
    :param order: its place; lower orders freeze first.
    :param freeze_timeout: seconds that a freeze may take.
    :param thaw_timeout: seconds that a thaw may take.
    :param abort: whether a freeze that fails ends the window (``on_failure``).
    """

    name: str
    order: int
    freeze_timeout: float
    thaw_timeout: float
    abort: bool


@attrs.frozen(kw_only=True)
class ProgramSettings(CommonSettings):
    """What the section of every participant says that runs programs.

    :param account: the user to run as, None for the agent's own.
    :param directory: the working directory, None for ``/``.
    :param environment: variables to add.
    """

    account: Account | None
    directory: Path | None
    environment: Mapping[str, str]


@attrs.frozen(kw_only=True)
class CommandSettings(ProgramSettings):
    """A ``[command:NAME]`` section.

    :param freeze: the program and its arguments that freeze, None where there is none.
    :param thaw: the program and its arguments that thaw, None where there is none.
    """

    freeze: tuple[str, ...] | None
    thaw: tuple[str, ...] | None


@attrs.frozen(kw_only=True)
class ScriptsSettings(ProgramSettings):
    """A ``[scripts:NAME]`` section; its timeouts are for all scripts together.

    :param directory: the directory of executables, in which they run too.
    """

    directory: Path


@attrs.frozen(kw_only=True)
class FilesystemSettings(CommonSettings):
    """A ``[filesystem:NAME]`` section.

    :param mount: the mount point; None for every filesystem that can be frozen (``auto``).
    """

    mount: Path | None


@attrs.frozen(kw_only=True)
class SessionSettings(ProgramSettings):
    """A ``[session:NAME]`` section.

    :param command: the client and its arguments.
    :param freeze_input: what is written to it to freeze.
    :param freeze_expect: the whole line by which it says that it is frozen.
    :param freeze_refuse: a regular expression; a line in which it is found means no.
    :param thaw_input: what is written to it to thaw.
    :param thaw_expect: the whole line by which it says that it was frozen until then.
    """

    command: tuple[str, ...]
    freeze_input: str
    freeze_expect: str
    freeze_refuse: str | None
    thaw_input: str
    thaw_expect: str


ParticipantSettings = CommandSettings | ScriptsSettings | FilesystemSettings | SessionSettings
"""Any participant that the agent makes by itself."""


@attrs.frozen(kw_only=True)
class AppSettings:
    """An ``[app:NAME]`` section: what the agent asks of an app that registers.

    Where it leaves something open, None, the app's own wish counts.

    :param name: the participant's whole name, ``app:NAME``.
    :param order: its place; lower orders freeze first.
    :param freeze_timeout: seconds that a freeze may take.
    :param thaw_timeout: seconds that a thaw may take.
    :param abort: whether a freeze that fails ends the window (``on_failure``).
    :param required: whether a freeze fails while the app is not registered.
    :param account: the only user, besides root, who may take the name; None for whoever may
        connect.
    """

    name: str
    order: int | None
    freeze_timeout: float | None
    thaw_timeout: float | None
    abort: bool | None
    required: bool
    account: Account | None


@attrs.frozen(kw_only=True)
class Settings:
    """The whole configuration.

    :param path: the main file, absolute.
    :param listen: a port number's digits or a Twisted endpoint description, each.
    :param certificate: a given certificate chain (PEM), None for the agent's own.
    :param private_key: the given certificate's key (PEM), None for the agent's own.
    :param secret_file: a given file of secrets, None for the agent's own.
    :param token_file: a file of derived tokens, None where there is none.
    :param authenticate: what suffices, of ``bearer``, ``token`` and ``peer``.
    :param allow_from: the only sources allowed; empty allows all.
    :param vm: the name that tokens are for, None for the one that is kept or the host's.
    :param freeze_budget: seconds within which ``/sync`` is answered.
    :param hold_limit: seconds after which a hold without ``/post-sync`` is thawed.
    :param state_directory: what lasts: certificate, secret, the VM's name.
    :param runtime_directory: what lasts as long as this boot: the record and the lock.
    :param control: the UNIX socket for apps, absolute; None where there is none.
    :param control_group: the number of the group that may connect to it, None for no group.
    :param participants: all participants that the agent makes by itself, in the order of the
        files.
    :param apps: what is asked of apps, in the order of the files.
    """

    path: Path
    listen: tuple[str, ...]
    certificate: Path | None
    private_key: Path | None
    secret_file: Path | None
    token_file: Path | None
    authenticate: frozenset[str]
    allow_from: tuple[IPv4Network | IPv6Network, ...]
    vm: str | None
    freeze_budget: float
    hold_limit: float
    state_directory: Path
    runtime_directory: Path
    control: Path | None
    control_group: int | None
    participants: tuple[ParticipantSettings, ...]
    apps: tuple[AppSettings, ...]
