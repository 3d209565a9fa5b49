"""Runs the scenarios; prints figures, and ends with status 1 where one fails."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from tests.vm import __doc__ as described
from tests.vm import image
from tests.vm.agent import WrongError
from tests.vm.lab import SCENARIOS, Lab
from tests.vm.machine import Machine, StuckError


def main() -> int:
    """Run what was asked for.

    :return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=described)
    parser.add_argument(
        "-k", metavar="WORD", default="", help="only scenarios with it in their name"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("_vm"), help="where disks are kept (_vm)"
    )
    parser.add_argument("--kvm", action="store_true", help="do not emulate the processor")
    parser.add_argument("--keep", action="store_true", help="take the disk of the last run")
    asked = parser.parse_args()

    def tell(text: str, seconds: float | None = None) -> None:
        figure = "" if seconds is None else f" {seconds:.1f} s"
        for line in (text + figure).splitlines():
            print("   ", line, flush=True)

    tell("made the disk; the README's commands:")
    disk, said = image.make(asked.cache.resolve(), asked.kvm, not asked.keep)
    tell(said)
    failed = []
    with tempfile.TemporaryDirectory(prefix="xohook-vm-disks-") as folder:

        def start(kept: Path | None) -> Machine:
            return Machine(asked.cache, kept or disk, kvm=asked.kvm, keep=kept is not None)

        def new_disk() -> Path:
            made = Path(folder) / f"{len(list(Path(folder).iterdir()))}.qcow2"
            options = ["-q", "-f", "qcow2", "-F", "raw", "-b", str(disk)]
            subprocess.run(["qemu-img", "create", *options, str(made)], check=True)
            return made

        lab = Lab(start, new_disk, tell)
        for name, run in SCENARIOS.items():
            if asked.k not in f" {name} ":
                continue
            print(name, flush=True)
            began = time.monotonic()
            try:
                run(lab)
            except (StuckError, WrongError) as error:
                failed.append(name)
                tell(f"FAILED: {error}")
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        lab.end()
    print("failed: " + ", ".join(failed) if failed else "All scenarios passed.")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
