"""A virtual machine, and the shell in it that goes on while its root filesystem is frozen."""

from __future__ import annotations

import base64
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

#: In seconds. An emulated machine boots in half a minute, and in minutes beside other work.
BOOT = 900.0
PATIENCE = 600.0


class StuckError(Exception):
    """The machine did not do in time what it was waited for."""


class Machine:
    """A machine that runs as long as the context does.

    :param cache: holds ``vmlinuz`` and ``initrd``.
    :param disk: its first disk.
    :param kvm: whether the processor need not be emulated.
    :param keep: whether what is written to the disk is kept.
    :param more: further disks, of which nothing is kept.
    """

    def __init__(
        self,
        cache: Path,
        disk: Path,
        *,
        kvm: bool = False,
        keep: bool = False,
        more: Sequence[Path] = (),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="xohook-vm-")
        folder = Path(self._folder.name)
        self.console = folder / "console"
        accel = ["kvm", "-cpu", "host"] if kvm else ["tcg,thread=multi", "-cpu", "max"]
        form = "qcow2" if disk.suffix == ".qcow2" else "raw"
        drives = [f"file={disk},if=virtio,format={form},snapshot={'off' if keep else 'on'}"]
        drives += [f"file={name},if=virtio,format=raw,snapshot=on" for name in more]
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", *accel, "-smp", "2", "-m", "1024", "-nographic"]
            + ["-nodefaults", "-no-reboot", "-monitor", "none"]
            + ["-kernel", str(cache / "vmlinuz"), "-initrd", str(cache / "initrd")]
            + ["-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 panic=-1"]
            + [word for drive in drives for word in ("-drive", drive)]
            + ["-serial", f"file:{self.console}"]
            + ["-serial", f"unix:{folder}/control,server=on,wait=off"],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + PATIENCE
        while not (folder / "control").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise StuckError("qemu does not start")
            time.sleep(0.05)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(folder / "control"))
        self._received = b""
        self._count = 0
        self.status = 0
        #: When the last command ended, by the guest's clock, in seconds.
        self.now = 0.0

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reset()

    def reset(self) -> None:
        """End the machine as if its power failed, if it runs still."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self._socket.close()
        self._folder.cleanup()

    def boot(self) -> float:
        """Wait for the control shell.

        :return: how long that took, in seconds.
        :raises StuckError: it does not come.
        """
        began = time.monotonic()
        while time.monotonic() - began < BOOT:
            if self.process.poll() is not None:
                break
            try:
                self.run("true", 5)
            except StuckError:
                continue
            return time.monotonic() - began
        raise StuckError("no boot: " + self.console.read_text(errors="replace")[-2000:])

    def run(self, command: str, limit: float = PATIENCE) -> str:
        """Run a command in the control shell.

        :param command: shell's, of one line or more.
        :param limit: for how long, in seconds.
        :return: what it printed; its exit status is in ``status``.
        :raises StuckError: it did not end in time.
        """
        self._count += 1
        mark = f"@@{self._count}@"
        text = f"{command}\n_r=$?; read _u _ </proc/uptime; echo; echo {mark}$_r@$_u@\n"
        self._socket.sendall(base64.b64encode(text.encode()) + b"\n")
        ended = re.compile(re.escape(mark.encode()) + rb"(\d+)@([\d.]+)@\r?\n")
        deadline = time.monotonic() + limit
        while not (found := ended.search(self._received)):
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                got = self._socket.recv(65536)
            except TimeoutError:
                said = self._received[-500:].decode(errors="replace")
                raise StuckError(f"not done within {limit:g} s: {command}\n{said}") from None
            if not got:
                raise StuckError(f"the machine has ended: {command}")
            self._received += got
        output = self._received[: found.start()].decode(errors="replace")
        self._received = self._received[found.end() :]
        self.status, self.now = int(found[1]), float(found[2])
        return output.replace("\r", "").strip()

    def succeed(self, command: str, limit: float = PATIENCE) -> str:
        """Run a command that must succeed.

        :param command: shell's.
        :param limit: for how long, in seconds.
        :return: what it printed.
        :raises StuckError: it failed, or did not end in time.
        """
        output = self.run(command, limit)
        if self.status:
            raise StuckError(f"status {self.status}: {command}\n{output}")
        return output

    def begin(self, command: str, tag: str) -> None:
        """Run a command in the background.

        :param command: shell's. What it prints goes to ``/run/TAG.out``.
        :param tag: a word of its own. ``/run/TAG.rc`` gets its exit status and when it ended.
        """
        self.run(
            f"rm -f /run/{tag}.rc\n"
            f"(( {command} ) >/run/{tag}.out 2>&1; _r=$?; read _u _ </proc/uptime; "
            f"echo $_r $_u >/run/{tag}.new; mv /run/{tag}.new /run/{tag}.rc) &"
        )

    def end_of(self, tag: str, limit: float = PATIENCE) -> tuple[int, float]:
        """Wait for the end of a command in the background.

        :param tag: its word.
        :param limit: for how long, in seconds of the guest.
        :return: its exit status, and when it ended by the guest's clock.
        :raises StuckError: it did not end in time.
        """
        self.wait(f"test -e /run/{tag}.rc", limit)
        status, ended = self.run(f"cat /run/{tag}.rc").split()
        return int(status), float(ended)

    def wait(self, test: str, limit: float = PATIENCE) -> float:
        """Wait until a command succeeds.

        :param test: shell's.
        :param limit: for how long, in seconds of the guest.
        :return: how long that took, in seconds of the guest.
        :raises StuckError: it did not come.
        """
        began = self.now
        while True:
            self.run(test)
            if not self.status:
                return self.now - began
            if self.now - began > limit:
                raise StuckError(f"not so within {limit:g} s: {test}")
            time.sleep(0.1)

    def power_off(self, limit: float = 300.0) -> float:
        """Have systemd shut the machine down.

        :param limit: for how long, in seconds.
        :return: how long that took, in seconds.
        :raises StuckError: it does not end.
        """
        began = time.monotonic()
        self.begin("systemctl poweroff", "poweroff")
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            said = self.console.read_text(errors="replace")[-3000:]
            raise StuckError(f"still on after {limit:g} s: {said}") from None
        return time.monotonic() - began
