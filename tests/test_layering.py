"""Imports point down only: each module imports from its own floor and from those below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"

FLOORS = {
    "xohook": 0,
    "xohook.addresses": 0,
    "xohook.durations": 0,
    "xohook.errors": 0,
    "xohook.findings": 0,
    "xohook.text": 0,
    "xohook.host": 1,
    "xohook.window": 1,
    "xohook.config": 2,
    "xohook.processes": 3,
    "xohook.state": 3,
    "xohook.participants": 4,
    "xohook.coordinator": 5,
    "xohook.control": 6,
    "xohook.hook": 6,
    "xohook.service": 7,
    "twisted.plugins.xohook_plugin": 8,
    "xohook.tap": 8,
    "xohook.__main__": 9,
    "xohook.cli": 9,
}
"""The floor of each package and of each module that is in none (docs/architecture.rst)."""

APART: Mapping[str, frozenset[str]] = {
    "xohook.processes.guards": frozenset({"xohook"}),
    # For the type checker alone: typing_extensions.
    "xohook.client": frozenset({"typing_extensions", "xohook"}),
    "xohook.client.tx": frozenset({"twisted", "xohook"}),
    "xohook.txclient": frozenset({"xohook"}),
}
"""What runs without the agent, and what it imports besides the standard library. Of xohook that is
only what stands here too; of the client, only the client."""


def modules() -> dict[str, Path]:
    """Find the modules of the project.

    :return: the file of each.
    """
    plugins = ROOT / "twisted"
    files = [(SOURCES, path) for path in SOURCES.rglob("*.py")]
    files += [(ROOT, path) for path in plugins.rglob("*.py")]
    found = {}
    for root, path in files:
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: frozenset[str]) -> Iterator[str]:
    """Tell what a module imports, in functions too.

    :param path: its file.
    :param known: the project's modules, told from the names within them.
    :return: the names of modules.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in known else f"{node.module}"


def floor(module: str) -> int | None:
    """Tell which floor a module is on.

    :param module: its name.
    :return: its own floor or that of a package around it, None where neither is told.
    """
    if is_apart(module):
        return None
    if module in FLOORS:
        return FLOORS[module]
    package, _, _ = module.rpartition(".")
    return None if package in ("", "xohook") else floor(package)


def is_apart(module: str) -> bool:
    """Tell whether a module runs without the agent.

    :param module: its name.
    :return: whether it does.
    """
    return module.startswith(tuple(APART))


class LayeringTests(SynchronousTestCase):
    """The rooms of the house."""

    def setUp(self) -> None:
        """Read all imports."""
        files = modules()
        known = frozenset(files)
        self.imports = {name: set(imported(path, known)) for name, path in files.items()}

    def test_down_only(self) -> None:
        """No module imports from a floor above its own."""
        wrong = []
        for module, names in self.imports.items():
            for name in names & set(self.imports):
                own, other = floor(module), floor(name)
                if own is not None and other is not None and other > own:
                    wrong.append(f"{module} (floor {own}) imports {name} (floor {other})")
        self.assertEqual(wrong, [])

    def test_no_circles(self) -> None:
        """Within a floor too, no module imports itself by way of others."""
        reach: dict[str, set[str]] = {}

        def below(module: str) -> set[str]:
            if module not in reach:
                reach[module] = set()
                direct = self.imports[module] & set(self.imports)
                reach[module] = direct.union(*(below(name) for name in direct))
            return reach[module]

        circles = [module for module in self.imports if module in below(module)]
        self.assertEqual(circles, [])

    def test_every_module_has_a_floor(self) -> None:
        """Each module is on a floor or apart, and no floor is told of a module that is not."""
        homeless = [
            module for module in self.imports if floor(module) is None and not is_apart(module)
        ]
        self.assertEqual(homeless, [])
        self.assertEqual(set(FLOORS) - set(self.imports), set())

    def test_apart(self) -> None:
        """What runs without the agent imports nothing of it, and little else."""
        for module, names in self.imports.items():
            packages = [apart for apart in APART if module.startswith(apart)]
            if packages:
                outside = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
                self.assertEqual(outside - APART[max(packages, key=len)], set(), module)
                own = {name for name in names if name.startswith("xohook")}
                self.assertEqual({name for name in own if not is_apart(name)}, set(), module)

    def test_client_alone(self) -> None:
        """The client imports nothing of xohook but the client: its wheel holds nothing else."""
        client = ("xohook.client", "xohook.txclient")
        for module, names in self.imports.items():
            if module.startswith(client):
                own = {name for name in names if name.startswith("xohook")}
                self.assertEqual({name for name in own if not name.startswith(client)}, set())

    def test_global_reactor(self) -> None:
        """Only ``tap`` imports the global reactor."""
        for module, path in modules().items():
            reactor = "twisted.internet.reactor"
            uses = reactor in imported(path, frozenset({reactor}))
            self.assertEqual(uses, module == "xohook.tap", module)

    def test_agent_without_the_command(self) -> None:
        """The agent imports nothing of the ``xohook`` command, nor what only that needs."""
        told = subprocess.run(
            [sys.executable, "-c", "import sys, xohook.tap; print(*sys.modules)"],
            env={"PYTHONPATH": str(SOURCES)},
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(told.stdout.split())
        self.assertIn("xohook.service.agent", loaded)
        others = {"click", "rich", "xohook.cli", "xohook.client"}
        self.assertEqual(loaded & others, set())
