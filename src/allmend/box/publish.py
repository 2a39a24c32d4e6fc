"""Local ports of the box shown outside: a listener on this machine's loopback, a connection made from inside.

The launcher left a small process inside that opens connections to the granted ports and hands them out; the
bytes are
carried here, so nothing outside ever connects into the box's network by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from allmend.box.record import Record
from allmend.errors import Unavailable

_DIAL_SECONDS = 5.0
_MOST_CONNECTIONS = 128


class Ways(Protocol):
    """Connections to servers inside the box, and which there are."""

    def dial(self, port: int) -> socket.socket | None:
        """A connection to `port` inside, or None when nothing listens there. Blocks for some seconds at most."""

    def listening(self) -> list[int]:
        """The ports that are listened on inside."""


class Dialer(Ways):
    """Level A: a small process inside opens connections and hands them out."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._requests.settimeout(_DIAL_SECONDS)
        self._turn = threading.Lock()

    def dial(self, port: int) -> socket.socket | None:
        """As in `Ways`."""
        text, fds = self._ask(str(port))
        socks = [socket.socket(fileno=fd) for fd in fds]
        kept = socks.pop(0) if socks and text == f"connected {port}" else None
        for extra in socks:
            extra.close()
        # What comes from inside is only ever used as a stream of bytes.
        return kept

    def listening(self) -> list[int]:
        """As in `Ways`."""
        text, fds = self._ask("list")
        for fd in fds:
            os.close(fd)
        words = text.split()
        if not words or words[0] != "listening":
            return []
        return [int(word) for word in words[1:200] if word.isascii() and word.isdigit() and len(word) < 6]

    def _ask(self, what: str) -> tuple[str, list[int]]:
        with self._turn:
            try:
                self._drain()
                self._requests.send(what.encode())
                data, fds, _, _ = socket.recv_fds(self._requests, 4096, 4)
            except OSError:
                return "", []
        return data.decode("ascii", "replace"), fds

    def _drain(self) -> None:
        """Throw away answers that came after their time, so that none is taken for another's."""
        self._requests.setblocking(False)
        try:
            while True:
                data, fds, _, _ = socket.recv_fds(self._requests, 4096, 4)
                for fd in fds:
                    os.close(fd)
                if not data:
                    return
        except BlockingIOError:
            return
        finally:
            self._requests.settimeout(_DIAL_SECONDS)


class Loopback(Ways):
    """Level B: servers of the box are on this machine's loopback; only ports that are the box's own are dialled."""

    def __init__(self, own: Callable[[], list[int]]) -> None:
        self._own = own

    def dial(self, port: int) -> socket.socket | None:
        """As in `Ways`."""
        if port not in self._own():
            return None
        for host in ("127.0.0.1", "::1"):
            try:
                return socket.create_connection((host, port), _DIAL_SECONDS)
            except OSError:
                continue
        return None

    def listening(self) -> list[int]:
        """As in `Ways`."""
        return self._own()


class Published:
    """Ports of one box that can be reached from outside it: published ones, and sockets for one reader alone."""

    def __init__(self, ways: Ways, record: Record) -> None:
        self.ways = ways
        self.record = record
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, ports: Sequence[int]) -> None:
        """Listen on each port of the loopback; raises `Unavailable` when one is taken."""
        for port in ports:
            try:
                self._servers.append(await asyncio.start_server(self._accept(port), "127.0.0.1", port))
            except OSError as error:
                raise Unavailable(
                    f"port {port} cannot be published: {error.strerror}",
                    hint="End what uses it, or publish another.",
                ) from None
            self.record.add("port", f"127.0.0.1:{port}", "allowed", detail="published")

    async def open_socket(self, port: int, path: Path) -> None:
        """Lead connections to the Unix socket `path`, which only this process's user can open, to `port` inside."""
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._servers.append(await asyncio.start_unix_server(self._accept(port), str(path)))

    def _accept(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._open) >= _MOST_CONNECTIONS:
                writer.transport.abort()
                return
            task = asyncio.create_task(self._carry(port, reader, writer))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        return accept

    async def _carry(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner = await asyncio.to_thread(self.ways.dial, port)
            if inner is None:
                return
            inner_reader, inner_writer = await asyncio.open_connection(sock=inner)
            try:
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
            finally:
                inner_writer.close()
        except OSError:
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        """Stop listening and break off what is open."""
        for server in self._servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while block := await source.read(65536):
            sink.write(block)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except OSError:
        sink.close()
