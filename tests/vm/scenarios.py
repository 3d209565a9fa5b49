"""What is tried in a machine that runs: a function each, whose docstring says what is proved."""

from __future__ import annotations

from tests.vm.agent import Agent, expect
from tests.vm.lab import scenario


@scenario
def installed(agent: Agent) -> None:
    """Boot what the README installed: the agent serves, and its log is a good one."""
    vm, tell = agent.vm, agent.tell
    tell(vm.run("systemd-analyze security xohook --no-pager | tail -1"))
    tell("verify: " + vm.succeed("systemd-analyze verify /etc/systemd/system/xohook.service"))
    tell("check: " + vm.run("xohook check | grep -v '^ok'"))
    tell(vm.run("ls -ld /var/lib/xohook /run/xohook; ls -l /var/lib/xohook"))
    agent.good_window()
    log = agent.log(30)
    expect("deficiencies" not in log, "a process outlives the agent")
    message = vm.run("journalctl -u xohook -o cat -n 3 _COMM=twistd")
    tell(message)
    tell("warnings: " + vm.run("journalctl -q -b -u xohook -p warning -o cat"))


@scenario
def killed(agent: Agent) -> None:
    """Kill agent and guards together in a hold, three times: the next start thaws."""
    for _ in range(3):
        agent.hold()
        agent.kill()
        agent.thawed("kill of all")
        agent.good_window(late=True)
    agent.tell(agent.log(25))


@scenario
def killed_twice(agent: Agent) -> None:
    """Kill all, and again at any moment of the start that thaws: a later start thaws."""
    vm = agent.vm
    for wait in (0.0, 0.5, 1.0, 2.0, 3.0, 4.5):
        agent.hold()
        agent.kill()
        vm.run(f"sleep {wait}")
        agent.kill()
        agent.thawed(f"second kill {wait:g} s after the first")
        agent.good_window(late=True)


@scenario
def killed_often(agent: Agent) -> None:
    """Kill all ten times, each as soon as systemd has started it again: the last start thaws."""
    agent.hold()
    before = 0
    for _ in range(10):
        before = agent.pid()
        agent.kill()
        new = f"p=$(systemctl show -P MainPID xohook); test $p != 0 && test $p != {before}"
        agent.vm.wait(new)
    agent.thawed("the tenth kill")
    agent.good_window(late=True)
    agent.tell("restarts: " + agent.vm.run("systemctl show -P NRestarts xohook"))


@scenario
def killed_alone(agent: Agent) -> None:
    """Kill the agent alone: its guards thaw at once."""
    agent.hold()
    agent.kill("main")
    agent.thawed("kill of the agent alone", 10)
    agent.good_window(late=True)


@scenario
def systemctl(agent: Agent) -> None:
    """Reload, restart and stop in a hold: each comes back, and leaves nothing frozen."""
    agent.hold()
    agent.timed("reload", "systemctl reload xohook")
    expect(agent.frozen(), "reload ended the hold")
    agent.mark()
    answer = agent.post_sync()
    expect(answer.endswith("200"), f"/post-sync after reload: {answer}")
    agent.thawed("/post-sync after reload")
    agent.vm.wait("journalctl -u xohook | grep -q 'reloaded, with'")
    agent.hold()
    agent.timed("restart", "systemctl restart xohook")
    agent.thawed("restart", 5)
    agent.good_window(late=True)
    agent.hold()
    agent.timed("stop", "systemctl stop xohook")
    agent.thawed("stop", 5)
    agent.tell(agent.vm.run("systemctl is-active xohook; systemctl show -P Result xohook"))
    agent.timed("start", "systemctl start xohook")
    agent.good_window(late=True)


@scenario
def socket_unit(agent: Agent) -> None:
    """Kill, reload, restart and stop with the socket unit, as docs/operation.rst has it."""
    vm = agent.vm
    vm.succeed("systemctl stop xohook; cp /root/xohook/etc/xohook.socket /etc/systemd/system/")
    vm.succeed("systemctl daemon-reload; systemctl enable --now xohook.socket xohook")
    agent.active()
    agent.hold()
    agent.timed("reload", "systemctl reload xohook")
    agent.mark()
    agent.post_sync()
    agent.thawed("/post-sync after reload")
    agent.hold()
    agent.kill()
    agent.thawed("kill of all")
    agent.good_window(late=True)
    agent.hold()
    agent.timed("restart", "systemctl restart xohook")
    agent.thawed("restart", 5)
    agent.good_window(late=True)
    agent.hold()
    agent.timed("stop of both", "systemctl stop xohook.socket xohook")
    agent.thawed("stop", 5)
    vm.succeed("systemctl disable xohook.socket; rm /etc/systemd/system/xohook.socket")
    vm.succeed("systemctl daemon-reload; systemctl start xohook")


STRICT = """\
[Service]
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_IPC_LOCK CAP_DAC_OVERRIDE CAP_KILL
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources
UMask=0077
"""


@scenario
def hardened(agent: Agent) -> None:
    """Have a window, and kill all, with the hardening of docs/operation.rst."""
    drop_in(agent, STRICT)
    agent.vm.succeed("systemctl restart xohook")
    agent.tell(agent.vm.run("systemd-analyze security xohook --no-pager | tail -1"))
    agent.good_window()
    agent.hold()
    agent.kill()
    agent.thawed("kill of all")
    agent.good_window(late=True)
    agent.hold()
    agent.timed("reload", "systemctl reload xohook")
    agent.timed("stop", "systemctl stop xohook")
    agent.thawed("stop", 5)
    agent.vm.succeed("rm -r /run/systemd/system/xohook.service.d; systemctl daemon-reload")
    agent.vm.succeed("systemctl start xohook")


def drop_in(agent: Agent, text: str) -> None:
    """Add a drop-in to the unit, on the tmpfs, where it changes nothing on the disk.

    :param agent: the agent.
    :param text: the drop-in.
    """
    folder = "/run/systemd/system/xohook.service.d"
    agent.vm.succeed(f"mkdir -p {folder}; cat >{folder}/test.conf <<'E'\n{text}E")
    agent.vm.succeed("systemctl daemon-reload")


#: An agent beside the unit's, on another port, which freezes ``/``.
OTHER = """\
[xohook]
listen = 1800
authenticate = peer
allow_from = 127.0.0.0/8
hold_limit = 90s
state_directory = /run/other/state
runtime_directory = /run/other/run
[filesystem:all]
mount = auto
"""


def start_other(agent: Agent) -> None:
    """Start an agent beside the unit's.

    :param agent: that of the unit.
    """
    agent.vm.succeed("mkdir -p -m 700 /run/other/state /run/other/run")
    agent.vm.succeed(f"cat >/run/other/xohook.ini <<'E'\n{OTHER}E")
    agent.vm.succeed(
        "(setsid env PYTHONDONTWRITEBYTECODE=1 /opt/xohook/bin/twistd -n --pidfile= xohook "
        "-c /run/other/xohook.ini >/run/other/log 2>&1 &)"
    )
    agent.vm.wait("grep -q 'answers on' /run/other/log")


def other(agent: Agent, path: str) -> None:
    """Send a request to the other agent, which is answered 200.

    :param agent: that of the unit.
    :param path: ``/sync`` or ``/post-sync``.
    """
    agent.mark()
    answer = agent.vm.run(f"curl -sk -m 300 -w ' %{{http_code}}' https://127.0.0.1:1800{path}")
    expect(answer.endswith("200"), f"the other agent's {path}: {answer}")


@scenario
def first_start(agent: Agent) -> None:
    """Start without any directory, also while ``/`` is frozen: it waits, and goes on."""
    vm = agent.vm
    vm.succeed("systemctl stop xohook; rm -rf /var/lib/xohook /run/xohook")
    agent.timed("first start", "systemctl start xohook")
    agent.tell(vm.run("ls -ld /var/lib/xohook /run/xohook; ls /var/lib/xohook"))
    vm.succeed("systemctl stop xohook; rm -rf /var/lib/xohook /run/xohook")
    start_other(agent)
    other(agent, "/sync")
    expect(agent.frozen(), "/ is not frozen")
    vm.begin("systemctl start xohook", "start")
    vm.wait("test $(systemctl show -P MainPID xohook) != 0")
    waits = "cat /sys/fs/cgroup/system.slice/xohook.service/cgroup.procs | while read p; do"
    waits += " sed 's/.*) //' /proc/$p/stat | cut -c1 | grep D; done | grep -q D"
    vm.wait(waits)
    agent.tell(agent.stuck())
    agent.timed("stop of a start that waits", "systemctl stop xohook")
    vm.begin("systemctl start xohook", "start")
    vm.wait(waits)
    other(agent, "/post-sync")
    agent.thawed("the other's /post-sync")
    agent.tell("first start goes on: active after", agent.active())
    vm.wait("test -e /run/start.rc")
    expect(vm.end_of("start")[0] == 0, "the start failed")
    vm.succeed("test -e /var/lib/xohook/secret")
    other(agent, "/sync")
    expect(agent.frozen(), "/ is not frozen")
    vm.begin("systemctl stop xohook", "stop")
    took = vm.wait("test -e /run/stop.rc", 60)
    agent.tell("stop while another froze /:", took)
    vm.begin("systemctl start xohook", "start")
    agent.tell("start while another froze /: " + agent.stuck())
    other(agent, "/post-sync")
    agent.thawed("the other's /post-sync")
    agent.tell("active after", agent.active())
    agent.good_window()
    vm.reset()


USER = "[Service]\nUser=xohook\nGroup=xohook\nLockPersonality=no\nSystemCallFilter=\n"
USERS_SETTINGS = """\
[xohook]
authenticate = peer
allow_from = 127.0.0.0/8
hold_limit = 60s
state_directory = /var/lib/xohook
runtime_directory = /run/xohook
[session:mariadb]
recipe = mariadb
command = sudo -n mariadb --batch --skip-column-names --unbuffered --skip-reconnect
[command:flag]
freeze = sudo -n touch /run/flag
thaw = sudo -n rm /run/flag
"""


@scenario
def as_a_user(agent: Agent) -> None:
    """Run as a user, as docs/operation.rst has it: windows, reload and a kill, with sudo."""
    vm = agent.vm
    vm.succeed("systemctl stop xohook; rm -rf /var/lib/xohook /run/xohook")
    vm.succeed("useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin xohook")
    vm.succeed("install -d -m 700 -o xohook -g xohook /var/lib/xohook")
    vm.succeed("chgrp xohook /etc/xohook.ini")
    vm.succeed(
        "echo 'xohook ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/x; chmod 440 /etc/sudoers.d/x"
    )
    vm.succeed(f"cat >/etc/xohook.ini.d/10-test.ini <<'E'\n{USERS_SETTINGS}E")
    drop_in(agent, USER)
    agent.timed("start", "systemctl start xohook")
    agent.tell(vm.run("ls -ld /var/lib/xohook /run/xohook; ls /var/lib/xohook"))
    agent.tell("check: " + vm.run("su -s /bin/sh xohook -c 'xohook check' | grep -v '^ok'"))
    for after in ("/post-sync", "reload", "kill"):
        answer = agent.sync()
        expect(answer.endswith("200"), f"/sync: {answer}")
        vm.succeed("test -e /run/flag")
        if after == "kill":
            agent.kill()
            agent.tell("kill of all: owed thaw run after", vm.wait("! test -e /run/flag"))
            agent.tell("active after", agent.active())
            break
        if after == "reload":
            agent.timed("reload", "systemctl reload xohook")
        answer = agent.post_sync()
        expect(answer.endswith("200"), f"/post-sync: {answer}")
        vm.succeed("! test -e /run/flag")
    agent.timed("stop", "systemctl stop xohook")
    # The other agent freezes / in the hold of the unit's.
    agent.timed("start", "systemctl start xohook")
    start_other(agent)
    expect(agent.sync().endswith("200"), "/sync")
    other(agent, "/sync")
    expect(agent.frozen(), "/ is not frozen")
    agent.timed("reload with / frozen by another", "systemctl reload xohook")
    agent.kill()
    killed = vm.now
    other(agent, "/post-sync")
    agent.thawed("the other's /post-sync")
    vm.wait("! test -e /run/flag")
    agent.tell("owed thaw run after", vm.now - killed)
    agent.tell("active after", agent.active())
    agent.tell(agent.log(30))
    vm.reset()
