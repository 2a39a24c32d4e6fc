"""Web servers that a notebook starts inside the box: found by looking, led to a socket that one reader alone can open.

The ports that are listened on are listed now and then; what answers HTTP is a web server, and the rest (a worker's
port, a debugger's) is nobody's business. Who may then speak to it is not decided here: a `Web` is told, and gives it an
address of its own.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from allmend.box.publish import Published
from allmend.box.record import Record

MOST_SERVERS = 20
_PROBES = 40
_PROBE_SECONDS = 3.0
_OURS = (3128,)


@dataclass(frozen=True)
class WebServer:
    """One web server inside."""

    port: int
    path: Path
    """A Unix socket that leads to it; it can be opened by the user that runs allmend, and from nowhere inside."""


class Web(Protocol):
    """Gives web servers of one run an address outside. Called from any thread."""

    def served(self, server: WebServer) -> None:
        """A web server answers now."""

    def address(self, port: int, path: str) -> str | None:
        """Where `port` will be shown, for code inside to print: an address that by itself opens nothing."""


class Finder:
    """Looks for web servers of one box."""

    def __init__(self, published: Published, record: Record, folder: Path) -> None:
        self.published = published
        self.record = record
        self.folder = folder
        self.found: dict[int, WebServer] = {}
        self._tried: dict[int, int] = {}
        self._looking = asyncio.Lock()
        """The box looks by itself, and whoever waits for a server asks it to: two looks beside each other would find
        the same one twice."""

    async def look(self, tell: Callable[[WebServer], None]) -> None:
        """Tell every web server that was not there before."""
        async with self._looking:
            await self._look(tell)

    async def _look(self, tell: Callable[[WebServer], None]) -> None:
        ways = self.published.ways
        for port in await asyncio.to_thread(ways.listening):
            tried = self._tried.get(port, 0)
            skip = port < 1024 or port in _OURS or port in self.found or tried >= _PROBES
            if skip or len(self.found) >= MOST_SERVERS or len(self._tried) > 500:
                continue
            self._tried[port] = tried + 1
            if await asyncio.to_thread(_answers_http, ways.dial, port):
                server = WebServer(port, self.folder / str(port))
                await self.published.open_socket(port, server.path)
                self.found[port] = server
                self.record.add("port", f"127.0.0.1:{port}", "allowed", detail="shown at an address of its own")
                tell(server)


def _answers_http(dial: Callable[[int], socket.socket | None], port: int) -> bool:
    sock = dial(port)
    if sock is None:
        return False
    with sock:
        try:
            sock.settimeout(_PROBE_SECONDS)
            sock.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return sock.recv(16)[:5] == b"HTTP/"
        except OSError:
            return False
