"""Which addresses the supervisor dials: public ones, unless this machine's owner granted the name."""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_6TO4 = ipaddress.ip_network("2002::/16")
_TEREDO = ipaddress.ip_network("2001::/32")


def is_public(text: str) -> bool:
    """Whether `text` is a unicast address of the public internet, looking through IPv4 embedded in IPv6.

    Loopback, private, link-local (cloud metadata), shared, reserved and multicast ranges are not.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if address in _6TO4 or address in _TEREDO or address in _NAT64_LOCAL or int(address) < 2**32:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_literal(host: str) -> bool:
    """Whether `host` is an address in any spelling that a resolver would take (`127.1`, `0x7f000001`, `[::1]`)."""
    bare = host.strip("[]").rstrip(".")
    if ":" in bare:
        return True
    last = bare.rpartition(".")[2]
    return last.isdigit() or last.lower().startswith("0x") or bare.isdigit() or not bare
