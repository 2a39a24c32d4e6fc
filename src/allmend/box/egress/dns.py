"""The box's own name server: granted names get an address of its own loopback, all else does not exist.

Messages as in RFC 1035; one question, no compression in it. Every name asked for is recorded, granted or not,
because
a question that leaves the machine would carry data out by itself: none ever does.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

_A, _AAAA, _ANY = 1, 28, 255
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP = 0, 1, 3, 4
MOST_NAMES = 4096


class Names:
    """Addresses 127.77.x.y by granted name, so that a connection to one says which name was meant."""

    def __init__(self) -> None:
        self._by_name: dict[str, str] = {}
        self._by_address: dict[str, str] = {}
        self._lock = threading.Lock()

    def address(self, name: str) -> str | None:
        """The address for `name`, None when there are none left."""
        with self._lock:
            if name not in self._by_name:
                place = len(self._by_name) + 1
                if place > MOST_NAMES:
                    return None
                address = f"127.77.{place // 250}.{place % 250 + 1}"
                self._by_name[name] = address
                self._by_address[address] = name
            return self._by_name[name]

    def name(self, address: str) -> str | None:
        """The name that `address` was given for."""
        return self._by_address.get(address)


def question(message: bytes) -> tuple[str, int] | None:
    """The (name, type) asked for; None when the message is malformed. Names are lower-case, without the last
    dot."""
    if len(message) < 17 or len(message) > 4096 or message[2] & 0x80:
        return None
    if struct.unpack("!H", message[4:6])[0] != 1:
        return None
    labels: list[str] = []
    place, total = 12, 0
    while True:
        if place >= len(message):
            return None
        length = message[place]
        if length == 0:
            break
        total += length + 1
        if length > 63 or total > 254 or place + 1 + length > len(message):
            return None
        labels.append(message[place + 1 : place + 1 + length].decode("latin-1").lower())
        place += 1 + length
    if place + 5 > len(message) or not labels:
        return None
    kind: int = struct.unpack("!H", message[place + 1 : place + 3])[0]
    return ".".join(labels), kind


def answer(message: bytes, known: Callable[[str], bool], names: Names) -> tuple[bytes, str | None, bool]:
    """The reply to `message`, the name it asked for, and whether that is granted. An empty reply sends nothing."""
    if len(message) < 12:
        return b"", None, False
    asked = question(message)
    if asked is None:
        return _reply(message, b"", _FORMERR), None, False
    name, kind = asked
    end = message.index(b"\0", 12) + 5
    copied = message[12:end]
    if message[2] >> 3 & 15:
        return _reply(message, copied, _NOTIMP), name, False
    if not known(name):
        return _reply(message, copied, _NXDOMAIN), name, False
    address = names.address(name) if kind in (_A, _ANY) else None
    if address is None:
        return _reply(message, copied, _NOERROR), name, True
    record = struct.pack("!HHHIH", 0xC00C, _A, 1, 60, 4) + bytes(int(part) for part in address.split("."))
    return _reply(message, copied, _NOERROR, record), name, True


def _reply(message: bytes, copied: bytes, code: int, record: bytes = b"") -> bytes:
    flags = 0x8180 | (message[2] & 1) << 8 | code
    counts = struct.pack("!HHHH", 1 if copied else 0, 1 if record else 0, 0, 0)
    return message[:2] + struct.pack("!H", flags) + counts + copied + record
