"""Makes the disk of the machines: Debian 12, and the agent installed as the README says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.vm.machine import Machine

TREE = Path(__file__).resolve().parents[2]
MIRROR = "http://deb.debian.org/debian"
PACKAGES = (
    "systemd systemd-sysv libpam-systemd udev dbus kmod iproute2 busybox-static e2fsprogs procps "
    "cron login passwd sudo python3 python3-venv mariadb-server mariadb-client curl openssl "
    "ca-certificates linux-image-amd64 initramfs-tools"
)

#: Where the image has what the README calls the sources.
SOURCES = "root/xohook"

#: What the image's Python 3.11 and glibc 2.36 can use.
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")

#: The control shell: all it needs lies on a tmpfs, so that it runs while ``/`` is frozen.
CONTROL = """\
[Unit]
Description=Control shell of the tests
DefaultDependencies=no
After=local-fs.target systemd-journald.socket
Before=basic.target
[Service]
ExecStartPre=/bin/sh -c 'mkdir -p /run/bb && mount -t tmpfs none /run/bb \
&& cp /bin/busybox /usr/local/bin/loop /run/bb/ && /run/bb/busybox --install -s /run/bb'
ExecStart=/run/bb/busybox sh -c 'cd /run; exec 2>&1; \
export PATH=/run/bb:/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin; stty -F /dev/ttyS1 raw -echo; \
exec /run/bb/busybox sh /run/bb/loop </dev/ttyS1 >/dev/ttyS1'
Restart=always
KillMode=process
StandardOutput=null
[Install]
WantedBy=sysinit.target
"""
LOOP = 'while read -r line; do eval "$(echo "$line" | base64 -d)" </dev/null; done\n'

#: What the tests add to the shipped configuration.
SETTINGS = """\
[xohook]
authenticate = peer
allow_from = 127.0.0.0/8
hold_limit = 60s
[session:mariadb]
recipe = mariadb
[filesystem:all]
mount = auto
"""


def run(*command: str | Path) -> None:
    """Run a program.

    :param command: its words.
    :raises subprocess.CalledProcessError: it failed.
    """
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)


def make_root(cache: Path) -> Path:
    """Make the tree of a Debian 12 with the control shell, unless there is one.

    :param cache: where it is kept.
    :return: its root.
    """
    root = cache / "root"
    if not (cache / "root.made").exists():
        shutil.rmtree(root, ignore_errors=True)
        include = "--include=" + PACKAGES.replace(" ", ",")
        run("debootstrap", "--variant=minbase", include, "bookworm", root, MIRROR)
        (root / "etc/hostname").write_text("vm\n")
        (root / "etc/hosts").write_text("127.0.0.1 localhost vm\n")
        (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
        (root / "var/log/journal").mkdir(exist_ok=True)
        (root / "usr/local/bin/loop").write_text(LOOP)
        units = root / "etc/systemd/system"
        (units / "control.service").write_text(CONTROL)
        wanted = units / "sysinit.target.wants"
        wanted.mkdir(exist_ok=True)
        (wanted / "control.service").symlink_to("/etc/systemd/system/control.service")
        (cache / "root.made").touch()
    return root


def commands_of_readme() -> list[str]:
    """Read how the README installs the agent for good.

    :return: its commands, without the one that builds the wheel.
    """
    blocks = (TREE / "README.rst").read_text(encoding="utf-8").split("::\n\n")
    [block] = [text.split("\n\n", 1)[0] for text in blocks if "systemctl enable --now" in text]
    return [line.strip() for line in block.splitlines() if line.strip() != "make wheel"]


def make_sources(folder: Path) -> None:
    """Put the wheels of the agent and of what it needs, and ``etc/``, where the README has them.

    :param folder: where.
    """
    dist = folder / "dist"
    dist.mkdir(parents=True)
    shutil.copytree(TREE / "etc", folder / "etc")
    pip = (sys.executable, "-m", "pip", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", dist, TREE)
    [wheel] = dist.glob("xohook-*.whl")
    wanted = ["--only-binary=:all:", "--python-version=3.11"]
    wanted += [f"--platform={name}_x86_64" for name in PLATFORMS]
    run(*pip, "download", *wanted, "--dest", dist, wheel)


def make(cache: Path, kvm: bool, again: bool) -> tuple[Path, str]:
    """Make the disk with the agent on it.

    :param cache: where it is kept, with ``vmlinuz`` and ``initrd``.
    :param kvm: whether the processor need not be emulated.
    :param again: whether to install, also where there is a disk.
    :return: the disk, and what the commands of the README printed, empty where none was run.
    """
    cache.mkdir(exist_ok=True)
    disk = cache / "installed.img"
    if disk.exists() and not again:
        return disk, ""
    root = make_root(cache)
    for name in ("vmlinuz", "initrd.img"):
        [kernel] = (root / "boot").glob(f"{name}-*")
        shutil.copy(kernel, cache / name.partition(".")[0])
    copy = cache / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    run("cp", "-a", root, copy)
    make_sources(copy / SOURCES)
    # What needs no systemd is run in the tree, which takes a tenth of the time.
    said, left = [], []
    for command in commands_of_readme():
        if command.startswith(("systemctl", "xohook")):
            left.append(command)
        else:
            said += [f"# {command}", in_tree(copy, command)]
    fresh = cache / "fresh.img"
    fresh.unlink(missing_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-d", copy, fresh, "3G")
    with Machine(cache, fresh, kvm=kvm, keep=True) as vm:
        vm.boot()
        for command in left:
            said += [f"# {command}", vm.succeed(f"cd /{SOURCES} && {command}")]
        vm.run(f"mkdir /etc/xohook.ini.d; cat >/etc/xohook.ini.d/10-test.ini <<'E'\n{SETTINGS}E")
        vm.succeed("systemctl restart xohook")
        vm.power_off()
    fresh.rename(disk)
    return disk, "\n".join(said)


def in_tree(root: Path, command: str) -> str:
    """Run a command of the README in a tree.

    :param root: the tree.
    :param command: shell's.
    :return: what it printed.
    """
    settings = "PIP_NO_INDEX=1 PIP_FIND_LINKS=dist PATH=/usr/sbin:/usr/bin"
    words = ["env", "-i", *settings.split(), "sh", "-ec", f"cd /{SOURCES}; {command}"]
    done = subprocess.run(
        ["chroot", str(root), *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    return done.stdout.decode()
