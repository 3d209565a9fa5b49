"""What the agent keeps or is given: directories, credentials, certificate."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from xohook.config.settings import Settings
from xohook.errors import StartError
from xohook.findings import Finding, error, ok, warning
from xohook.hook import certificate, credentials
from xohook.host import directories, mounts
from xohook.participants.frozen import refuse_frozen

# What 96 random bits take in base64; a shorter one was chosen by hand, or might as well be.
_SHORT_SECRET = 16
_IN_MEMORY = {"tmpfs", "ramfs"}


def state_and_runtime(settings: Settings) -> Iterator[Finding]:
    """Look at the state and the runtime directory, without making them.

    :param settings: the configuration.
    :return: a finding for each, and more where the runtime directory lies badly.
    """
    yield _directory("state_directory", settings.state_directory)
    yield _directory("runtime_directory", settings.runtime_directory)
    yield from _shared_control(settings)
    try:
        refuse_frozen("runtime_directory", settings.runtime_directory, settings.participants)
    except StartError as refused:
        yield error(str(refused))
        return
    mount = mounts.mount_of(settings.runtime_directory, mounts.table())
    if mount is not None and mount.kind not in _IN_MEMORY:
        yield warning(
            f"runtime_directory = {settings.runtime_directory}: on {mount.kind} ({mount.point}), "
            "which a freeze may reach; name a directory on tmpfs, below /run for instance"
        )


def _shared_control(settings: Settings) -> Iterator[Finding]:
    if settings.control is None:
        return
    directory = settings.control.parent
    with suppress(OSError):
        if directory.stat().st_mode & stat.S_ISVTX:
            yield warning(
                f"control = {settings.control}: {directory} is sticky, so that any user can take "
                "the socket's name while the agent is down; name a path in a directory of the "
                "agent's user"
            )


def authentication(settings: Settings) -> Iterator[Finding]:
    """Look at the credentials, without making any.

    :param settings: the configuration.
    :return: findings about the files, the VM's name, and whether XO can use any of it.
    """
    own = credentials.own_secret_file(settings)
    if own is not None and not os.path.lexists(own):
        yield ok(f"{own}: not there yet; the first start makes it")
    elif own is not None or settings.secret_file is not None:
        yield _secrets(settings, own or settings.secret_file or Path())
    if settings.token_file is not None:
        yield _tokens(settings.token_file)
    yield _name(settings)
    if settings.authenticate == {"bearer"}:
        yield warning(
            "authenticate = bearer: the XO of today never sends its secret, and would hear 403; "
            "add token"
        )


def served_certificate(settings: Settings, now: datetime) -> tuple[Finding, bytes | None]:
    """Look at the certificate and its key, without making them.

    :param settings: the configuration.
    :param now: the time, with its zone.
    :return: the finding; the certificate (DER), None where none can be served yet.
    """
    own = settings.certificate is None or settings.private_key is None
    files = certificate.own_files(settings.state_directory)
    if settings.certificate is not None and settings.private_key is not None:
        files = settings.certificate, settings.private_key
    elif not any(map(os.path.lexists, files)):
        return ok(f"{files[0]}: not there yet; the first start makes it"), None
    try:
        pair = certificate.read(*files, os.geteuid() if own else None)
    except StartError as unusable:
        if own:
            return warning(f"{unusable} (or start the agent, which makes a new one)"), None
        return error(str(unusable)), None
    until = f"{files[0]}: good until {pair.expires:%Y-%m-%d}"
    der = pair.chain[0].public_bytes(Encoding.DER)
    problem = certificate.expired(pair, files[0], now)
    if problem is not None:
        if own:
            return warning(f"{problem} (or start the agent, which makes a new one)"), der
        return error(problem), der
    if pair.expires - now > certificate.RENEW_BEFORE:
        return ok(until), der
    if own:
        return ok(f"{until}; the agent renews it"), der
    return warning(f"{until}; renew it, then send the agent SIGHUP"), der


def _directory(option: str, directory: Path) -> Finding:
    place = f"{option} = {directory}"
    try:
        directory.lstat()
    except FileNotFoundError:
        parent = mounts.nearest_existing(directory)
        if os.access(parent, os.W_OK | os.X_OK):
            return ok(f"{place}: not there yet; the first start makes it")
        return error(
            f"{place}: cannot be made in {parent}; make it for the agent's user, or name another"
        )
    except OSError as hidden:
        return error(f"{place}: {hidden.strerror}; let the agent's user in, or name another")
    try:
        # It is there, so this makes nothing and only judges.
        directories.prepare(directory, os.geteuid())
    except StartError as refused:
        return error(f"{option}: {refused}")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return error(f"{place}: cannot be written to; run: chmod u+rwx {directory}")
    return ok(place)


def _secrets(settings: Settings, path: Path) -> Finding:
    try:
        secrets = credentials.read_secrets(settings, os.geteuid())
    except StartError as unusable:
        return error(str(unusable))
    if min(map(len, secrets)) < _SHORT_SECRET:
        return warning(
            f"{path}: a secret has less than {_SHORT_SECRET} characters and may be guessed; use a "
            "long random one (openssl rand -base64 32), here and in XO"
        )
    return ok(f"{path}: {len(secrets)} secret{'s' * (len(secrets) > 1)}")


def _tokens(path: Path) -> Finding:
    try:
        tokens = credentials.read_lines(path)
    except StartError as unusable:
        return error(str(unusable))
    return ok(f"{path}: {len(tokens)} token{'s' * (len(tokens) > 1)}")


def _name(settings: Settings) -> Finding:
    if settings.vm is not None:
        return ok(f"vm = {settings.vm}")
    try:
        kept = credentials.kept_name(settings.state_directory, os.geteuid())
        if kept is not None:
            return _kept(kept, settings.state_directory / "vm")
        return ok(f"vm: {credentials.host_name()}, the host's, from the first start on")
    except StartError as unusable:
        return error(str(unusable))


def _kept(name: str, file: Path) -> Finding:
    """Tell of the kept name; the host may be called otherwise by now, in a clone for instance."""
    try:
        host = credentials.host_name()
    except StartError:
        host = name
    if host == name:
        return ok(f"vm: {name}, as {file} keeps it from the first start")
    return warning(
        f"vm: {name}, as {file} keeps it from the first start, but this host is named {host} now. "
        f"The tag in Xen Orchestra names {name} and goes on working. For the new name, remove "
        f"{file}, restart the agent, and give the VM the tag that 'xohook setup' prints; to keep "
        f"the old one without this warning, set vm = {name}"
    )
