"""What the configuration says, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs


@attrs.frozen
class Account:
    """The user that a program runs as, looked up once when the configuration is read.

    :param name: the login name.
    :param uid: the user's number.
    :param gid: the primary group's number.
    :param groups: the numbers of all groups, the primary one included.
    :param home: the home directory.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@attrs.frozen(kw_only=True)
class CommandSettings:
    """A ``[command:NAME]`` section.

    :param name: the participant's whole name, ``command:NAME``.
    :param order: its place; lower orders freeze first.
    :param freeze: the program and its arguments that freeze, None where there is none.
    :param thaw: the program and its arguments that thaw, None where there is none.
    :param account: the user to run as, None for the agent's own.
    :param directory: the working directory, None for ``/``.
    :param environment: variables to add.
    :param freeze_timeout: seconds that a freeze may take.
    :param thaw_timeout: seconds that a thaw may take.
    :param abort: whether a freeze that fails ends the window (``on_failure``).
    """

    name: str
    order: int
    freeze: tuple[str, ...] | None
    thaw: tuple[str, ...] | None
    account: Account | None
    directory: Path | None
    environment: Mapping[str, str]
    freeze_timeout: float
    thaw_timeout: float
    abort: bool


@attrs.frozen(kw_only=True)
class ScriptsSettings:
    """A ``[scripts:NAME]`` section.

    :param name: the participant's whole name, ``scripts:NAME``.
    :param order: its place; lower orders freeze first.
    :param directory: the directory of executables.
    :param account: the user to run as, None for the agent's own.
    :param environment: variables to add.
    :param freeze_timeout: seconds that the whole freeze may take.
    :param thaw_timeout: seconds that the whole thaw may take.
    :param abort: whether a freeze that fails ends the window (``on_failure``).
    """

    name: str
    order: int
    directory: Path
    account: Account | None
    environment: Mapping[str, str]
    freeze_timeout: float
    thaw_timeout: float
    abort: bool


@attrs.frozen(kw_only=True)
class FilesystemSettings:
    """A ``[filesystem:NAME]`` section.

    :param name: the participant's whole name, ``filesystem:NAME``.
    :param order: its place; lower orders freeze first.
    :param mount: the mount point; None for every filesystem that can be frozen (``auto``).
    :param freeze_timeout: seconds that a freeze may take.
    :param thaw_timeout: seconds that a thaw may take.
    :param abort: whether a freeze that fails ends the window (``on_failure``).
    """

    name: str
    order: int
    mount: Path | None
    freeze_timeout: float
    thaw_timeout: float
    abort: bool


@attrs.frozen(kw_only=True)
class SessionSettings:
    """A ``[session:NAME]`` section.

    :param name: the participant's whole name, ``session:NAME``.
    :param order: its place; lower orders freeze first.
    :param command: the client and its arguments.
    :param freeze_input: what is written to it to freeze.
    :param freeze_expect: the whole line by which it says that it is frozen.
    :param freeze_refuse: a regular expression; a line in which it is found means no.
    :param thaw_input: what is written to it to thaw.
    :param thaw_expect: the whole line by which it says that it was frozen until then.
    :param account: the user to run as, None for the agent's own.
    :param directory: the working directory, None for ``/``.
    :param environment: variables to add.
    :param freeze_timeout: seconds that a freeze may take.
    :param thaw_timeout: seconds that a thaw may take.
    :param abort: whether a freeze that fails ends the window (``on_failure``).
    """

    name: str
    order: int
    command: tuple[str, ...]
    freeze_input: str
    freeze_expect: str
    freeze_refuse: str | None
    thaw_input: str
    thaw_expect: str
    account: Account | None
    directory: Path | None
    environment: Mapping[str, str]
    freeze_timeout: float
    thaw_timeout: float
    abort: bool


ParticipantSettings = CommandSettings | ScriptsSettings | FilesystemSettings | SessionSettings


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
    :param participants: all participants, in the order of the files.
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
    participants: tuple[ParticipantSettings, ...]
