"""``xohook setup``: what to paste into Xen Orchestra, and when which of it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import attrs
import click

from xohook.cli import options, toml
from xohook.config import loading
from xohook.config.settings import Settings
from xohook.hook import credentials
from xohook.hook.auth import Credentials
from xohook.host import directories, endpoints, network, ownership

_TAG = "xo:notify-on-snapshot"
# Where XO goes for a tag without a URL, and how long it waits (its page "VM Sync Hook").
_XO_PORT = 1727
_XO_TIMEOUT = 60
# How long before XO's timeout the answer is to leave; what the default budget leaves of it.
_MARGIN = 10


@attrs.frozen
class Paste:
    """What Xen Orchestra is to be told.

    :param tag: the VM's tag.
    :param other_tags: the same for the machine's other addresses.
    :param secret: the secret for XO's configuration, None where none is of use there.
    :param timeout: XO's timeout for the hook in milliseconds, None where its default will do.
    :param bare: whether the source address is all that is asked for.
    """

    tag: str
    other_tags: tuple[str, ...]
    secret: str | None
    timeout: int | None
    bare: bool

    @property
    def toml(self) -> str:
        """Give the lines for XO's configuration; empty where it needs none."""
        lines = []
        if self.secret is not None:
            lines.append(f"syncHookSecret = {toml.quote(self.secret)}")
        if self.timeout is not None:
            lines.append(f"syncHookTimeout = {self.timeout}")
        return "\n".join(["[xapiOptions]", *lines]) if lines else ""


@click.command()
@options.configuration
@options.as_json
def command(file: Path, as_json: bool) -> None:
    """Print what to paste into Xen Orchestra: the VM's tag, and lines for its configuration.

    Makes the secret if there is none yet, as the agent does at its first start.
    """
    with options.failing(as_json=as_json):
        settings = loading.load(file, environ=os.environ)
        paste = compose(settings, _load(settings), [str(each) for each in network.addresses()])
    if as_json:
        click.echo(json.dumps(_to_json(paste), indent=2))
    else:
        click.echo("\n".join(_text(paste)))


def compose(settings: Settings, known: Credentials | None, addresses: list[str]) -> Paste:
    """Put together what Xen Orchestra is to be told.

    :param settings: the configuration.
    :param known: the credentials; None where the source address is all that is asked for.
    :param addresses: this machine's, the most useful first.
    :return: what to paste.
    """
    query = _query(settings, known)
    tags = [f"{_TAG}=https://{place}/{query}" for place in _places(settings, addresses)]
    needed = settings.freeze_budget + _MARGIN
    timeout = math.ceil(needed) * 1000 if needed > _XO_TIMEOUT else None
    bare = known is None
    if bare and any(place.port == _XO_PORT for place in _tcp_places(settings)):
        tags.insert(0, _TAG)
    return Paste(
        tag=tags[0],
        other_tags=tuple(tags[1:]),
        secret=known.secrets[0] if known and known.secrets and _uses_bearer(settings) else None,
        timeout=timeout,
        bare=bare,
    )


def _load(settings: Settings) -> Credentials | None:
    if "peer" in settings.authenticate:
        return None
    user = ownership.user_of(settings.state_directory, os.geteuid())
    directories.prepare(settings.state_directory, user)
    return credentials.load(settings, user)


def _uses_bearer(settings: Settings) -> bool:
    return "bearer" in settings.authenticate


def _query(settings: Settings, known: Credentials | None) -> str:
    if known is None or "token" not in settings.authenticate:
        return ""
    return "?" + urlencode(
        {"vm": known.vm, "token": known.all_tokens()[0]}, quote_via=quote, safe=""
    )


def _tcp_places(settings: Settings) -> list[endpoints.Place]:
    return [place for place in map(endpoints.place, settings.listen) if place is not None]


def _places(settings: Settings, addresses: list[str]) -> list[str]:
    """Give each address with its port, as a URL has them."""
    found = [
        f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        for place in _tcp_places(settings)
        for port in [place.port or "PORT"]
        for address in _reachable(place, addresses)
    ]
    return list(dict.fromkeys(found)) or ["ADDRESS:PORT"]


def _reachable(place: endpoints.Place, addresses: list[str]) -> list[str]:
    if place.interface is not None and not place.wildcard:
        return [place.interface]
    served = [address for address in addresses if place.ipv6 or ":" not in address]
    return served or ["ADDRESS"]


def _to_json(paste: Paste) -> dict[str, Any]:
    return {
        "tag": paste.tag,
        "other_tags": paste.other_tags,
        "xapi_options": {
            name: value
            for name, value in (
                ("syncHookSecret", paste.secret),
                ("syncHookTimeout", paste.timeout),
            )
            if value is not None
        },
        "toml": paste.toml,
    }


def _text(paste: Paste) -> Iterator[str]:
    yield "1. In Xen Orchestra, give this VM the tag"
    yield ""
    yield paste.tag
    yield ""
    yield from _about_tag(paste)
    if paste.other_tags:
        yield ""
        yield "   In its place, where XO reaches this machine at another address:"
        yield ""
        yield from paste.other_tags
    if not paste.toml:
        return
    yield ""
    yield "2. In the configuration of xo-server (and of xo-proxy, if there is one)"
    yield ""
    yield paste.toml
    yield ""
    yield from _about_toml(paste)


def _about_tag(paste: Paste) -> Iterator[str]:
    if "PORT" in paste.tag or "ADDRESS" in paste.tag:
        yield "   Put what XO reaches this machine by in the place of ADDRESS and PORT; the"
        yield "   agent's log says at each start where it listens."
    if "token=" in paste.tag:
        yield "   This works with the XO of today. The token admits to this VM alone; whoever"
        yield "   sees the VM's tags in XO sees it too."
    elif paste.bare:
        yield "   No credential is in it: requests from the addresses in allow_from suffice."
        yield "   The bare tag makes XO take the first address that the VM's tools report; with"
        yield "   none the snapshot itself fails. A tag with a URL avoids that."
    else:
        yield "   The configuration takes no token (authenticate), and the XO of today sends"
        yield "   nothing else: it hears 403 until it is a version that sends the secret."
    yield "   XO takes its snapshot whatever the agent answers, and sets no tag of its own"
    yield "   on a good one: whether a snapshot is consistent stands in the agent's log."


def _about_toml(paste: Paste) -> Iterator[str]:
    if paste.secret is not None:
        yield "   The secret is for an XO that sends it. The XO of today does not, even when it"
        yield "   is configured: for that one the tag is what counts. One that does sends it to"
        yield "   whatever URL a tag names."
    if paste.timeout is not None:
        yield "   The timeout (milliseconds) is needed because freeze_budget is longer than XO"
        yield f"   waits of itself ({_XO_TIMEOUT} s)."
