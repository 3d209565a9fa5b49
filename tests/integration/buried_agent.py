"""An agent that lies on what it freezes: its program, working and state directory, and its log."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import xohook
from tests.integration.agent import Agent
from tests.integration.disks import Disk

#: What the agent does not need of the packages that the tests have.
_UNNEEDED = ("*.pyc", "__pycache__", "*mypy*", "ruff*", "pip*", "setuptools*", "hypothesis*")

_PLUGIN = Path("twisted/plugins/xohook_plugin.py")


class BuriedAgent(Agent):
    """The agent, in a virtual environment with no ``.pyc`` file in it yet.

    Python itself tells its standard error of each import.

    :param disk: where all of it lies, but for the runtime directory and its plain output.
    :param outside: an absolute path for its plain output.
    :param sections: the participants.
    """

    def __init__(self, disk: Disk, outside: Path, sections: str) -> None:
        super().__init__(disk.mount / "home")
        outside.mkdir()
        self.log_path = outside / "output"
        self.own_log = self.directory / "agent.log"
        self.twistd_options = ("-n", "--pidfile=", f"--logfile={self.own_log}")
        self.configure(sections=sections)
        self.launcher = (str(self._make_environment(disk.mount / "venv")),)

    @property
    def environment(self) -> dict[str, str]:
        """The test's environment without what it says of Python."""
        kept = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
        return {**kept, "PYTHONPROFILEIMPORTTIME": "1"}

    @property
    def log(self) -> str:
        """All that the agent has logged so far."""
        return self.own_log.read_text() if self.own_log.exists() else ""

    @property
    def imports(self) -> list[str]:
        """All that Python has imported so far, a line each."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith("import time:")]

    @staticmethod
    def _make_environment(place: Path) -> Path:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
        [packages] = place.glob("lib/python*/site-packages")
        ignored = shutil.ignore_patterns(*_UNNEEDED)
        shutil.copytree(sysconfig.get_path("purelib"), packages, ignore=ignored, dirs_exist_ok=True)
        own = Path(xohook.__file__).parent
        shutil.copytree(own, packages / "xohook", ignore=ignored, dirs_exist_ok=True)
        plugin = next(path for path in map(Path, sys.path) if (path / _PLUGIN).exists()) / _PLUGIN
        shutil.copy(plugin, packages / _PLUGIN)
        return place / "bin" / "python"
