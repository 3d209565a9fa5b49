"""What a test needs of the machine: skipped without it, but failed where all of it must be there.

A continuous integration run (``CI=true`` in the environment) promises every program and every
right, so that there a missing one is a mistake and not a reason to pass over a test.

Run as a program, this prints the Debian packages that all tests together need. It uses the
standard library alone, and so runs without a virtual environment.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
from pathlib import Path
from unittest import SkipTest

PACKAGES = {
    "btrfs": "btrfs-progs",
    "bash": "bash",
    "curl": "curl",
    "dumpe2fs": "e2fsprogs",
    "flock": "util-linux",
    "fsfreeze": "util-linux",
    "ip": "iproute2",
    "make": "make",
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkswap": "util-linux",
    "mount": "mount",
    "node": "nodejs",
    "npm": "npm",
    "openssl": "openssl",
    "postgres": "postgresql",
    "prlimit": "util-linux",
    "redis-server": "redis-server",
    "setpriv": "util-linux",
    "sleep": "coreutils",
    "socat": "socat",
    "sqlite3": "sqlite3",
    "strace": "strace",
    "swapon": "mount",
    "sysctl": "procps",
    "systemd-analyze": "systemd",
    "umount": "mount",
    "unshare": "util-linux",
    "xfs_repair": "xfsprogs",
}
"""The package of Debian 12 and 13 that brings each program that a test asks for."""

USERS = {"mysql": "mariadb-server", "nobody": "base-passwd", "postgres": "postgresql"}
"""The package of Debian 12 and 13 that makes each user that a test asks for."""

_PROGRAMS_MISSING = (
    "Some tests were skipped because programs are missing. To install them, as root: "
    "apt-get install "
)
_NOT_ROOT = "Some tests were skipped because only root can run them."

_wanted: set[str] = set()
"""Packages that skipped tests have asked for."""

_wants_root = False
"""Whether a test was skipped because only root can do what it does."""


def program(name: str) -> str:
    """Find a program that a test runs.

    :param name: the program's name; :data:`PACKAGES` has its package.
    :return: its path.
    :raises SkipTest: it is not installed.
    :raises AssertionError: it is not installed, and this is a continuous integration run.
    """
    path = shutil.which(name)
    if path is None:
        raise _not_installed(f"the program {name}", PACKAGES.get(name, name))
    return path


def user(name: str) -> pwd.struct_passwd:
    """Find the user that a server runs as.

    :param name: the user's name; :data:`USERS` has the package that makes it.
    :return: its entry in the system's list of users.
    :raises SkipTest: there is no such user.
    :raises AssertionError: there is none, and this is a continuous integration run.
    """
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise _not_installed(f"the user {name}", USERS.get(name, name)) from None


def root() -> None:
    """See that the test runs as root.

    :raises SkipTest: it does not.
    :raises AssertionError: it does not, and this is a continuous integration run.
    """
    global _wants_root
    if os.geteuid() != 0:
        _wants_root = True
        raise missing("only root can do this")


def device(path: Path) -> None:
    """See that there is a device of the kernel's.

    :param path: its path.
    :raises SkipTest: it is not there.
    :raises AssertionError: it is not there, and this is a continuous integration run.
    """
    if not path.exists():
        raise missing(f"there is no {path}")


def missing(what: str) -> Exception:
    """Make the exception of a test that this machine cannot run.

    :param what: what is missing, in words.
    :return: the exception to raise: a failure in a continuous integration run, else a skip.
    """
    if os.environ.get("CI") == "true":
        return AssertionError(f"{what}, and CI=true promises that everything is there")
    return SkipTest(what)


def take_over(text: str) -> str:
    """Take over what another process's :func:`summary` says, into this one's.

    :param text: what the process printed at its end.
    :return: the rest of it.
    """
    global _wants_root
    rest = []
    for line in text.splitlines(keepends=True):
        if line.startswith(_PROGRAMS_MISSING):
            _wanted.update(line.removeprefix(_PROGRAMS_MISSING).split())
        elif line.strip() == _NOT_ROOT:
            _wants_root = True
        else:
            rest.append(line)
    return "".join(rest)


def summary() -> str:
    """Say what the skipped tests need.

    :return: a line for each kind of need; empty where no test was skipped for want of one.
    """
    lines = []
    if _wanted:
        lines.append(_PROGRAMS_MISSING + " ".join(sorted(_wanted)))
    if _wants_root:
        lines.append(_NOT_ROOT)
    return "\n".join(lines)


def _not_installed(what: str, package: str) -> Exception:
    _wanted.add(package)
    return missing(f"{what} is missing (on Debian: apt install {package})")


def _print_summary() -> None:
    # Trial's own summary comes before this.
    if text := summary():
        print(text)


if __name__ == "__main__":
    print(" ".join(sorted({*PACKAGES.values(), *USERS.values()})))
else:
    atexit.register(_print_summary)
