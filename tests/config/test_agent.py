"""The options of the section ``[xohook]``."""

from __future__ import annotations

import grp
from ipaddress import ip_network
from pathlib import Path

from tests.config.loading_case import ENVIRON, FilesTestCase
from xohook.config.loading import load
from xohook.errors import ConfigurationError


class AgentOptionTests(FilesTestCase):
    """The options of ``[xohook]``."""

    def test_listen(self) -> None:
        """Ports and endpoints stand one a line."""
        found = self.agent("listen = 0\n 1727\n tcp:80:interface=::1\n systemd:domain=INET:index=0")
        self.assertEqual(
            found.listen, ("0", "1727", "tcp:80:interface=::1", "systemd:domain=INET:index=0")
        )

    def test_listen_refused(self) -> None:
        """What is neither a port nor an endpoint, or stands twice, is refused."""
        self.assert_refused(
            "xohook",
            "listen",
            {
                "65536": "65536 is not a port (a port from 0 to 65535",
                "9" * 5000: "is not a port",
                "-1": "'-1' is neither",
                "1727, 1728": "'1727, 1728' is neither",
                "192.0.2.1:1727": "'192.0.2.1:1727' is neither a port nor an endpoint",
                "2001:db8::1": "neither a port nor an endpoint",
                "tcp:": "'tcp:' is neither",
                "80\n 080": "80: named more than once",
                "tcp:99999": "'tcp:99999' names no port (a port from 0 to 65535",
                "tcp6:interface=::1:port=65536": "names no port",
                f"tcp:{'9' * 5000}": "names no port",
            },
        )

    def test_files(self) -> None:
        """Relative names of files are taken from the main file's directory."""
        found = self.agent("certificate = tls/a\nprivate_key = /b\nsecret_file = c\ntoken_file = d")
        self.assertEqual(found.certificate, self.directory / "tls/a")
        self.assertEqual(found.private_key, Path("/b"))
        self.assertEqual(found.secret_file, self.directory / "c")
        self.assertEqual(found.token_file, self.directory / "d")

    def test_files_of_drop_ins(self) -> None:
        """A drop-in's relative names too are taken from the main file's directory."""
        found = self.settings("", a="[xohook]\nsecret_file = c")
        self.assertEqual(found.secret_file, self.directory / "c")

    def test_certificate_without_key(self) -> None:
        """A certificate and its key are given together, or neither is."""
        self.assertEqual(
            self.mistakes("[xohook]\ncertificate = a"),
            ["x.ini:2 [xohook] certificate: given without private_key (both, or neither)"],
        )
        self.assertEqual(
            self.mistakes("[xohook]\ncertificate =\nprivate_key = a"),
            ["x.ini:3 [xohook] private_key: given without certificate (both, or neither)"],
        )

    def test_authenticate(self) -> None:
        """What suffices is separated by commas or blanks."""
        self.assertEqual(self.agent("authenticate = bearer").authenticate, {"bearer"})
        self.assertEqual(
            self.agent("authenticate = token,peer\n bearer\nallow_from = ::1").authenticate,
            {"bearer", "token", "peer"},
        )

    def test_authenticate_refused(self) -> None:
        """What is unknown or doubled is refused, and so is a list of nothing."""
        self.assert_refused(
            "xohook",
            "authenticate",
            {
                "barer": "'barer' is not known (did you mean bearer? of bearer, token, peer",
                ",": "names nothing that suffices",
                "token token": "token: named more than once",
            },
        )

    def test_peer_alone(self) -> None:
        """``peer`` without ``allow_from`` would let everybody in."""
        self.assert_refused("xohook", "authenticate", {"token, peer": "peer would let everybody"})

    def test_peer_with_mistaken_sources(self) -> None:
        """Sources that are given but mistaken are told alone."""
        found = self.mistakes("[xohook]\nauthenticate = peer\nallow_from = here")
        self.assertEqual(len(found), 1)
        self.assertIn("x.ini:3 [xohook] allow_from: 'here' is neither", found[0])

    def test_bearer_without_secret(self) -> None:
        """With a file of tokens no secret is made, so that ``bearer`` alone lets nobody in."""
        files = "token_file = t"
        found = self.mistakes(f"[xohook]\n{files}\nauthenticate = bearer")
        self.assertEqual(len(found), 1)
        self.assertIn("x.ini:3 [xohook] authenticate: nobody could get in", found[0])
        for line in ["authenticate = bearer, token", "authenticate = bearer\nsecret_file = s", ""]:
            self.assertIn("bearer", self.agent(f"{files}\n{line}").authenticate)

    def test_allow_from(self) -> None:
        """Addresses and networks are separated by commas or blanks; mapped ones become IPv4."""
        found = self.agent(
            "allow_from = 192.0.2.1, 2001:db8::/64\n 192.0.2.128/255.255.255.128\n"
            " ::ffff:198.51.100.7 ::ffff:203.0.113.0/120"
        )
        self.assertEqual(
            found.allow_from,
            tuple(
                ip_network(text)
                for text in [
                    "192.0.2.1/32",
                    "2001:db8::/64",
                    "192.0.2.128/25",
                    "198.51.100.7/32",
                    "203.0.113.0/24",
                ]
            ),
        )

    def test_allow_from_refused(self) -> None:
        """Names, zones, bits outside the mask and a list of nothing are refused."""
        self.assert_refused(
            "xohook",
            "allow_from",
            {
                "192.0.2.10/24": "has bits set outside its mask "
                "(192.0.2.0/24 for the network, 192.0.2.10 for the address alone)",
                "2001:db8::1/64": "2001:db8::/64 for the network, 2001:db8::1 for the address",
                "xo.example": "'xo.example' is neither an address nor a network",
                "192.0.2.0/33": "neither an address nor a network",
                "fe80::1%eth0": "has a zone (without it: fe80::1)",
                ",": "names no address",
            },
        )

    def test_vm(self) -> None:
        """A VM's name is printable, without blanks, and not longer than 255 characters."""
        self.assertEqual(self.agent("vm = wéb-01").vm, "wéb-01")
        self.assertEqual(self.agent(f"vm = {'x' * 255}").vm, "x" * 255)
        self.assert_refused(
            "xohook",
            "vm",
            {
                "web 01": "'web 01' cannot be a VM's name",
                "web\n 01": "at most 255 printable characters, no blanks",
                "web\u00a001": "cannot be",
                "x" * 256: "cannot be",
            },
        )

    def test_durations(self) -> None:
        """Durations are read to seconds, from 100ms to the option's own limit."""
        found = self.agent("freeze_budget = 100ms\nhold_limit = 60m")
        self.assertEqual((found.freeze_budget, found.hold_limit), (0.1, 3600.0))
        self.assertEqual(self.agent("freeze_budget = 10m").freeze_budget, 600.0)
        self.assert_refused(
            "xohook",
            "freeze_budget",
            {
                "50": "'50' is not a duration (from 100ms to 10m: a number and its unit",
                "-5s": "'-5s' is not a duration",
                "0s": "0s is out of range (from 100ms to 10m",
                "99ms": "99ms is out of range",
                "10.1m": "10.1m is out of range",
                "9" * 400 + "s": "is out of range",
            },
        )
        self.assert_refused("xohook", "hold_limit", {"61m": "from 100ms to 60m"})

    def test_directories(self) -> None:
        """The agent's directories are absolute, and win over the environment's."""
        found = self.agent("state_directory = /a\nruntime_directory = /b")
        self.assertEqual((found.state_directory, found.runtime_directory), (Path("/a"), Path("/b")))
        for option in ("state_directory", "runtime_directory"):
            self.assert_refused("xohook", option, {"a": "'a' is not absolute"})


class ControlOptionTests(FilesTestCase):
    """The options ``control`` and ``control_group`` of ``[xohook]``."""

    def test_control(self) -> None:
        """The socket is in the runtime directory, at a path, or nowhere."""
        for value, expected in (
            ("yes", Path("/runtime/control.sock")),
            ("/a/b", Path("/a/b")),
            ("no", None),
        ):
            self.assertEqual(self.agent(f"control = {value}").control, expected)
        found = self.agent("control = yes\nruntime_directory = /b").control
        self.assertEqual(found, Path("/b/control.sock"))

    def test_control_refused(self) -> None:
        """What is neither a decision nor an absolute path is refused."""
        allowed = "is not known (yes, no, or a path that begins with /)"
        self.assert_refused(
            "xohook", "control", {"maybe": f"'maybe' {allowed}", "a/b": f"'a/b' {allowed}"}
        )

    def test_longest_path(self) -> None:
        """A socket's path has at most 107 bytes, whatever characters they are."""
        for path in (f"/{'x' * 106}", f"/{'é' * 53}"):
            self.assertEqual(self.agent(f"control = {path}").control, Path(path))
            self.assert_refused(
                "xohook", "control", {f"{path}x": f"{path}x has 108 bytes, too many for a socket"}
            )

    def test_long_runtime_directory(self) -> None:
        """A socket that is too deep in the runtime directory is told at the nearest line."""
        deep = f"/{'x' * 94}"
        problem = f"{deep}/control.sock has 108 bytes, too many for a socket"
        expected = f"{problem} (at most 107: name a shorter path here)"
        for text, line in (
            (f"[xohook]\nruntime_directory = {deep}\ncontrol = yes", 3),
            (f"[command:x]\nfreeze = a\n[xohook]\nruntime_directory = {deep}", 3),
        ):
            self.assertEqual(self.mistakes(text), [f"x.ini:{line} [xohook] control: {expected}"])
        self.write("")
        with self.assertRaises(ConfigurationError) as caught:
            load(self.path, environ={**ENVIRON, "RUNTIME_DIRECTORY": deep})
        self.assertEqual(str(caught.exception), f"{self.path}:1 [xohook] control: {expected}")

    def test_long_runtime_directory_without_control(self) -> None:
        """A deep runtime directory is right where the socket is not in it."""
        deep = Path(f"/{'x' * 94}")
        for control in ("no", "/a"):
            found = self.agent(f"runtime_directory = {deep}\ncontrol = {control}")
            self.assertEqual(found.runtime_directory, deep)

    def test_group(self) -> None:
        """A group is looked up when the configuration is read."""
        group = next(entry for entry in grp.getgrall() if entry.gr_gid != 0)
        found = self.agent(f"control_group = {group.gr_name}").control_group
        self.assertEqual(found, group.gr_gid)

    def test_group_refused(self) -> None:
        """A group that is not there is refused by its name."""
        self.assert_refused(
            "xohook",
            "control_group",
            {
                "no-such-group": "there is no group 'no-such-group' (a name that 'getent group'",
                "0": "there is no group '0'",
            },
        )

    def test_group_unwritable(self) -> None:
        """A group that the system's encoding cannot write is not there either."""

        def write(name: str) -> None:
            name.encode("ascii")

        self.patch(grp, "getgrnam", write)
        self.assert_refused("xohook", "control_group", {"ü": "there is no group 'ü'"})

    def test_group_of_nothing(self) -> None:
        """A group is contradictory where there is no socket that it could connect to."""
        group = grp.getgrgid(0).gr_name
        (found,) = self.mistakes(f"[xohook]\ncontrol = no\ncontrol_group = {group}")
        self.assertEqual(
            found,
            "x.ini:3 [xohook] control_group: given with control = no (with control = yes or a "
            "path, or without)",
        )
