"""Tests for :mod:`xohook.processes.process` with real processes."""

from __future__ import annotations

import os
from pathlib import Path

from tests import needs
from tests.integration.process_case import PATH, ProcessTestCase
from xohook.host.accounts import look_up
from xohook.processes.process import OUTPUT_KEPT


class EndedTests(ProcessTestCase):
    """What is told of a program's end."""

    async def test_good(self) -> None:
        """Exit status 0 is good; what it wrote to either stream is kept, in order."""
        ended = await self.shell("echo one; echo two >&2; echo three")
        self.assertTrue(ended.is_good)
        self.assertEqual((ended.output, ended.dropped), (b"one\ntwo\nthree\n", 0))

    async def test_status(self) -> None:
        """Another exit status is told with the last line that the program wrote."""
        ended = await self.shell("echo first; printf 'disk on fire \\n\\n' >&2; exit 3")
        self.assertFalse(ended.is_good)
        self.assertEqual(ended.describe(), "exit status 3: disk on fire")

    async def test_silent(self) -> None:
        """A program that wrote nothing is told of by its status alone."""
        self.assertEqual((await self.shell("exit 4")).describe(), "exit status 4")

    async def test_signal(self) -> None:
        """A program that a signal ended is told of by the signal's name."""
        ended = await self.shell("echo busy; kill -KILL $$")
        self.assertFalse(ended.is_good)
        self.assertEqual(ended.describe(), "ended by SIGKILL: busy")

    async def test_nameless_signal(self) -> None:
        """A real-time signal, which has no name, is told of by its number."""
        ended = await self.start("bash", "-c", "kill -40 $$").when_ended()
        self.assertEqual(ended.describe(), "ended by signal 40")

    async def test_no_utf8(self) -> None:
        """Output that is no UTF-8 is told of all the same."""
        ended = await self.shell("printf 'caf\\351'; exit 1")
        self.assertEqual(ended.describe(), "exit status 1: caf\ufffd")


class UnrunnableTests(ProcessTestCase):
    """A program that cannot be run is told of in one line, with what and why."""

    async def told(self, *arguments: str, directory: str = "/") -> str:
        ended = await self.start(*arguments, directory=directory).when_ended()
        self.assertFalse(ended.is_good)
        description = ended.describe()
        self.assertEqual(len(description.splitlines()), 1, description)
        return description

    async def test_missing(self) -> None:
        """A file that is not there."""
        path = self.path("missing")
        self.assertEqual(await self.told(str(path)), f"cannot run {path}: no such program")

    async def test_not_found(self) -> None:
        """A name that no directory of PATH has is told as it was given, with that PATH."""
        expected = f"cannot run no-such-thing: no such program in {PATH}"
        self.assertEqual(await self.told("no-such-thing"), expected)

    async def test_not_executable(self) -> None:
        """A file without the executable bit."""
        path = self.path("plain", "#!/bin/sh\n", mode=0o644)
        self.assertEqual(await self.told(str(path)), f"cannot run {path}: Permission denied")

    async def test_directory(self) -> None:
        """A directory is no program."""
        self.assertEqual(await self.told("/usr"), "cannot run /usr: Permission denied")

    async def test_bad_interpreter(self) -> None:
        """A script whose interpreter is missing is not called missing itself."""
        path = self.path("script", "#!/no/such/sh\n")
        expected = f"cannot run {path}: what runs it (see its first line) is missing"
        self.assertEqual(await self.told(str(path)), expected)

    async def test_bad_format(self) -> None:
        """A file that is neither a script nor a program of this machine."""
        path = self.path("text", "echo no shebang\n")
        self.assertEqual(await self.told(str(path)), f"cannot run {path}: Exec format error")

    async def test_no_directory(self) -> None:
        """A working directory that is missing is told as such."""
        expected = "cannot run true: in the directory /no/such/place: No such file or directory"
        self.assertEqual(await self.told("true", directory="/no/such/place"), expected)

    async def test_too_large(self) -> None:
        """An environment beyond what the kernel takes."""
        run = self.start("true", environment={"LARGE": "x" * 200_000})
        expected = "Argument list too long"
        self.assertIn(expected, (await run.when_ended()).describe())


class SurroundingsTests(ProcessTestCase):
    """What a program finds around it."""

    async def test_session(self) -> None:
        """It leads its own session and its own process group."""
        # The fields 1, 5 and 6 of /proc/PID/stat are process, group and session (proc(5)).
        run = self.start("cut", "-d", " ", "-f", "1,5,6", "/proc/self/stat")
        ended = await run.when_ended()
        self.assertEqual(ended.output.split(), [str(run.pid).encode()] * 3)

    async def test_input(self) -> None:
        """Its input is /dev/null."""
        ended = await self.shell("readlink /proc/self/fd/0; cat")
        self.assertEqual(ended.output, b"/dev/null\n")

    async def test_files(self) -> None:
        """It has three files open and no other, though the agent has more."""
        with Path("/dev/null").open() as file:
            os.set_inheritable(file.fileno(), True)
            ended = await self.start("ls", "-l", "/proc/self/fd").when_ended()
        places = [line.split()[8:] for line in ended.output.decode().splitlines()[1:]]
        # The fourth is the directory that ls itself reads.
        self.assertEqual([place[0] for place in places], ["0", "1", "2", "3"])
        self.assertEqual(places[0][2], "/dev/null")
        self.assertEqual(places[1][2], places[2][2])

    async def test_signals(self) -> None:
        """It ignores and blocks no signal, SIGPIPE neither."""
        ended = await self.start("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status").when_ended()
        masks = [int(line.split()[1], 16) for line in ended.output.splitlines()]
        # The C library keeps signals 32 and 33 to itself (nptl(7)).
        self.assertEqual([mask & 0x7FFFFFFF for mask in masks], [0, 0], ended.output)

    async def test_no_shell(self) -> None:
        """Its arguments reach it as they are: no shell looks at them."""
        arguments = ("$HOME", "a;b", "*", "`id`", "", "two words", "new\nline", "\u00e9")
        ended = await self.start("printf", "%s|", *arguments).when_ended()
        self.assertEqual(ended.output.decode(), "|".join((*arguments, "")))

    async def test_environment(self) -> None:
        """Its environment is what it is given and nothing else."""
        ended = await self.start("env", environment={"A": "1 2", "B": "=\u00e9"}).when_ended()
        self.assertEqual(
            sorted(ended.output.decode().splitlines()), ["A=1 2", "B==\u00e9", f"PATH={PATH}"]
        )

    async def test_large_environment(self) -> None:
        """An environment of many times what a pipe holds reaches it whole."""
        large = {f"V{number}": str(number % 10) * 100_000 for number in range(12)}
        ended = await self.start(
            "sh", "-c", "env | grep -c '^V'; env | wc -c", environment=large
        ).when_ended()
        count, size = ended.output.split()
        self.assertEqual(int(count), 12)
        self.assertGreater(int(size), 1_200_000)

    async def test_directory(self) -> None:
        """It begins in its directory."""
        self.assertEqual((await self.start("pwd", directory="/usr").when_ended()).output, b"/usr\n")

    async def test_account(self) -> None:
        """It runs as its user, with that user's groups and none of the agent's."""
        needs.root()
        account = look_up("nobody")
        ended = await self.start("sh", "-c", "id -u; id -g; id -G", account=account).when_ended()
        uid, gid, groups = ended.output.decode().splitlines()
        self.assertEqual((int(uid), int(gid)), (account.uid, account.gid))
        self.assertEqual({int(group) for group in groups.split()}, set(account.groups))


class OutputTests(ProcessTestCase):
    """A program's output costs the agent no more than what it keeps."""

    async def test_flood(self) -> None:
        """The last 64 KiB are kept and what came before them is counted."""
        ended = await self.shell("yes | head -c 3000000; echo end")
        self.assertEqual(len(ended.output), OUTPUT_KEPT)
        self.assertTrue(ended.output.endswith(b"y\nend\n"))
        self.assertEqual(ended.dropped, 3_000_004 - OUTPUT_KEPT)

    async def test_last_words(self) -> None:
        """What a program writes right before its end is not lost."""
        for _ in range(20):
            ended = await self.shell("head -c 60000 /dev/zero; echo end")
            self.assertEqual(len(ended.output), 60_004)
