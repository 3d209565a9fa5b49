"""The example server of Xen Orchestra's page, taken from the page and run by node.

The page is not part of this project; where it lies beside it, what it shows is run as it stands but
for what cannot be: the port, and the one mistake that makes it refuse the page's own header.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.integration.agent import accepts, eventually, free_port

#: Where XO's page lies, beside the project's own directory.
PAGE = Path(__file__).resolve().parents[3] / "shared" / "vm-sync-hook.md"

#: The page's mistake: the header that it documents has one space (RFC 6750, section 2.1).
SPLIT_ON_TWO_SPACES = "authorization.split('  ')"
SPLIT_ON_ONE_SPACE = "authorization.split(' ')"

#: What depends on the test: the port, on this machine alone, and the secret.
LISTEN_EVERYWHERE = ".listen(1727, "
PAGE_SECRET = "'unique long string to ensure the request comes from XO'"


def program(page: str, secret: str, port: int) -> str:
    """Take the server out of the page and mend what keeps it from being compared.

    :param page: the page, in Markdown.
    :param secret: the secret that it shall ask for.
    :param port: the TCP port on 127.0.0.1 that it shall listen on.
    :return: the server, in JavaScript.
    :raises ValueError: where the page is not the one that is known.
    """
    block = re.search(r"^```js\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    if block is None:
        raise ValueError(f"{PAGE}: no block of JavaScript; the page has changed")
    text = block.group(1)
    for old, new in (
        (SPLIT_ON_TWO_SPACES, SPLIT_ON_ONE_SPACE),
        (LISTEN_EVERYWHERE, f".listen({port}, '127.0.0.1', "),
        (PAGE_SECRET, f"Buffer.from('{secret.encode().hex()}', 'hex').toString()"),
    ):
        if text.count(old) != 1:
            raise ValueError(f"{PAGE}: {old!r} is not there just once; the page has changed")
        text = text.replace(old, new)
    return text


class ExampleServer:
    """The example server, running; a context manager.

    :param directory: a directory for its program and its log.
    :param secret: the secret that it asks for.
    """

    def __init__(self, directory: Path, secret: str) -> None:
        self.port = free_port()
        self._directory = directory
        self._program = directory / "index.cjs"
        directory.mkdir(parents=True, exist_ok=True)
        page = PAGE.read_text(encoding="utf-8")
        self._program.write_text(program(page, secret, self.port), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        if self._process is None:
            raise AssertionError("the example server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        with (self._directory / "example.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                ["node", self._program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        eventually(
            lambda: process.poll() is not None or accepts(self.port),
            "the example server accepts connections",
        )
        if process.poll() is not None:
            log_text = (self._directory / "example.log").read_text(encoding="utf-8")
            raise AssertionError(f"the example server did not stay up:\n{log_text}")

    def stop(self) -> None:
        """End the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> ExampleServer:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
