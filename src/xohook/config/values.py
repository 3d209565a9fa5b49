"""What an option's text may say, and what it means: one converter for each sort of value.

Each takes the text, which is never empty, and raises :class:`RefusedError` where it cannot stand.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_interface
from pathlib import Path

from xohook.durations import format_duration, parse_duration
from xohook.host import endpoints
from xohook.host.endpoints import LONGEST_PATH

_ENDPOINT = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*:.+")
_LISTEN_ALLOWED = (
    "a port from 0 to 65535, or an endpoint description such as tcp:1727:interface=192.0.2.1, "
    "one a line"
)
_NETWORKS_ALLOWED = "addresses and networks, such as 192.0.2.10, 2001:db8::/64"
# A shell's quoted strings and escaped characters (POSIX, Shell Command Language, 2.2).
_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
_JOINT = re.compile(r"\\(.)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIALS = ("bearer", "token", "peer")
_MAPPED = IPv6Network("::ffff:0:0/96")
_VM_NAME_LENGTH = 255


class RefusedError(ValueError):
    """An option's value cannot stand.

    :param problem: what is wrong.
    :param allowed: what would be right; empty where the problem says it already.
    """

    def __init__(self, problem: str, allowed: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.allowed = allowed


def near(word: str, known: Iterable[str]) -> str:
    """Find what a mistyped word was probably meant to be.

    :param word: the word that is not known.
    :param known: the words that are.
    :return: ``did you mean …? `` for the front of a sentence; empty where nothing is near.
    """
    # Imported here because a configuration without mistakes has no use for it.
    from difflib import get_close_matches

    found = get_close_matches(word.lower(), list(known), n=1)
    return f"did you mean {found[0]}? " if found else ""


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Make the converter of a number.

    :param least: the smallest number allowed.
    :param most: the largest number allowed.
    :return: the converter.
    """

    def convert(text: str) -> int:
        # Nine digits are more than any range here has, and int() takes long for very many.
        if re.fullmatch(r"[0-9]{1,9}", text) is None or not least <= int(text) <= most:
            raise RefusedError(f"{text!r} is not a whole number", f"from {least} to {most}")
        return int(text)

    return convert


def duration(least: float, most: float) -> Callable[[str], float]:
    """Make the converter of a duration.

    :param least: the shortest allowed, in seconds.
    :param most: the longest allowed, in seconds.
    :return: the converter, to seconds.
    """
    allowed = (
        f"from {format_duration(least)} to {format_duration(most)}: a number and its unit, "
        "such as 500ms, 50s or 2m"
    )

    def convert(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            raise RefusedError(str(error), allowed) from None
        if not least <= seconds <= most:
            raise RefusedError(f"{text} is out of range", allowed)
        return seconds

    return convert


def listeners(text: str) -> tuple[str, ...]:
    """Read where to listen; an endpoint's parameters are left to whoever opens it.

    :param text: ports and endpoint descriptions, one a line.
    :return: a port number's digits or an endpoint description, each.
    :raises RefusedError: where a line is neither, names a port that does not exist, or stands
        twice.
    """
    found = tuple(_listener(line) for line in text.split("\n"))
    _refuse_doubled(found)
    return found


def _listener(line: str) -> str:
    if re.fullmatch(r"[0-9]+", line):
        # More digits than five are no port, and int() refuses very many.
        if len(line) > 5 or int(line) > endpoints.HIGHEST:
            raise RefusedError(f"{line} is not a port", _LISTEN_ALLOWED)
        return str(int(line))
    if _ENDPOINT.fullmatch(line) is None:
        raise RefusedError(f"{line!r} is neither a port nor an endpoint", _LISTEN_ALLOWED)
    place = endpoints.place(line)
    if place is not None and place.port > endpoints.HIGHEST:
        raise RefusedError(f"{line!r} names no port", _LISTEN_ALLOWED)
    return line


def authentication(text: str) -> frozenset[str]:
    """Read what suffices as a credential.

    :param text: words, separated by commas or blanks.
    :return: the words.
    :raises RefusedError: where one is not known, or stands twice.
    """
    words = _listed(text)
    allowed = f"of {', '.join(_CREDENTIALS)}: at least one, none twice"
    if not words:
        raise RefusedError("names nothing that suffices", allowed)
    for word in words:
        if word not in _CREDENTIALS:
            raise RefusedError(f"{word!r} is not known", near(word, _CREDENTIALS) + allowed)
    _refuse_doubled(words)
    return frozenset(words)


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read addresses and networks; an address is the network of it alone.

    :param text: addresses and networks, separated by commas or blanks.
    :return: the networks, IPv4-mapped ones (RFC 4291, 2.5.5.2) as IPv4.
    :raises RefusedError: where one is neither, or has bits set outside its mask.
    """
    words = _listed(text)
    if not words:
        raise RefusedError("names no address", _NETWORKS_ALLOWED)
    return tuple(_network(word) for word in words)


def _network(word: str) -> IPv4Network | IPv6Network:
    if "%" in word:
        raise RefusedError(f"{word!r} has a zone", f"without it: {word.partition('%')[0]}")
    try:
        interface = ip_interface(word)
    except ValueError:
        raise RefusedError(
            f"{word!r} is neither an address nor a network", _NETWORKS_ALLOWED
        ) from None
    network = interface.network
    if interface.ip != network.network_address:
        raise RefusedError(
            f"{word} has bits set outside its mask",
            f"{network} for the network, {interface.ip} for the address alone",
        )
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        mapped = IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        return IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def command_line(text: str) -> tuple[str, ...]:
    """Read a program and its arguments.

    :param text: words, split and quoted as in a shell.
    :return: the program and its arguments.
    :raises RefusedError: where a quote is open at the end, or no program is named.
    """
    words = tuple(_shell_words(text))
    if not words[0]:
        raise RefusedError("the program's name is empty", "PROGRAM [ARGUMENT…]")
    return words


def environment(text: str) -> dict[str, str]:
    """Read variables for a program.

    :param text: words of the form ``NAME=value``, split and quoted as in a shell.
    :return: the values by name.
    :raises RefusedError: where a word is none of that form, or its name is doubled or reserved.
    """
    pairs = [_variable(word) for word in _shell_words(text)]
    _refuse_doubled([name for name, _ in pairs])
    return dict(pairs)


def _variable(word: str) -> tuple[str, str]:
    name, delimiter, value = word.partition("=")
    if not delimiter or _VARIABLE.fullmatch(name) is None:
        raise RefusedError(
            f"{word!r} is not NAME=value", "a value with blanks is quoted: NAME='two words'"
        )
    if name.startswith("XOHOOK_"):
        raise RefusedError(f"{name} is not free", "a name that does not begin with XOHOOK_")
    return name, value


def file_path(text: str) -> Path:
    """Read the name of a file, which whoever knows the configuration's directory makes absolute.

    :param text: an absolute or a relative path.
    :return: the path as it stands.
    """
    return Path(text)


def absolute_path(text: str) -> Path:
    """Read the name of a directory.

    :param text: an absolute path.
    :return: the path.
    :raises RefusedError: where it is relative.
    """
    path = Path(text)
    if not path.is_absolute():
        raise RefusedError(f"{text!r} is not absolute", "a path that begins with /")
    return path


def socket_path(path: Path) -> Path:
    """See that a path can be a UNIX socket's address.

    :param path: an absolute path.
    :return: the path.
    :raises RefusedError: where it is too long for that.
    """
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise RefusedError(
            f"{path} has {length} bytes, too many for a socket", f"at most {LONGEST_PATH}"
        )
    return path


def control(text: str) -> Path | bool:
    """Read where the control socket is.

    :param text: ``yes``, ``no`` or an absolute path.
    :return: the path; True for the runtime directory, which whoever knows that names; False for no
        socket.
    :raises RefusedError: where it is none of these, or cannot be a socket's address.
    """
    if text in ("yes", "no"):
        return text == "yes"
    if not text.startswith("/"):
        raise RefusedError(f"{text!r} is not known", "yes, no, or a path that begins with /")
    return socket_path(Path(text))


def mount_point(text: str) -> Path | None:
    """Read which filesystem is meant.

    :param text: ``auto`` or an absolute path.
    :return: the path; None for every filesystem that can be frozen (``auto``).
    :raises RefusedError: where it is a relative path.
    """
    if text == "auto":
        return None
    try:
        return absolute_path(text)
    except RefusedError as refused:
        raise RefusedError(refused.problem, f"{refused.allowed}, or auto") from None


def whole_line(text: str) -> str:
    """Read a line that a client says.

    :param text: the line.
    :return: the line.
    :raises RefusedError: where it is more than one: no line that is said could be the same.
    """
    if "\n" in text:
        raise RefusedError("it goes over several lines", "one line, the last that is awaited")
    return text


def pattern(text: str) -> str:
    """Read a regular expression.

    :param text: the expression, in Python's syntax.
    :return: the expression.
    :raises RefusedError: where it does not compile.
    """
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise RefusedError(
            f"{text!r} is not a regular expression: {error}",
            "in Python's syntax; a backslash before each character that means itself",
        ) from None
    return text


def vm_name(text: str) -> str:
    """Read the name that tokens are for.

    :param text: the name.
    :return: the name.
    :raises RefusedError: where it has blanks or unprintable characters, or is too long.
    """
    if len(text) > _VM_NAME_LENGTH or " " in text or not text.isprintable():
        raise RefusedError(
            f"{text!r} cannot be a VM's name",
            f"at most {_VM_NAME_LENGTH} printable characters, no blanks",
        )
    return text


def yes_or_no(text: str) -> bool:
    """Read a decision.

    :param text: ``yes`` or ``no``.
    :return: whether it is ``yes``.
    :raises RefusedError: where it is neither.
    """
    if text not in ("yes", "no"):
        raise RefusedError(f"{text!r} is not known", "yes or no")
    return text == "yes"


def aborts(text: str) -> bool:
    """Read whether a failed freeze ends the window.

    :param text: ``abort`` or ``continue``.
    :return: whether it does.
    :raises RefusedError: where it is neither.
    """
    if text not in ("abort", "continue"):
        raise RefusedError(f"{text!r} is not known", "abort or continue")
    return text == "abort"


def _listed(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(_QUOTED.sub(_join_lines, text))
    except ValueError:
        raise RefusedError(
            "a quote or a backslash is left open at the end",
            "words are split and quoted as in a shell",
        ) from None


def _join_lines(quoted: re.Match[str]) -> str:
    """Drop a backslash with the line's end after it, as a shell does and shlex does not."""
    if quoted[0].startswith("'"):
        return quoted[0]
    return _JOINT.sub(lambda escape: "" if escape[1] == "\n" else escape[0], quoted[0])


def _refuse_doubled(words: Iterable[str]) -> None:
    doubled = [word for word, count in Counter(words).items() if count > 1]
    if doubled:
        raise RefusedError(f"{', '.join(doubled)}: named more than once", "each only once")
