"""A shop that takes orders, with its state in memory and on two disks.

``shop.py serve SOCKET ORDERS STOCK`` takes orders over a UNIX socket, a line ``ITEM COUNT`` each,
and acknowledges each at once. Now and then (``--every``), and at its end, it writes out those that
it has taken: the orders into a file on one disk, and how much of each item is sold into a file on
another. ``--register`` lets it take part in snapshots. ``shop.py check ORDERS STOCK`` says how many
orders there are and whether the two files agree; it exits with 1 where they do not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from pathlib import Path

from xohook.client import Registration


def sync_directory(path: Path) -> None:
    """Have the names in a directory on its disk, as fsync(2) of a file does not promise.

    :param path: the directory.
    """
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_orders(path: Path) -> list[tuple[str, int]]:
    """Read the file of orders; a last line that is cut off is none.

    :param path: the file; it need not be there.
    :return: the item and the count of each.
    """
    if not path.exists():
        return []
    whole = path.read_text().split("\n")[:-1]
    return [(item, int(count)) for item, count in map(str.split, whole)]


def read_stock(path: Path) -> Counter[str]:
    """Read the file of what is sold.

    :param path: the file; it need not be there.
    :return: how much of each item.
    """
    return Counter(json.loads(path.read_text()) if path.exists() else {})


def sold(orders: Iterable[tuple[str, int]]) -> Counter[str]:
    """Add up orders.

    :param orders: the item and the count of each.
    :return: how much of each item.
    """
    total: Counter[str] = Counter()
    for item, count in orders:
        total[item] += count
    return total


class Shop:
    """The state, and how it comes to rest.

    :param orders: the file of orders, on one disk.
    :param stock: the file of what is sold, on another.
    """

    def __init__(self, orders: Path, stock: Path) -> None:
        self._orders = orders
        self._stock = stock
        self._sold = read_stock(stock)
        self._unwritten: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def take(self, item: str, count: int) -> None:
        """Take an order; it waits while the shop is at rest.

        :param item: what is ordered.
        :param count: how many of it.
        """
        with self._lock:
            self._unwritten.append((item, count))
            self._sold[item] += count

    def write(self) -> None:
        """Write out the orders that were taken."""
        with self._lock:
            self._write()

    def rest(self) -> None:
        """Take no order any more, and write out those that were taken."""
        self._lock.acquire()
        self._write()

    def go_on(self) -> None:
        """Take orders again, after a rest."""
        self._lock.release()

    def _write(self) -> None:
        with self._orders.open("a") as file:
            file.writelines(f"{item} {count}\n" for item, count in self._unwritten)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self._orders.parent)
        self._unwritten.clear()
        draft = self._stock.with_suffix(".new")
        with draft.open("w") as file:
            json.dump(self._sold, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._stock)
        sync_directory(self._stock.parent)


def serve(shop: Shop, address: Path, every: float) -> None:
    """Take orders until the program is told to end.

    :param shop: who takes them.
    :param address: the path of the UNIX socket.
    :param every: seconds from one writing to the next.
    """

    class Customer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            # The customer may go at any time.
            with suppress(ConnectionError):
                for line in self.rfile:
                    self.wfile.write(self.answer(line))

        @staticmethod
        def answer(line: bytes) -> bytes:
            try:
                item, count = line.decode().split()
                shop.take(item, int(count))
            except ValueError:
                return b"an order is ITEM COUNT\n"
            return b"taken\n"

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    def write_now_and_then() -> None:
        while True:
            time.sleep(every)
            shop.write()

    # A shop that was killed has left its socket behind.
    address.unlink(missing_ok=True)
    with Server(str(address), Customer) as server:
        threading.Thread(target=write_now_and_then, daemon=True).start()
        server.serve_forever()


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    serving, checking = tasks.add_parser("serve"), tasks.add_parser("check")
    serving.add_argument("socket", type=Path)
    serving.add_argument("--every", type=float, default=1.0, metavar="SECONDS")
    serving.add_argument("--register", action="store_true")
    for each in (serving, checking):
        each.add_argument("orders", type=Path)
        each.add_argument("stock", type=Path)
    given = parser.parse_args()
    if given.task == "check":
        orders = read_orders(given.orders)
        agrees = sold(orders) == read_stock(given.stock)
        print(f"{len(orders)} orders; the stock {'agrees' if agrees else 'DOES NOT AGREE'}")
        raise SystemExit(not agrees)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    shop = Shop(given.orders, given.stock)
    taking_part = Registration(
        "shop", freeze=lambda asked: shop.rest(), thaw=lambda told: shop.go_on()
    )
    try:
        with taking_part if given.register else nullcontext():
            serve(shop, given.socket, given.every)
    finally:
        shop.rest()


if __name__ == "__main__":
    main()
