"""Tests for the command ``xohook`` and its subcommand ``setup``."""

from __future__ import annotations

import json
import stat

from click.testing import CliRunner

from tests.integration.command import CommandTestCase
from xohook.cli import main
from xohook.hook.auth import derive_token
from xohook.host import network


class MainTests(CommandTestCase):
    """The command says what it is, and what it is not."""

    def test_version(self) -> None:
        """The version is xohook's own."""
        result = CliRunner().invoke(main, ["--version"])
        self.assertTrue(result.output.startswith("xohook, version 0."), result.output)

    def test_help(self) -> None:
        """The overview names every subcommand."""
        result = CliRunner().invoke(main, ["--help"])
        self.assertIn("check", result.output)
        self.assertIn("setup", result.output)

    def test_wrong_usage(self) -> None:
        """Unknown subcommands and options exit 2."""
        for arguments in (["nonsense"], ["check", "--nonsense"]):
            self.assertEqual(CliRunner().invoke(main, arguments).exit_code, 2)

    def test_no_configuration(self) -> None:
        """A configuration that is not there is told in words, with exit 1."""
        for subcommand in ("check", "setup"):
            result = self.run_command(subcommand, good=False)
            self.assertIn(str(self.file), result.output)
            self.assertNotIn("Traceback", result.output)


class SetupTests(CommandTestCase):
    """``xohook setup`` prints what to paste into Xen Orchestra."""

    TAG = "xo:notify-on-snapshot"

    def setup(self) -> str:
        return self.run_command("setup").output

    def document(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.run_command("setup", "--json").output)
        return document

    def secrets(self, text: str) -> str:
        return f"secret_file = {self.keep('secrets', text)}"

    def test_secret_made(self) -> None:
        """The secret is made as by the agent, kept, and shown with the token derived from it."""
        self.configure("vm = web01")
        text = self.setup()
        secret = (self.state / "secret").read_text().strip()
        self.assertEqual(stat.S_IMODE(self.state.stat().st_mode), 0o700)
        self.assertIn(f"\n[xapiOptions]\nsyncHookSecret = '{secret}'\n", text)
        self.assertIn(f":{self.port}/?vm=web01&token={derive_token(secret, 'web01')}\n", text)
        self.assertNotIn("syncHookTimeout", text)
        self.assertEqual(self.setup(), text)

    def test_addresses(self) -> None:
        """There is a tag for each address of this machine, the most useful first."""
        self.configure("vm = web01")
        addresses = [
            f"[{address}]" if address.version == 6 else str(address)
            for address in network.addresses()
        ]
        document = self.document()
        tags = [document["tag"], *document["other_tags"]]  # type: ignore[misc]  # it is a list
        places = [str(tag).removeprefix(f"{self.TAG}=https://").split("/")[0] for tag in tags]
        self.assertEqual(places, [f"{each}:{self.port}" for each in addresses or ["ADDRESS"]])

    def test_one_address(self) -> None:
        """Where the agent listens on one address, the tag names that one."""
        for written, in_url in (("192.0.2.77", "192.0.2.77"), (r"2001\:db8\:\:7", "[2001:db8::7]")):
            self.configure("vm = web01", listen=f"tcp:{self.port}:interface={written}")
            document = self.document()
            self.assertIn(f"https://{in_url}:{self.port}/?", str(document["tag"]))
            self.assertEqual(document["other_tags"], [])

    def test_unknown_place(self) -> None:
        """Where the port is not known beforehand, the text says what to put in."""
        self.configure("vm = web01", listen="0")
        self.assertIn(":PORT/?vm=web01&token=", self.setup())
        self.configure("vm = web01", listen=f"unix:{self.directory}/socket")
        text = self.setup()
        self.assertIn("https://ADDRESS:PORT/?vm=web01&token=", text)
        self.assertIn("in the place of ADDRESS and PORT", text)

    def test_encoding(self) -> None:
        """Name and secret survive the URL and the TOML that they are written in."""
        secret = "it's \\ ß"
        self.configure("vm = wéb&1", self.secrets(f"{secret}\nan older secret\n"))
        text = self.setup()
        token = derive_token(secret, "wéb&1")
        self.assertIn(f"/?vm=w%C3%A9b%261&token={token}\n", text)
        self.assertIn('\nsyncHookSecret = "it\'s \\\\ ß"\n', text)
        self.assertNotIn("an older secret", text)

    def test_timeout(self) -> None:
        """XO's timeout is named where the budget comes too near to it."""
        self.configure("vm = web01", "freeze_budget = 90.5s")
        self.assertIn("\nsyncHookTimeout = 101000\n", self.setup())

    def test_tokens_alone(self) -> None:
        """With tokens and no secret, the first token is in the tag, and no secret is made."""
        self.configure("vm = web01", f"token_file = {self.keep('tokens', 'abc' + chr(10))}")
        document = self.document()
        self.assertTrue(str(document["tag"]).endswith("/?vm=web01&token=abc"))
        self.assertEqual((document["xapi_options"], document["toml"]), ({}, ""))
        self.assertFalse((self.state / "secret").exists())

    def test_peer(self) -> None:
        """Where the source address suffices, the bare tag does too, and no secret is made."""
        allowed = ("authenticate = peer", "allow_from = 192.0.2.10")
        self.configure(*allowed, listen="1727")
        text = self.setup()
        self.assertIn(f"\n{self.TAG}\n", text)
        self.assertNotIn("token=", text)
        self.assertFalse(self.state.exists())
        self.configure(*allowed)
        self.assertTrue(str(self.document()["tag"]).endswith(f":{self.port}/"))

    def test_bearer_alone(self) -> None:
        """Where the header alone counts, the text says that today's XO does not send it."""
        self.configure("authenticate = bearer")
        text = self.setup()
        self.assertIn("syncHookSecret = ", text)
        self.assertNotIn("token=", text)
        self.assertIn("it hears 403", text)

    def test_token_alone(self) -> None:
        """Where the token alone counts, no secret is shown."""
        self.configure("authenticate = token")
        self.assertNotIn("[xapiOptions]", self.setup())

    def test_unreadable_secret(self) -> None:
        """A secret that cannot be used is told in words."""
        self.configure(self.secrets(""))
        self.assertIn("secrets: holds nothing", self.run_command("setup", good=False).output)

    def test_width(self) -> None:
        """All but the tags and the secret fits on 80 columns."""
        self.configure("vm = web01", "freeze_budget = 2m")
        long = [line for line in self.setup().splitlines() if len(line) > 80]
        self.assertEqual([line for line in long if not line.startswith(self.TAG)], [])
