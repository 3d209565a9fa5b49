"""Opens a port, says as JSON who reaches it, and ends: to be run in a network namespace."""

from __future__ import annotations

import json
import socket

from xohook.host import endpoints


def main() -> None:
    """Do it."""
    with endpoints.bind(0) as bound:
        bound.listen()
        number = bound.getsockname()[1]
        answer: dict[str, object] = {
            address: _reaches(address, number) for address in ("127.0.0.1", "::1")
        }
        print(json.dumps(answer))


def _reaches(address: str, number: int) -> bool:
    try:
        socket.create_connection((address, number), timeout=10).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
