"""What a test needs of the machine: skipped without it, but failed where all of it must be there.

A continuous integration run (``CI=true`` in the environment) promises every program and every
right, so that there a missing one is a mistake and not a reason to pass over a test.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest import SkipTest

PACKAGES = {
    "btrfs": "btrfs-progs",
    "dumpe2fs": "e2fsprogs",
    "flock": "util-linux",
    "fsfreeze": "util-linux",
    "ip": "iproute2",
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "node": "nodejs",
    "postgres": "postgresql",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "sysctl": "procps",
    "unshare": "util-linux",
    "xfs_repair": "xfsprogs",
}
"""The package of Debian 12 that brings a program, where it is not named like that program."""


def program(name: str) -> str:
    """Find a program that a test runs.

    :param name: the program's name.
    :return: its path.
    :raises SkipTest: it is not installed.
    :raises AssertionError: it is not installed, and this is a continuous integration run.
    """
    path = shutil.which(name)
    if path is None:
        package = PACKAGES.get(name, name)
        raise _missing(f"the program {name} is not installed (on Debian: apt install {package})")
    return path


def root() -> None:
    """See that the test runs as root.

    :raises SkipTest: it does not.
    :raises AssertionError: it does not, and this is a continuous integration run.
    """
    if os.geteuid() != 0:
        raise _missing("only root can do this")


def device(path: Path) -> None:
    """See that there is a device of the kernel's.

    :param path: its path.
    :raises SkipTest: it is not there.
    :raises AssertionError: it is not there, and this is a continuous integration run.
    """
    if not path.exists():
        raise _missing(f"there is no {path}")


def _missing(what: str) -> Exception:
    if os.environ.get("CI") == "true":
        return AssertionError(f"{what}, and CI=true promises that everything is there")
    return SkipTest(what)
