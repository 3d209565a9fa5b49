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


ParticipantSettings = CommandSettings


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
