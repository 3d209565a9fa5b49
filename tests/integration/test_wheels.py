"""The two wheels: what is in them, and what pip makes of them in one environment or in two."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent
from tests.integration.wheels import PROJECT, SOURCES, environment, files, wheel
from xohook import __version__

#: An app with the client's wheel alone: it prints what its callbacks get.
APP = """
import sys
from xohook.client import Registration
registration = Registration("orders", control=sys.argv[1])
@registration.freeze
def freeze(request):
    print("freeze", request.window, flush=True)
@registration.thaw
def thaw(request):
    print("thaw", request.window, request.outcome, flush=True)
with registration:
    print(registration.wait(60), flush=True)
    sys.stdin.read()
"""

#: The wheel of a release before the client had one of its own: its name, and what was in it.
EARLIER = {
    "xohook/__init__.py": '__version__ = "0.0.1"\n',
    "xohook/py.typed": "",
    "xohook/client.py": "",
    "xohook/txclient.py": "",
    "xohook-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: xohook\nVersion: 0.0.1\n",
    "xohook-0.0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: this\n"
    "Root-Is-Purelib: true\nTag: py3-none-any\n",
}

CLIENT_WORKS = "from xohook.client import Registration; print(Registration.__name__)"
AGENT_WORKS = "import xohook.text; print(xohook.__version__)"


def metadata(name: str) -> str:
    """Return the metadata of a wheel.

    :param name: the wheel's name.
    :return: its METADATA.
    """
    with zipfile.ZipFile(wheel(name)) as archive:
        [file] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return archive.read(file).decode()


class ContentTests(SynchronousTestCase):
    """What is in the wheels."""

    def test_client(self) -> None:
        """The client's wheel holds the whole client, its types, and nothing else."""
        sources = PROJECT / "src"
        packages = [sources / "xohook" / name for name in ("client", "txclient")]
        client = {
            str(path.relative_to(sources))
            for package in packages
            for path in package.iterdir()
            if path.is_file()
        }
        self.assertEqual(files(wheel("xohook-client")), client)
        self.assertLessEqual({"xohook/client/py.typed", "xohook/txclient/py.typed"}, client)

    def test_no_dependencies(self) -> None:
        """The client's wheel depends on nothing."""
        self.assertNotIn("Requires-Dist", metadata("xohook-client"))

    def test_shared_files(self) -> None:
        """No file is in both wheels, so that pip removes none that the other one needs."""
        self.assertEqual(files(wheel("xohook")) & files(wheel("xohook-client")), set())

    def test_versions(self) -> None:
        """Both have one version, and the agent's wheel depends on the client of that version."""
        self.assertIn(f"\nVersion: {__version__}\n", metadata("xohook-client"))
        self.assertIn(f"\nRequires-Dist: xohook-client=={__version__}\n", metadata("xohook"))

    def test_installed_from_the_tree(self) -> None:
        """``make`` installs and builds both."""
        makefile = (PROJECT / "Makefile").read_text()
        client = SOURCES["xohook-client"].relative_to(PROJECT)
        self.assertIn(f"CLIENT = ./{client}\n", makefile)
        commands = re.findall(r"^\t.*/pip (?:install|wheel) .*", makefile, re.MULTILINE)
        self.assertEqual([each for each in commands if "$(CLIENT)" not in each], [])
        self.assertEqual(len(commands), 4)


class InstallationTests(SynchronousTestCase):
    """Real environments."""

    def setUp(self) -> None:
        self.environment = environment()
        self.addCleanup(self.environment.pip, "uninstall", "-y", "xohook", "xohook-client")

    def test_app(self) -> None:
        """An app with the client's wheel alone registers with the agent, and freezes and thaws."""
        self.environment.install(wheel("xohook-client"))
        agent = Agent.for_test(self)
        app = subprocess.Popen(
            [self.environment.python, "-I", "-c", APP, agent.control],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(app.communicate)
        self.addCleanup(app.kill)
        assert app.stdout is not None
        self.assertEqual(app.stdout.readline(), "True\n")
        self.assertEqual(agent.get("/sync").status, 200)
        operation, window = app.stdout.readline().split()
        self.assertEqual(operation, "freeze")
        self.assertEqual(agent.get("/post-sync").status, 200)
        self.assertEqual(app.stdout.readline(), f"thaw {window} synced\n")

    def test_agent_removed(self) -> None:
        """In one environment, the client works when the agent has been uninstalled."""
        self.environment.install(wheel("xohook-client"), wheel("xohook"))
        self.environment.pip("uninstall", "-y", "xohook")
        self.assertEqual(self.environment.run(CLIENT_WORKS), "Registration")

    def test_client_removed(self) -> None:
        """In one environment, the agent's modules are there when the client is uninstalled."""
        self.environment.install(wheel("xohook-client"), wheel("xohook"))
        self.environment.pip("uninstall", "-y", "xohook-client")
        self.assertEqual(self.environment.run(AGENT_WORKS), __version__)

    def test_upgrade(self) -> None:
        """An upgrade from the one wheel of before to the two leaves both working."""
        earlier = Path(self.mktemp()).absolute() / "xohook-0.0.1-py3-none-any.whl"
        earlier.parent.mkdir()
        with zipfile.ZipFile(earlier, "w") as archive:
            for name, text in EARLIER.items():
                archive.writestr(name, text)
            record = "".join(f"{name},,\n" for name in EARLIER)
            archive.writestr("xohook-0.0.1.dist-info/RECORD", record)
        self.environment.install(earlier)
        self.assertEqual(self.environment.run("import xohook; print(xohook.__version__)"), "0.0.1")
        self.environment.install(wheel("xohook-client"), wheel("xohook"))
        self.assertEqual(self.environment.run(AGENT_WORKS), __version__)
        self.assertEqual(self.environment.run(CLIENT_WORKS), "Registration")
        self.assertTrue(files(wheel("xohook-client")) <= self.installed())

    def installed(self) -> set[str]:
        """Return the names of the installed files, as a wheel has them."""
        [packages] = self.environment.python.parents[1].glob("lib/python*/site-packages")
        return {str(path.relative_to(packages)) for path in packages.rglob("xohook/**/*")}
