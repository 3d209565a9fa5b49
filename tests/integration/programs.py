"""Programs for participants: shell scripts that note what they do, and stay until they are let on.

A test puts nothing down to time: it waits for a note, and lets a program on through a gate.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tests.integration.agent import eventually


class Programs:
    """The programs of one test and the journal that they share.

    :param directory: an absolute path; made where it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self._journal = directory / "journal"
        self._journal.touch()

    def write(self, name: str, *lines: str) -> Path:
        """Write a program.

        Beside all of the shell it knows ``note WORD…``, which adds a line to the journal, and
        ``stay GATE``, which notes ``at GATE`` and does not go on until the test opens it.

        :param name: the file's name.
        :param lines: shell commands.
        :return: the program's path.
        """
        journal, directory = shlex.quote(str(self._journal)), shlex.quote(str(self.directory))
        program = self.directory / name
        program.write_text(
            "\n".join(
                (
                    "#!/bin/sh",
                    f'note() {{ echo "$*" >>{journal}; }}',
                    "stay() {",
                    f'  mkfifo {directory}/"gate-$1" 2>&-',
                    '  note at "$1"',
                    f'  read -r _ <{directory}/"gate-$1"',
                    "  return 0",
                    "}",
                    *lines,
                    "",
                )
            )
        )
        program.chmod(0o755)
        return program

    def command(
        self, name: str, freeze: str | None = "", thaw: str | None = "", **options: object
    ) -> str:
        """Write a ``[command:…]`` section and its programs, which note each phase as it begins.

        :param name: the participant's name.
        :param freeze: what its freeze does after its note, None where there is none.
        :param thaw: what its thaw does after its note, with the outcome in it; None likewise.
        :param options: further options.
        :return: the section.
        """
        lines = [f"[command:{name}]"]
        if freeze is not None:
            lines.append(f"freeze = {self.write(f'{name}-freeze', f'note freeze {name}', freeze)}")
        if thaw is not None:
            note = f'note thaw {name} "$XOHOOK_OUTCOME"'
            lines.append(f"thaw = {self.write(f'{name}-thaw', note, thaw)}")
        lines += [f"{option} = {value}" for option, value in options.items()]
        return "\n".join(lines) + "\n"

    @property
    def journal(self) -> list[str]:
        """All notes so far, in order."""
        return self._journal.read_text().splitlines()

    def clear(self) -> None:
        """Begin a new journal."""
        self._journal.write_text("")

    def wait_for(self, *notes: str) -> None:
        """Wait until each of these has been noted.

        :param notes: the whole lines.
        :raises AssertionError: where they do not come.
        """
        try:
            eventually(lambda: set(notes) <= set(self.journal), f"the journal has {notes}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it has {self.journal}") from None

    def let_on(self, gate: str) -> None:
        """Wait until a program stays at a gate, and let it on.

        :param gate: the gate's name.
        """
        self.wait_for(f"at {gate}")
        path = self.directory / f"gate-{gate}"

        def opened() -> bool:
            try:
                # Fails until somebody reads (fifo(7)).
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                return False
            return True

        eventually(opened, f"somebody stays at {gate}")

    def number(self, name: str) -> int:
        """Read a process's number that a program has written, a line alone.

        :param name: the file's name in the directory.
        :return: the number.
        """
        path = self.directory / name
        eventually(lambda: path.exists() and path.read_text().endswith("\n"), f"{path} is there")
        return int(path.read_text())
