"""Tests for the units in ``etc/``: what systemd must not do, and what it makes of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import needs

ETC = Path(__file__).resolve().parents[1] / "etc"
PATIENCE = 60.0

#: systemd.exec(5): directories that systemd creates before each exec, on filesystems of the disk.
CREATED_BEFORE_EXEC = {
    "StateDirectory",
    "CacheDirectory",
    "LogsDirectory",
    "ConfigurationDirectory",
}

#: systemd.exec(5): what needs a mount namespace, or directories in ``/tmp`` and ``/var/tmp``.
NAMESPACES = {
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "ProtectSystem",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectProc",
    "ReadWritePaths",
    "RootDirectory",
    "DynamicUser",
}

#: A login session writes logs, another journal has a directory of its own, and a program that runs
#: before the agent must not wait for a disk either.
OTHERS = {"PAMName", "LogNamespace", "ExecStartPre"}


def options(unit: Path) -> dict[str, list[str]]:
    """Read a unit.

    :param unit: the file.
    :return: the values of each option.
    """
    found: dict[str, list[str]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        name, is_option, value = line.partition("=")
        if is_option and not line.startswith(("#", ";")):
            found.setdefault(name, []).append(value)
    return found


class UnitTests(SynchronousTestCase):
    """What the unit has systemd do around the agent."""

    def setUp(self) -> None:
        self.options = options(ETC / "xohook.service")

    def test_nothing_touches_a_frozen_filesystem(self) -> None:
        """Nothing is created on a disk before the agent is executed; ``/run`` is none."""
        self.assertEqual(set(self.options) & (CREATED_BEFORE_EXEC | NAMESPACES | OTHERS), set())

    def test_output(self) -> None:
        """The output goes to the journal and not to a file, which systemd would open first."""
        self.assertEqual(set(self.options) & {"StandardOutput", "StandardError"}, set())

    def test_restart_wait(self) -> None:
        """After an agent that failed, systemd goes on at once if and only if a record is there."""
        [command] = self.options["ExecStopPost"]
        shell = command.partition("'")[2].rpartition("'")[0].replace("$$", "$")
        runtime = Path(self.mktemp())
        runtime.mkdir()
        called = runtime / "sleep"
        called.write_text('#!/bin/sh\necho "waits $1"\n')
        called.chmod(0o755)

        def waits(result: str) -> str:
            environ = {
                "PATH": f"{runtime}:/usr/bin:/bin",
                "RUNTIME_DIRECTORY": str(runtime),
                "SERVICE_RESULT": result,
            }
            done = subprocess.run(
                ["/bin/sh", "-c", shell],
                env=environ,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout

        self.assertEqual(waits("exit-code"), "waits 5\n")
        self.assertEqual(waits("success"), "")
        (runtime / "record.json").touch()
        self.assertEqual(waits("signal"), "")

    def test_understood(self) -> None:
        """Every line of both units is understood, and nothing in them is complained of."""
        program = needs.program("systemd-analyze")
        held = tempfile.TemporaryDirectory(prefix="xohook-test-")
        self.addCleanup(held.cleanup)
        units = [Path(held.name) / name for name in ("xohook.service", "xohook.socket")]
        for unit in units:
            shutil.copy(ETC / unit.name, unit)
        # The program that the unit names is installed on the VM, not here.
        text = units[0].read_text(encoding="utf-8")
        units[0].write_text(text.replace("/opt/xohook/bin/twistd", sys.executable))
        done = subprocess.run(
            [program, "verify", "--recursive-errors=no", *units],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
