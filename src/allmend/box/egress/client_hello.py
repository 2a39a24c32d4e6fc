"""Reading the server name out of a TLS ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), from hostile bytes."""

from __future__ import annotations

MOST = 65536
"""Bytes after which a hello that is still incomplete is refused."""


class NotTls(ValueError):
    """The bytes are no TLS ClientHello."""


def server_name(data: bytes) -> str | None:
    """The name asked for, `""` when the hello names none, None while more bytes are needed.

    Raises `NotTls`. The hello may be spread over several records.
    """
    handshake = _handshake(data)
    if handshake is None:
        if len(data) > MOST:
            raise NotTls("the ClientHello is too long")
        return None
    reader = _Reader(handshake)
    reader.take(2 + 32)  # version, random
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression
    if reader.at_end():
        return ""
    extensions = _Reader(reader.vector(2))
    name: str | None = None
    while not extensions.at_end():
        kind = extensions.number(2)
        body = extensions.vector(2)
        if kind == 0:
            if name is not None:
                raise NotTls("two server name extensions")
            name = _host_name(body)
    return name or ""


def _host_name(body: bytes) -> str:
    names = _Reader(_Reader(body).vector(2))
    found = ""
    while not names.at_end():
        kind = names.number(1)
        text = names.vector(2)
        if kind == 0:
            if found:
                raise NotTls("two server names")
            try:
                found = text.decode("ascii").lower().rstrip(".")
            except UnicodeDecodeError:
                raise NotTls("the server name is not ASCII") from None
    return found


def _handshake(data: bytes) -> bytes | None:
    """The ClientHello's body from one or more handshake records; None while incomplete."""
    body = b""
    offset = 0
    while True:
        header = data[offset : offset + 5]
        if header and header[0] != 22:
            raise NotTls("not a TLS handshake")
        if len(header) > 1 and header[1] != 3:
            raise NotTls("not TLS 1.x")
        if len(header) < 5:
            return None
        length = int.from_bytes(header[3:5], "big")
        if length == 0 or length > 16640:
            raise NotTls("a record of impossible length")
        body += data[offset + 5 : offset + 5 + length]
        offset += 5 + length
        if body and body[0] != 1:
            raise NotTls("not a ClientHello")
        if len(body) >= 4:
            wanted = int.from_bytes(body[1:4], "big")
            if wanted > MOST:
                raise NotTls("the ClientHello is too long")
            if len(body) >= 4 + wanted:
                return body[4 : 4 + wanted]
        if offset > len(data):
            return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def at_end(self) -> bool:
        return self.place >= len(self.data)

    def take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise NotTls("the ClientHello is cut short")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))
