"""What the agent and a writer say to each other: frames over the socket between them."""

import marshal
import os
import select
import struct

_LENGTH = struct.Struct("!I")


def frame(*values: "str | int | bytes") -> bytes:
    """Make a frame: four bytes with its length, and the values in the format of :mod:`marshal`.

    :param values: the values.
    :return: the frame.
    """
    data = marshal.dumps(values)
    return _LENGTH.pack(len(data)) + data


def take_frames(pending: bytearray) -> "list[tuple[str | int | bytes, ...]]":
    """Take the whole frames from what has come.

    :param pending: what has come; the frames are removed from it.
    :return: the values of each.
    """
    found = []
    while len(pending) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(pending)[0]
        if len(pending) < end:
            break
        found.append(marshal.loads(pending[_LENGTH.size : end]))  # noqa: S302 - from the agent.
        del pending[:end]
    return found


def agent_is_there(wait: int = 0) -> bool:
    """Tell whether the agent still is.

    :param wait: milliseconds to wait for its end.
    :return: whether its end of the socket is open.
    """
    watch = select.poll()
    watch.register(0, select.POLLRDHUP)
    return not watch.poll(wait)


def answer(number: int, problem: str) -> None:
    """Answer the agent, if it is still there.

    :param number: the number of the order.
    :param problem: what went wrong; empty where nothing did.
    """
    try:
        os.write(0, frame(number, problem))
    except OSError:
        return
