"""What becomes of a window whose agent was killed and whose record is lost."""

from __future__ import annotations

import json
import shutil

from tests.integration.agent import Agent
from tests.integration.test_recovery import KilledTestCase


class LostTests(KilledTestCase):
    """The stamp of this boot names what was frozen; nothing else does."""

    def killed_in_hold(self) -> Agent:
        scripts = self.programs.directory / "scripts"
        scripts.mkdir()
        shutil.copy(self.programs.write("script", 'note script "$1"'), scripts / "script")
        agent = self.agent_with(
            self.programs.command("a", order=10),
            self.programs.command("b", order=20),
            f"[scripts:some]\ndirectory = {scripts}\norder = 30\n",
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.programs.clear()
        return agent

    def assert_recovered(self, agent: Agent) -> None:
        self.assertEqual(
            self.programs.journal, ["script thaw", "thaw b recovered", "thaw a recovered"]
        )
        self.assertEqual(agent.outcomes, ["recovered"])
        self.assertFalse((agent.state_directory / "stamp.json").exists())
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assertEqual(agent.get("/sync").status, 200)
        self.assertEqual(agent.get("/post-sync").status, 200)

    def test_removed(self) -> None:
        """The start that finds no record thaws by the stamp, and the log says so."""
        agent = self.killed_in_hold()
        self.record(agent).unlink()
        agent.start()
        said = r"the record of window \S+ is lost .* names command:a, command:b, scripts:some;"
        self.assertRegex(agent.log, said)
        self.assert_recovered(agent)

    def test_moved(self) -> None:
        """With another ``runtime_directory`` the thaws run too."""
        agent = self.killed_in_hold()
        before = agent.runtime_directory
        agent.runtime_directory = before.with_name("run2")
        text = agent.configuration.read_text()
        agent.configuration.write_text(text.replace(str(before), str(agent.runtime_directory)))
        agent.start()
        self.assert_recovered(agent)

    def test_moved_to_another_boot(self) -> None:
        """A record of another boot says nothing of this window; its own thaws run as well."""
        agent = self.killed_in_hold()
        record = json.loads(self.record(agent).read_text())
        record.update(boot_id="another", window="w0")
        [entry] = [each for each in record["entries"] if each["name"] == "command:a"]
        record["entries"] = [{**entry, "name": "command:c"}]
        self.record(agent).write_text(json.dumps(record))
        agent.start()
        # What is called c is the program of a.
        self.assertEqual(self.programs.journal.count("thaw a recovered"), 2)
        self.assertIn("thaw b recovered", self.programs.journal)

    def test_killed_again(self) -> None:
        """A start that is killed in these thaws is followed by one that goes on with them."""
        agent = self.agent_with(
            self.programs.command("a", order=10, thaw='[ -e "$0.x" ] || { : >"$0.x"; stay a; }'),
            self.programs.command("b", order=20),
        )
        self.assertEqual(agent.get("/sync").status, 200)
        self.kill(agent)
        self.programs.clear()
        self.record(agent).unlink()
        agent.spawn()
        self.programs.wait_for("at a")
        self.kill(agent)
        agent.start()
        a = "thaw a recovered"
        self.assertEqual(self.programs.journal, ["thaw b recovered", a, "at a", a])
        self.assertEqual(agent.get("/post-sync").status, 500)
