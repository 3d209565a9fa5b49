"""IP addresses as text, read in one way by all. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address


@lru_cache(maxsize=1024)
def parse_address(source: str | None) -> IPv4Address | IPv6Address | None:
    """Read an address, an IPv4-mapped IPv6 one (RFC 4291, 2.5.5.2) as the IPv4 one that it is.

    :param source: the address as the socket tells it.
    :return: the address, None where there is none.
    """
    try:
        address = ip_address(source or "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
