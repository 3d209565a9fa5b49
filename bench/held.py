"""What an agent holds in a measurement, with somebody waiting for each part of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import attrs

from bench.waiting import Waiter
from tests.integration.agent import Agent
from tests.integration.disks import Disk, make_image, run
from tests.integration.footprint import children
from tests.integration.holds import Lock, filesystem, guards


@attrs.frozen
class LetGo:
    """How soon all was let go.

    :param filesystems: seconds until the last filesystem could be written to.
    :param session: seconds until the session's lock was free, or its client had ended.
    """

    filesystems: float
    session: float


class Held:
    """Filesystems and a session's lock.

    :param directory: a directory for all of it.
    :param stack: ends all of it.
    :param kinds: the filesystems, in the order of their freeze.
    :param options: lines of the ``[xohook]`` section.
    :param lock_options: lines of the session's section.
    """

    def __init__(
        self,
        directory: Path,
        stack: ExitStack,
        kinds: Sequence[str],
        options: str = "",
        lock_options: str = "",
    ) -> None:
        directory.mkdir(parents=True)
        self.disks = [
            stack.enter_context(closing(_make_disk(directory / str(number), kind)))
            for number, kind in enumerate(kinds)
        ]
        self.lock = Lock(directory / "lock")
        # Who holds is ended, whatever happens, before who may be stuck on what is held.
        self.writers = [
            stack.enter_context(Waiter("write", disk.mount / "written")) for disk in self.disks
        ]
        self.locker = stack.enter_context(Waiter("lock", self.lock.path))
        sections = [
            filesystem(disk, str(number), f"order = {91 + number}")
            for number, disk in enumerate(self.disks)
        ]
        sections.append(self.lock.section(lock_options))
        self.agent = Agent(directory / "agent", options, "".join(sections))
        self._mount_runtime_directory(stack)
        stack.callback(self.agent.stop)
        self.agent.start()

    def hold(self) -> None:
        """Have the agent hold everything, and somebody wait for each part.

        :raises AssertionError: where it does not.
        """
        answer = self.agent.get("/sync")
        if answer.status != 200:
            raise AssertionError(f"/sync: {answer.status} {answer.body!r}\n{self.agent.log}")
        for waiter in (*self.writers, self.locker):
            waiter.wait()

    def find(self, who: str) -> list[int]:
        """Find processes.

        :param who: ``agent``, ``client`` (of the session), or a guard's program: ``freezer`` or
            ``session``.
        :return: their numbers.
        """
        if who == "agent":
            return [self.agent.pid]
        if who == "client":
            return [client for guard in guards(self.agent, "session") for client in children(guard)]
        return guards(self.agent, who)

    def when_let_go(self, since: float) -> LetGo:
        """Wait until all who wait have got on.

        :param since: the moment that the times count from, of the monotonic clock.
        :return: how soon it was.
        """
        written = max(writer.moment() for writer in self.writers)
        return LetGo(written - since, self.locker.moment() - since)

    def _mount_runtime_directory(self, stack: ExitStack) -> None:
        """Put the record on a filesystem that is small enough to be filled."""
        runtime = self.agent.runtime_directory
        runtime.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", runtime)
        stack.callback(run, "umount", runtime)


def _make_disk(directory: Path, kind: str) -> Disk:
    directory.mkdir()
    return Disk(make_image(directory / "image", kind), directory / "mount")
