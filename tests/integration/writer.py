"""A database's constant writer: ``writer.py LEDGER TEXT CLIENT…``.

It has the client run the text, with a number in it, waits until the client says ``doneNUMBER``,
and only then puts the number into the ledger and has that written to the disk; then the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path


def main() -> None:
    """Write until the client ends, or somebody ends this."""
    ledger, text, *client = sys.argv[1:]
    talk = subprocess.Popen(client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert talk.stdin is not None
    assert talk.stdout is not None
    with Path(ledger).open("a", encoding="ascii") as book:
        for number in count(1):
            talk.stdin.write(text.replace("NUMBER", str(number)).encode() + b"\n")
            for line in iter(talk.stdout.readline, b""):
                if line.strip() == f"done{number}".encode():
                    break
            else:
                sys.exit("the client has ended")
            book.write(f"{number}\n")
            book.flush()
            os.fsync(book.fileno())


if __name__ == "__main__":
    main()
