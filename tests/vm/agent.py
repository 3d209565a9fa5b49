"""What the scenarios do to the agent in a machine, and what they see of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.vm.machine import Machine, StuckError

CURL = "curl -sk -m 300 -w ' %{http_code}' https://127.0.0.1:1727"
ACTIVE = "systemctl -q is-active xohook"
RECORD = "/run/xohook/record.json"

#: Told what happened, and a figure where there is one, in seconds.
Tell = Callable[..., None]


class WrongError(Exception):
    """The machine is not as it has to be."""


def expect(good: object, wrong: str) -> None:
    """Go on only if something is so.

    :param good: true if it is.
    :param wrong: what is wrong otherwise.
    :raises WrongError: it is not.
    """
    if not good:
        raise WrongError(wrong)


class Agent:
    """The agent in a machine.

    :param vm: the machine.
    :param tell: told of each step.
    """

    def __init__(self, vm: Machine, tell: Tell) -> None:
        self.vm, self.tell = vm, tell
        self._probes = 0
        self._since = 0.0

    def ready(self) -> None:
        """Wait until the machine has booted and the agent serves."""
        self.tell("boot", self.vm.boot())
        self.vm.run("systemctl is-system-running --wait", 300)
        self.active()

    def active(self, limit: float = 120.0) -> float:
        """Wait until the unit is active.

        :param limit: for how long, in seconds.
        :return: how long that took, in seconds.
        """
        return self.vm.wait(ACTIVE, limit)

    def pid(self) -> int:
        """Return the main process's id, 0 where there is none."""
        return int(self.vm.run("systemctl show -P MainPID xohook"))

    def sync(self) -> str:
        """Send ``/sync`` as Xen Orchestra does.

        :return: the answer's text and status.
        """
        return " ".join(self.vm.run(f"{CURL}/sync").split())

    def post_sync(self) -> str:
        """Send ``/post-sync``.

        :return: the answer's text and status.
        """
        return " ".join(self.vm.run(f"{CURL}/post-sync").split())

    def frozen(self) -> bool:
        """Return whether a write to ``/`` waits; it goes on waiting, see :meth:`thawed`."""
        self._probes += 1
        self.vm.begin("touch /var/tmp/probe", f"probe{self._probes}")
        try:
            self.vm.wait(f"test -e /run/probe{self._probes}.rc", 1.5)
        except StuckError:
            return True
        return False

    def mark(self) -> None:
        """Measure the next thaw from now on."""
        self.vm.run("true")
        self._since = self.vm.now

    def thawed(self, what: str, limit: float = 120.0) -> None:
        """Wait until the write of :meth:`frozen` has come back.

        :param what: since what, for the figure: the kill or command that began last.
        :param limit: for how long, in seconds of the guest.
        :raises WrongError: it does not come back.
        """
        try:
            ended = self.vm.end_of(f"probe{self._probes}", limit)[1]
        except StuckError:
            raise WrongError(f"{what}: still frozen after {limit:g} s; {self.stuck()}") from None
        self.tell(f"{what}: / thawed after", ended - self._since)

    def stuck(self) -> str:
        """Return the processes that wait for a disk, with where, and the unit's state."""
        waiting = self.vm.run(
            "for p in /proc/[0-9]*; do [ \"$(sed 's/.*) //' $p/stat 2>/dev/null | cut -c1)\" = D ]"
            " && echo $(cat $p/comm) $(cat $p/wchan); done"
        )
        state = self.vm.run("systemctl show -p ActiveState -p SubState -p NRestarts xohook")
        return " ".join(f"waiting: {waiting}; {state}".split())

    def hold(self) -> None:
        """Open a window; ``/`` is frozen after it."""
        answer = self.sync()
        expect(answer.endswith("200"), f"/sync: {answer}")
        expect(self.frozen(), "/ is not frozen in the hold")

    def kill(self, who: str = "all") -> None:
        """Kill processes of the unit.

        :param who: ``all``, or ``main`` for the agent alone.
        """
        self.mark()
        self.vm.run(f"systemctl kill --kill-who={who} -s KILL xohook")

    def good_window(self, late: bool = False) -> None:
        """Expect that the agent serves, and that a window ends synced.

        :param late: whether an earlier window's ``/post-sync`` is still to come.
        """
        self.tell("unit active after", self.active())
        if late:
            answer = self.post_sync()
            expect(answer.endswith("500"), f"the late /post-sync: {answer}")
        self.hold()
        self.mark()
        answer = self.post_sync()
        self.thawed("next window's /post-sync")
        expect(answer.endswith("200"), f"the next window's /post-sync: {answer}")
        expect(not self.vm.run(f"cat {RECORD}"), "a record is left")

    def timed(self, what: str, command: str, limit: float = 300.0) -> None:
        """Run a command that must come back.

        :param what: its name.
        :param command: shell's.
        :param limit: for how long, in seconds.
        :raises WrongError: it fails, or hangs.
        """
        self.mark()
        self.vm.begin(command, "timed")
        try:
            status, ended = self.vm.end_of("timed", limit)
        except StuckError:
            raise WrongError(f"{what} hangs; {self.stuck()}") from None
        expect(not status, f"{what}: status {status}: " + self.vm.run("cat /run/timed.out"))
        self.tell(f"{what} returned after", ended - self._since)

    def log(self, count: int = 40) -> str:
        """Return the last lines of the unit's journal.

        :param count: how many.
        """
        shown = f"journalctl --no-pager -o short-precise -n {count} -u xohook"
        return self.vm.run(f"{shown} | cut -c1-250")
