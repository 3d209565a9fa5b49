"""Values that one process of the agent hands to another, as JSON.

Only classes that are named can be made from it. So what is read can contain values, and no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import attrs

_TEXTS: Mapping[str, type] = {each.__name__: each for each in (Path, IPv4Network, IPv6Network)}


class Form:
    """Writes values as JSON text, and reads them again.

    Known are texts, numbers, booleans, None, tuples, frozen sets, mappings, paths and IP networks.

    :param classes: the attrs classes that are known too.
    """

    def __init__(self, *classes: type) -> None:
        self._classes = {each.__name__: each for each in classes}

    def pack(self, value: Any) -> str:
        """Write a value.

        :param value: the value.
        :return: one line of ASCII.
        :raises TypeError: where something in it is of no known class.
        """
        return json.dumps(self._pack(value))

    def unpack(self, text: str) -> Any:
        """Read a value.

        :param text: what :meth:`pack` has returned.
        :return: an equal value.
        :raises ValueError: where it cannot be understood.
        """
        try:
            return self._unpack(json.loads(text))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"cannot be understood: {error}") from error

    def _pack(self, value: Any) -> Any:
        if value is None or isinstance(value, str | bool | int | float):
            return value
        if isinstance(value, tuple):
            return [self._pack(each) for each in value]
        if isinstance(value, frozenset):
            return {"frozenset": [self._pack(each) for each in value]}
        if isinstance(value, Mapping):
            return {"mapping": [[self._pack(key), self._pack(it)] for key, it in value.items()]}
        if isinstance(value, Path):
            return {"Path": str(value)}
        name = type(value).__name__
        if _TEXTS.get(name) is type(value):
            return {name: str(value)}
        if self._classes.get(name) is not type(value):
            raise TypeError(f"a value of the class {name}")
        known: Any = type(value)
        fields = attrs.fields(known)
        return {name: {each.name: self._pack(getattr(value, each.name)) for each in fields}}

    def _unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._unpack(each) for each in value)
        if not isinstance(value, dict):
            return value
        [(name, content)] = value.items()
        if name == "frozenset":
            return frozenset(self._unpack(each) for each in content)
        if name == "mapping":
            return {self._unpack(key): self._unpack(it) for key, it in content}
        if name in _TEXTS:
            return _TEXTS[name](content)
        return self._classes[name](**{key: self._unpack(it) for key, it in content.items()})
