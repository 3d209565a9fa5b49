"""What a running process takes up, read from ``/proc`` (proc(5))."""

from __future__ import annotations

import re
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Footprint:
    """One look at a process.

    :param resident: resident memory (VmRSS), in kB.
    :param proportional: its share of that memory, pages it shares counted in part (Pss), in kB.
    :param files: the number of open files.
    :param threads: the number of threads.
    :param children: the number of child processes, those that ended and wait to be reaped too.
    """

    resident: int
    proportional: int
    files: int
    threads: int
    children: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Look at a process.

        :param pid: its number.
        :return: what it takes up at this moment.
        """
        process = Path("/proc") / str(pid)
        return cls(
            resident=_kilobytes(process / "status", "VmRSS"),
            proportional=_kilobytes(process / "smaps_rollup", "Pss"),
            files=len(list((process / "fd").iterdir())),
            threads=len(list((process / "task").iterdir())),
            children=len(children(pid)),
        )


def children(pid: int) -> list[int]:
    """List a process's children, without the writers that an agent has all the time.

    :param pid: the process's number.
    :return: their numbers; children of children are not among them, nor is the child that looks at
        the participants when an agent starts, which ends by itself.
    """
    return [child for child in _children(pid) if not _is_writer(child)]


def writers(pid: int, task: str = "") -> list[int]:
    """List an agent's writers.

    :param pid: the agent's number.
    :param task: what they do, the first word; all where it is not given.
    :return: their numbers.
    """
    word = f"\0{task}\0".encode() if task else b""
    return [child for child in _children(pid) if _is_writer(child) and word in _words(child)]


def states(pid: int) -> set[str]:
    """Read what the threads of a process are doing.

    :param pid: its number.
    :return: the letters of proc(5), as ``R`` for running and ``T`` for stopped; none once it has
        ended.
    """
    try:
        threads = list((Path("/proc") / str(pid) / "task").iterdir())
        return {(each / "stat").read_text().rpartition(") ")[2][0] for each in threads}
    except OSError:
        return set()


def _children(pid: int) -> list[int]:
    threads = (Path("/proc") / str(pid) / "task").iterdir()
    found = [child for thread in threads for child in (thread / "children").read_text().split()]
    # One that has just been started has its parent's words until it becomes a program.
    return [
        int(child) for child in found if not _looks(child) and _words(int(child)) != _words(pid)
    ]


def _looks(pid: str) -> bool:
    try:
        words = (Path("/proc") / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        # It has ended meanwhile.
        return True
    return b"xohook.coordinator.start_check" in words or b"xohook.service.reading" in words


def _is_writer(pid: int) -> bool:
    return b"\0xohook.processes.guards.writer\0" in _words(pid)


def _words(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        # It has ended meanwhile.
        return b""


def _kilobytes(path: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} has no {field}")
    return int(found.group(1))
