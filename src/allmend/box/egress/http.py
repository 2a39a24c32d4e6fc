"""Strict reading of HTTP/1.1 requests (RFC 9112). What two readers could read differently is refused, not
repaired."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MOST_HEAD = 65536
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOP = {
    "connection",
    "proxy-connection",
    "proxy-authorization",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "http2-settings",
}


class BadRequest(ValueError):
    """The request is malformed, or could be read in two ways."""


@dataclass
class Request:
    """The head of one request."""

    method: str
    target: str
    host: str
    port: int
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    length: int = 0
    """Bytes of body that follow."""
    chunked: bool = False

    def forward(self) -> bytes:
        """The head to send on: origin form, one request a connection."""
        shown = self.host if self.port == 80 else f"{self.host}:{self.port}"
        lines = [f"{self.method} {self.target} HTTP/1.1".encode("latin-1"), b"Host: " + shown.encode()]
        lines += [name.encode() + b": " + value for name, value in self.headers]
        return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def host_and_port(text: str, default: int) -> tuple[str, int]:
    """Split `name:port`; raises `BadRequest`."""
    name, colon, port = text.rpartition(":")
    if not colon:
        name, port = text, str(default)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or len(port) > 5:
        raise BadRequest("a malformed port")
    name = name.lower().rstrip(".")
    if not re.fullmatch(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\]", name):
        raise BadRequest("a malformed host name")
    return name, int(port)


def parse(head: bytes, *, host: str | None = None) -> Request:
    """Read a head (up to and including the empty line).

    `host` is the name a transparent connection was made to; without it the request must be CONNECT or
    absolute-form.
    Raises `BadRequest`.
    """
    if b"\0" in head or re.search(rb"(?<!\r)\n|\r(?!\n)", head):
        raise BadRequest("bare line ends")
    first, *lines = head[:-4].split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise BadRequest("a malformed request line")
    if not parts[1].isascii() or any(c <= 32 or c == 127 for c in parts[1]):
        raise BadRequest("a malformed target")
    method, target = parts[0].decode(), parts[1].decode()
    headers = [_header(line) for line in lines]
    if method == "CONNECT":
        if host is not None:
            raise BadRequest("CONNECT to a server that is no proxy")
        name, port = host_and_port(target, 443)
        return Request(method, target, name, port)
    length, chunked = _body(headers)
    named = [value.decode("latin-1").strip() for name, value in headers if name == "host"]
    if len(named) > 1:
        raise BadRequest("two Host headers")
    name, port, path = _place(target, host, named[0] if named else None)
    if any(key == "upgrade" for key, _ in headers):
        raise BadRequest("protocol upgrades are not passed on over plain HTTP")
    kept = [(key, value) for key, value in headers if key not in _HOP and key != "host"]
    return Request(method, path, name, port, kept, length, chunked)


def _place(target: str, host: str | None, named: str | None) -> tuple[str, int, str]:
    if target.startswith("/") and host is not None:
        if named is not None and host_and_port(named, 80)[0] != host:
            raise BadRequest("the Host header names another host than the connection")
        return host, 80, target
    if not target.startswith("http://"):
        raise BadRequest("only http:// targets and CONNECT are understood here")
    split = urlsplit(target)
    if "@" in split.netloc or not split.netloc:
        raise BadRequest("credentials in a URL")
    name, port = host_and_port(split.netloc, 80)
    if named is not None and host_and_port(named, 80) != (name, port):
        raise BadRequest("the Host header differs from the target")
    if host is not None and name != host:
        raise BadRequest("the target names another host than the connection")
    return name, port, (split.path or "/") + (f"?{split.query}" if split.query else "")


def _header(line: bytes) -> tuple[str, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name):
        raise BadRequest("a malformed header")
    return name.decode().lower(), value.strip(b" \t")


def _body(headers: list[tuple[str, bytes]]) -> tuple[int, bool]:
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise BadRequest("a body whose length could be read in two ways")
    if codings:
        if codings[0].lower() != b"chunked":
            raise BadRequest("an unknown transfer coding")
        return 0, True
    if lengths and not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise BadRequest("a malformed Content-Length")
    return int(lengths[0]) if lengths else 0, False


def chunk_size(line: bytes) -> int:
    """The size in a chunk's first line; raises `BadRequest`. Extensions are refused."""
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,12}\r\n", line):
        raise BadRequest("a malformed chunk")
    return int(line, 16)


def refusal(status: int, reason: str, text: str) -> bytes:
    """A plain response that ends the connection."""
    body = (text + "\n").encode()
    fields = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close"
    head = f"HTTP/1.1 {status} {reason}\r\n{fields}\r\n\r\n"
    return head.encode() + body
