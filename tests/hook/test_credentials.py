"""Tests for :mod:`xohook.hook.credentials`."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path
from threading import Barrier, Thread

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.settings_for import settings_in
from xohook.errors import StartError
from xohook.hook import credentials


class LoadTests(SynchronousTestCase):
    """Credentials are read, or made once."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.settings = settings_in(self.directory)
        self.secret = self.settings.state_directory / "secret"
        self.name = self.settings.state_directory / "vm"

    def write(self, name: str, data: bytes, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def test_secret_made(self) -> None:
        """Without a file a secret of 256 bits is made that needs no quoting, and is kept."""
        first = credentials.load(self.settings)
        [secret] = first.secrets
        self.assertRegex(secret, re.compile(r"\A[A-Za-z0-9_-]{43}\Z"))
        self.assertEqual(stat.S_IMODE(self.secret.stat().st_mode), 0o600)
        self.assertEqual(credentials.load(self.settings), first)

    def test_makers_agree(self) -> None:
        """Of several that make the secret at once all end with the same."""
        together = Barrier(8)
        found: list[tuple[str, ...]] = []

        def load() -> None:
            together.wait()
            found.append(credentials.load(self.settings).secrets)

        threads = [Thread(target=load) for _ in range(together.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(found), together.parties)
        self.assertEqual(len(set(found)), 1)

    def test_secret_file(self) -> None:
        """The given secrets count, and none is made."""
        path = self.write("secrets", b"one\ntwo\n")
        loaded = credentials.load(attrs.evolve(self.settings, secret_file=path))
        self.assertEqual(loaded.secrets, ("one", "two"))
        self.assertFalse(self.secret.exists())

    def test_token_file(self) -> None:
        """With tokens alone there is no secret, and none is made."""
        path = self.write("tokens", b"ab\ncd\n")
        loaded = credentials.load(attrs.evolve(self.settings, token_file=path))
        self.assertEqual((loaded.secrets, loaded.tokens), ((), ("ab", "cd")))
        self.assertFalse(self.secret.exists())

    def test_name_kept(self) -> None:
        """The host's name at the first start stays the VM's when the host is renamed."""
        self.patch(socket, "gethostname", lambda: "before")
        self.assertEqual(credentials.load(self.settings).vm, "before")
        self.patch(socket, "gethostname", lambda: "after")
        self.assertEqual(credentials.load(self.settings).vm, "before")

    def test_name_given(self) -> None:
        """A configured name counts, and none is kept."""
        self.assertEqual(credentials.load(attrs.evolve(self.settings, vm="web01")).vm, "web01")
        self.assertFalse(self.name.exists())

    def test_name_lost(self) -> None:
        """A kept name that is empty or no text stops the start, rather than void the token."""
        self.name.touch(mode=0o600)
        for data in (b"", b"\n", b"\xff\n", b"two words\n"):
            self.name.write_bytes(data)
            error = self.assertRaises(StartError, credentials.load, self.settings)
            self.assertIn(f"{self.name}: holds no name", str(error))

    def test_nameless_host(self) -> None:
        """A host without a name needs the option."""
        self.patch(socket, "gethostname", lambda: "(none)")
        error = self.assertRaises(StartError, credentials.load, self.settings)
        self.assertIn("set vm in the configuration", str(error))

    def test_no_directory(self) -> None:
        """Where the secret cannot be made the error names it."""
        self.settings.state_directory.rmdir()
        error = self.assertRaises(StartError, credentials.load, self.settings)
        self.assertIn(f"{self.secret}: cannot be made (No such file", str(error))


class ReadLinesTests(SynchronousTestCase):
    """Secrets are taken as they stand."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def read(self, data: bytes, mode: int = 0o600) -> tuple[str, ...]:
        self.path.write_bytes(data)
        self.path.chmod(mode)
        return credentials.read_lines(self.path)

    def refuse(self, data: bytes, *words: str, mode: int = 0o600) -> None:
        text = str(self.assertRaises(StartError, self.read, data, mode))
        for word in (str(self.path), *words):
            self.assertIn(word, text)

    def test_line_ends(self) -> None:
        """Line ends of either kind go, blank lines are left out, other blanks are the secret's."""
        self.assertEqual(self.read(b" a b \r\n\n  \t\r\n\x0bc\x0c\nd"), (" a b ", "\x0bc\x0c", "d"))

    def test_unicode(self) -> None:
        """A secret may be of any script; a byte order mark is none of it."""
        self.assertEqual(
            self.read("\ufeffgeheim\u00df\u2028x\n".encode()), ("geheim\u00df\u2028x",)
        )

    def test_not_utf8(self) -> None:
        """Another encoding is refused with its line."""
        self.refuse(b"one\ntw\xf6\n", f"{self.path}:2: not UTF-8")

    def test_empty(self) -> None:
        """A file with nothing in it is refused."""
        self.refuse(b"\n \n", "holds nothing")

    def test_open_to_all(self) -> None:
        """A file that others may read or write is refused, with the command that mends it."""
        self.refuse(b"one\n", "mode 0644", f"chmod o= {self.path}", mode=0o644)
        self.refuse(b"one\n", "mode 0602", mode=0o602)

    def test_open_to_group(self) -> None:
        """A file that a group may read is taken."""
        self.assertEqual(self.read(b"one\n", mode=0o640), ("one",))

    def test_missing(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(StartError, credentials.read_lines, self.path)
        self.assertIn(f"{self.path}: cannot be read (No such file", str(error))
