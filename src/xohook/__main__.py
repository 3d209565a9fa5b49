"""``python -m xohook``: the command ``xohook``."""

from __future__ import annotations

from xohook.cli import main

if __name__ == "__main__":
    main(prog_name="xohook")
