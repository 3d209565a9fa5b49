"""What is tried over two boots of one disk: a function each for what is done before and after."""

from __future__ import annotations

from tests.vm.agent import Agent, expect
from tests.vm.lab import in_two


def lose_power(agent: Agent) -> None:
    """Lose the machine in a hold, with the database busy."""
    vm = agent.vm
    vm.succeed(
        "mariadb -e 'create database t; create table t.i(a int) engine=InnoDB; "
        "create table t.a(a int) engine=Aria transactional=1'"
    )
    vm.run(
        "(setsid sh -c 'while :; do mariadb -e \"insert into t.i values(2); "
        "insert into t.a values(2)\"; done' >/dev/null 2>&1 &)"
    )
    vm.wait("test $(mariadb -N -e 'select count(*) from t.i') -gt 3")
    agent.hold()
    vm.succeed("test -e /var/lib/xohook/stamp.json")


def expect_clean_boot(agent: Agent) -> None:
    """Expect that nothing failed and the database is whole, and show what the boot says.

    :param agent: the agent.
    """
    vm, tell = agent.vm, agent.tell
    tell(vm.run("dmesg | grep -iE 'ext4|orphan|recover'"))
    tell(vm.run("journalctl -b --no-pager | grep -iE 'corrupt|unclean'"))
    failed = vm.run("systemctl --failed -q --no-legend")
    expect(not failed, f"units failed: {failed}")
    vm.wait("systemctl -q is-active mariadb")
    wrong = vm.run("mariadb-check --all-databases | grep -v OK$")
    expect(not wrong, f"tables are not whole: {wrong}")


@in_two(lose_power)
def lost_power(agent: Agent) -> None:
    """Boot after a loss of power in a hold: all is whole, and the agent names the window."""
    vm = agent.vm
    expect_clean_boot(agent)
    counts = vm.run("mariadb -N -e 'select count(*) from t.i; select count(*) from t.a'").split()
    agent.tell(f"rows: {counts}")
    expect(counts[0] == counts[1], f"rows of one transaction each differ: {counts}")
    # journald sets a journal aside that was not closed, and reads it still.
    vm.succeed("journalctl --verify", 300)
    log = agent.log(20)
    agent.tell(log)
    expect("opened by" in log, "the journal of before the loss is not readable")
    expect("this system comes back from window" in log, "nothing said of the window")
    vm.succeed("! test -e /var/lib/xohook/stamp.json")
    agent.good_window()


def shut_down(agent: Agent) -> None:
    """Shut the machine down in a hold."""
    agent.hold()
    agent.tell("systemctl poweroff in the hold: off after", agent.vm.power_off())


@in_two(shut_down)
def shutdown(agent: Agent) -> None:
    """Boot after a shutdown in a hold: it left no stamp, and no unclean filesystem or journal."""
    expect_clean_boot(agent)
    log = agent.log(60)
    agent.tell(log)
    dmesg = agent.vm.run("dmesg")
    expect("recovery complete" not in dmesg, "the filesystem was not unmounted")
    expect("stopped" in log, "the window's end is not in the log")
    expect("this system comes back" not in log, "a stamp was left")
    expect("~" not in agent.vm.run("ls /var/log/journal/*/"), "the journal was set aside")
    agent.good_window()


def shut_down_killed(agent: Agent) -> None:
    """Shut the machine down at once after a kill of all in a hold."""
    agent.hold()
    agent.kill()
    agent.tell("systemctl poweroff after kill of all: off after", agent.vm.power_off())


@in_two(shut_down_killed)
def shutdown_after_kill(agent: Agent) -> None:
    """Boot after a shutdown that began when all was killed in a hold: the agent serves."""
    agent.tell(agent.vm.run("dmesg | grep -iE 'ext4|orphan|recover'"))
    agent.tell(agent.log(60))
    agent.good_window()
