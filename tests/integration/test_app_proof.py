"""The proof for apps: what an application has acknowledged is in every snapshot, if it takes part.

``examples/shop.py`` takes orders from a customer that never rests, keeps them in memory, and writes
them to two disks. Snapshots of the disks are taken one after the other, as XAPI does, each as the
disk is at one moment (a reflink). The same snapshots without its taking part have to be bad, or the
test proves nothing.

What counts is the customer's word: an order that it knows to be acknowledged when ``/sync`` has
been answered has to be in the snapshot. One more may be: it was taken, and its acknowledgement was
on the way.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.agent import Agent, eventually
from tests.integration.disks import Disk, DiskTestCase, make_image, run
from tests.integration.holds import filesystem
from tests.integration.hook_client import PATIENCE

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop.py"

STORAGE = 1024
"""MiB of the storage that the disks lie on."""

SIZE = 300
"""MiB of a disk; xfs takes no less."""

SOME = 50
"""Orders that are acknowledged from one look to the next."""

BETWEEN = 0.5
"""Seconds from one disk's snapshot to the other's where the shop is at rest."""

OFTEN = "--every=0.01"
"""For a shop that writes out its orders all the time."""

SELDOM = "--every=3600"
"""For a shop that writes out its orders only when it has to, within a test."""


class Customer:
    """Gives one order after the other, and counts those that were acknowledged.

    :param address: the shop's socket; the shop may just be opening.
    """

    def __init__(self, address: Path) -> None:
        self.acknowledged = 0
        self._socket = socket.socket(socket.AF_UNIX)
        eventually(lambda: self._socket.connect_ex(str(address)) == 0, "the shop is open")
        self._thread = threading.Thread(target=self._order)
        self._thread.start()

    def _order(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as answers:
            for number in itertools.count():
                self._socket.sendall(b"item%d %d\n" % (number % 7, number % 5 + 1))
                if answers.readline() != b"taken\n":
                    return
                self.acknowledged += 1

    def some_more(self) -> None:
        """Wait until some more are acknowledged."""
        enough = self.acknowledged + SOME
        eventually(lambda: self.acknowledged >= enough, "orders are acknowledged")

    def end(self) -> None:
        """Give no more orders."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class OrdersTests(SynchronousTestCase):
    """The file of orders, as a snapshot may have it."""

    def test_cut_off(self) -> None:
        """An order that is written in part is none."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "orders").write_text("a 1\nb 1")
        (directory / "stock").write_text('{"a": 1}')
        done = subprocess.run(
            [sys.executable, SHOP, "check", directory / "orders", directory / "stock"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(done.stdout, "1 orders; the stock agrees\n")


class ShopTests(DiskTestCase):
    """The shop, with and without taking part."""

    def setUp(self) -> None:
        self.need_disks()
        storage = self.make_disk("xfs", STORAGE).mount
        self.places = [Path(self.mktemp()).resolve() for _ in range(2)]
        images = [storage / name for name in ("orders", "stock")]
        for image, kind in zip(images, ("ext4", "xfs"), strict=True):
            make_image(image, kind, SIZE)
        self.pair = [self.mount(*each) for each in zip(images, self.places, strict=True)]
        self.files = [self.places[0] / "orders", self.places[1] / "stock"]

    def agent(self, *sections: str) -> Agent:
        """Start an agent that freezes both disks."""
        disks = (filesystem(self.pair[0], "first"), filesystem(self.pair[1], "second"))
        return Agent.for_test(self, sections="\n".join((*disks, *sections)))

    def open_shop(self, agent: Agent, *options: str) -> Customer:
        """Start the shop, with a customer."""
        self.environment = {**agent.environment, "XOHOOK_CONTROL": str(agent.control)}
        address = agent.runtime_directory.parent / "shop.sock"
        self.shop = subprocess.Popen(
            [sys.executable, SHOP, "serve", *options, address, *self.files], env=self.environment
        )
        self.addCleanup(self.shop.wait)
        self.addCleanup(self.shop.kill)
        customer = Customer(address)
        self.addCleanup(customer.end)
        customer.some_more()
        return customer

    def close_shop(self, customer: Customer) -> int:
        """End the customer, then the shop; tell how many orders were acknowledged."""
        customer.end()
        self.shop.terminate()
        self.assertEqual(self.shop.wait(PATIENCE), 0)
        return customer.acknowledged

    def sync(self, agent: Agent) -> None:
        """Begin a window."""
        answer = agent.get("/sync")
        self.assertEqual(answer.status, 200, f"{answer.body!r}\n{agent.log}")

    def snapshots(self, name: str, between: Callable[[], object]) -> list[Path]:
        """Keep each disk as it is at its moment."""
        copies = [disk.image.with_suffix(f".{name}") for disk in self.pair]
        self.keep(self.pair[0], copies[0])
        between()
        self.keep(self.pair[1], copies[1])
        return copies

    def keep(self, disk: Disk, copy: Path) -> None:
        """Copy a disk as it is at this moment."""
        run("cp", "--reflink=always", disk.image, copy)

    def close_disks(self) -> None:
        """Take the disks away."""
        for disk in self.pair:
            disk.close()

    def look(self, images: list[Path]) -> tuple[int, bool]:
        """Restore disks; have the shop tell how many orders there are, and whether all agrees."""
        restored = [self.mount(*each) for each in zip(images, self.places, strict=True)]
        done = subprocess.run(
            [sys.executable, SHOP, "check", *self.files],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        for disk in restored:
            disk.close()
        found = re.fullmatch(r"(\d+) orders; the stock (agrees|DOES NOT AGREE)\n", done.stdout)
        assert found is not None, f"{done.stdout}{done.stderr}"
        self.assertEqual(found[2] == "agrees", done.returncode == 0)
        return int(found[1]), done.returncode == 0

    def assert_all_there(self, images: list[Path], acknowledged: int) -> None:
        """See that every order is there that was acknowledged, and that the disks agree."""
        orders, agrees = self.look(images)
        self.assertIn(orders, (acknowledged, acknowledged + 1))
        self.assertTrue(agrees)

    def test_nothing_frozen(self) -> None:
        """Where nothing is frozen the two disks are of two moments, and do not agree."""
        customer = self.open_shop(Agent.for_test(self), OFTEN)

        def write_some() -> None:
            customer.some_more()
            enough = customer.acknowledged
            orders = self.files[0]
            eventually(lambda: orders.read_text().count("\n") >= enough, "they are written")

        def go_on() -> None:
            write_some()
            # Only once others are written is it certain that the stock of the first ones is, too.
            write_some()

        go_on()
        images = self.snapshots("free", go_on)
        self.close_shop(customer)
        self.close_disks()
        orders, agrees = self.look(images)
        self.assertGreaterEqual(orders, SOME)
        self.assertFalse(agrees, "this proves nothing")

    def test_not_registered(self) -> None:
        """Where the filesystems alone are frozen, acknowledged orders are lost in a good window."""
        agent = self.agent()
        written = self.close_shop(self.open_shop(agent, SELDOM))
        customer = self.open_shop(agent, SELDOM)
        self.sync(agent)
        acknowledged = customer.acknowledged
        self.assert_frozen(*self.pair)
        images = self.snapshots("frozen", customer.some_more)
        self.assertEqual(agent.get("/post-sync").status, 200)
        agent.wait_for_outcomes("synced")
        self.close_shop(customer)
        self.close_disks()
        # What an earlier shop wrote at its end is there, and of this one's orders none.
        self.assertGreaterEqual(acknowledged, SOME)
        self.assert_all_there(images, written)

    def test_registered(self) -> None:
        """Registered, it has every order that it acknowledged in each snapshot, and all agrees."""
        agent = self.agent("[app:shop]")
        customer = self.open_shop(agent, "--register", SELDOM)
        agent.wait_for_log("app shop .* registered")
        taken = []
        for number in range(3):
            customer.some_more()
            self.sync(agent)
            acknowledged = customer.acknowledged
            images = self.snapshots(f"held{number}", lambda: time.sleep(BETWEEN))
            self.assertLessEqual(customer.acknowledged, acknowledged + 1)
            self.assertEqual(agent.get("/post-sync").status, 200, agent.log)
            taken.append((images, acknowledged))
        agent.wait_for_outcomes("synced", "synced", "synced")
        customer.some_more()
        in_the_end = self.close_shop(customer)
        self.close_disks()
        for images, acknowledged in taken:
            self.assert_all_there(images, acknowledged)
        self.assert_all_there([disk.image for disk in self.pair], in_the_end)

    def test_killed(self) -> None:
        """A shop that is killed in the hold breaks the window, and nothing stays frozen."""
        agent = self.agent("[app:shop]")
        self.open_shop(agent, "--register", SELDOM)
        agent.wait_for_log("app shop .* registered")
        self.sync(agent)
        self.assert_frozen(*self.pair)
        self.shop.kill()
        agent.wait_for_outcomes("broken")
        self.assertEqual(agent.get("/post-sync").status, 500)
        self.assert_let_go(*self.pair)
