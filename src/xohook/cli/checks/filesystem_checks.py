"""Whether the filesystems that are to be frozen can be, and what is ordered after them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from xohook.config.settings import AppSettings, FilesystemSettings, ParticipantSettings
from xohook.findings import Finding, error, ok, warning
from xohook.host import mounts
from xohook.participants.app import ORDER
from xohook.participants.frozen import frozen_by
from xohook.participants.requirements import NOTHING_TO_FREEZE, mount_problem


def examine(
    participants: Iterable[ParticipantSettings], apps: Iterable[AppSettings]
) -> Iterator[Finding]:
    """Look at the filesystem participants, and at their places among the others.

    :param participants: all participants that the agent makes by itself.
    :param apps: what is asked of apps; one whose order is left open counts with the default.
    :return: findings for each filesystem participant, and one for each other participant that
        is frozen after one of them.
    """
    participants = tuple(participants)
    filesystems = [each for each in participants if isinstance(each, FilesystemSettings)]
    table = mounts.table()
    first: dict[str | None, str] = {}
    for filesystem in filesystems:
        yield from _examine_mounts(filesystem, table, first)
    if filesystems and os.geteuid() != 0:
        yield error(
            f"[{filesystems[0].name}]: only root may freeze a filesystem (CAP_SYS_ADMIN); run the "
            "agent, and this check, as root"
        )
    others = [each for each in participants if not isinstance(each, FilesystemSettings)]
    orders = {each.name: each.order for each in others}
    orders |= {app.name: ORDER if app.order is None else app.order for app in apps}
    yield from _overtaken(filesystems, orders)


def _examine_mounts(
    filesystem: FilesystemSettings, table: Sequence[mounts.Mount], first: dict[str | None, str]
) -> Iterator[Finding]:
    place = f"[{filesystem.name}] mount = {filesystem.mount or 'auto'}"
    points = frozen_by(filesystem)
    if filesystem.mount is None:
        for mount, hider in mounts.hidden_filesystems(table):
            yield error(f"{place}: {mounts.hiding(mount, hider)}")
    if not points:
        yield error(f"{place}: {NOTHING_TO_FREEZE}")
    for point in points:
        problem = mount_problem(point, table)
        if problem:
            yield error(f"{place}: {problem}")
            continue
        device = mounts.device_of(point, table)
        other = first.setdefault(device, filesystem.name)
        if other != filesystem.name:
            yield error(
                f"{place}: {point} is on the filesystem that [{other}] freezes too, and the second "
                "freeze would fail; leave one of them out"
            )
        else:
            yield ok(f"{place}: {point}")


def _overtaken(
    filesystems: list[FilesystemSettings], orders: Mapping[str, int]
) -> Iterator[Finding]:
    if not filesystems:
        return
    earliest = min(filesystems, key=lambda each: each.order)
    for name, order in orders.items():
        if order > earliest.order:
            yield warning(
                f"[{name}] order = {order}: it is frozen after [{earliest.name}] "
                f"({earliest.order}), and hangs if it touches that filesystem; give it a lower "
                "order"
            )
