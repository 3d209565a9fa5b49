"""Names the scripts of a directory: ``python -I -S -B listing.py DIRECTORY``.

The directory may lie on a file server that does not answer. So the agent does not look there
itself: this small program does, and is ended when it takes too long. On standard output it writes
each name, followed by NUL; where the directory cannot be read, one line says why and the exit
status is 1.
"""

import os
import sys

LEFTOVERS = ("~", ".bak", ".orig", ".rpmnew", ".rpmorig", ".rpmsave", ".dpkg-old", ".dpkg-new")
"""Ends of the names of files that editors and package managers leave; they are not run."""


def scripts(directory: str) -> "list[str]":
    """Find what is to be run, as ``qemu-ga`` does.

    :param directory: the directory.
    :return: the names of its executable files, in their order; hidden ones and what editors and
        package managers leave are left out.
    :raises OSError: where it cannot be read.
    """
    with os.scandir(directory) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and not entry.name.endswith(LEFTOVERS)
            # First, for is_file() raises where a link leads round in a circle.
            and os.access(entry.path, os.X_OK)
            and entry.is_file()
        )


def main() -> None:
    """Write the names."""
    try:
        names = scripts(sys.argv[1])
    except OSError as error:
        os.write(1, str(error.strerror).encode())
        sys.exit(1)
    sys.stdout.buffer.write(b"".join(os.fsencode(name) + b"\0" for name in names))


if __name__ == "__main__":
    main()
