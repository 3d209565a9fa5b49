"""Xen Orchestra's own client, installed once and run by node over a stand-in for XAPI."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from tests import needs
from tests.integration.hook_client import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("xo")
INSTALLED = ROOT / ".cache" / "xo-client"

#: The client's peer is asked for in a version that is not published; nothing of its is to be run or
#: told to anybody, and no lock file says where a package came from.
INSTALL_OPTIONS = (
    "--legacy-peer-deps",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
)

#: Seconds that an installation may take over a slow line.
INSTALLATION_PATIENCE = 300

NO_FAILURES: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class Events:
    """What XO's client did and heard, in order.

    :param lines: the driver's lines, each with an ``event``.
    """

    lines: Sequence[Mapping[str, Any]]

    def of(self, event: str) -> list[Mapping[str, Any]]:
        """Pick the events of one kind.

        :param event: the kind.
        :return: those events, in order.
        """
        return [line for line in self.lines if line["event"] == event]

    @property
    def answers(self) -> list[tuple[str, int]]:
        """The path and the status of each answer, in order."""
        return [(line["path"], line["status"]) for line in self.of("answered")]

    @property
    def connections(self) -> set[int]:
        """The source ports of the connections that carried requests."""
        return {line["from"] for line in self.of("asked")}


def install() -> None:
    """Put XO's client and the driver into the cache, once.

    :raises SkipTest: where node or npm is missing, or npm cannot reach its packages.
    """
    needs.program("node")
    needs.program("npm")
    shutil.copytree(SOURCE, INSTALLED, dirs_exist_ok=True)
    wanted = (SOURCE / "package.json").read_bytes()
    # Written last, so that an installation that broke off is made again.
    done = INSTALLED / "installed.json"
    if done.exists() and done.read_bytes() == wanted:
        return
    shutil.rmtree(INSTALLED / "node_modules", ignore_errors=True)
    npm = subprocess.run(
        ["npm", "install", *INSTALL_OPTIONS],
        cwd=INSTALLED,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALLATION_PATIENCE,
    )
    if npm.returncode:
        raise needs.missing(f"npm could not install XO's client:\n{npm.stdout}")
    done.write_bytes(wanted)


def run(
    operation: str,
    *,
    tag: str,
    journal: Path,
    seconds: float = 0.1,
    failures: Mapping[str, str] = NO_FAILURES,
    secret: str | None = None,
    mended: bool = False,
) -> Events:
    """Take a snapshot or a checkpoint of a running VM as XO does.

    :param operation: the client's own method, ``VM_snapshot`` or ``VM_checkpoint``.
    :param tag: the VM's tag.
    :param journal: the file to which each call to XAPI adds its beginning and its end.
    :param seconds: how long XAPI takes for such a call.
    :param failures: error codes by XAPI method, for methods whose calls fail.
    :param secret: XO's ``syncHookSecret``, None where it is not set.
    :param mended: whether the client finds the secret where it looks for it, as it does not today.
    :return: what happened, once the client has nothing more to do.
    """
    plan = {
        "operation": operation,
        "tags": [tag],
        "journal": str(journal),
        "seconds": seconds,
        "failures": dict(failures),
        "secret": secret,
        "mended": mended,
    }
    node = subprocess.run(
        ["node", "driver.mjs", json.dumps(plan)],
        cwd=INSTALLED,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    return Events([json.loads(line) for line in node.stdout.splitlines()])
