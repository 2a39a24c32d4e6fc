"""Local ports of the box shown outside: a listener on this machine's loopback, a connection made from inside.

The launcher left a small process inside that opens connections to the granted ports and hands them out; the
bytes are
carried here, so nothing outside ever connects into the box's network by itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from allmend.box.record import Record
from allmend.errors import Unavailable

_DIAL_SECONDS = 5.0
_MOST_CONNECTIONS = 128


class Published:
    """The published ports of one box."""

    def __init__(self, dialer: socket.socket, record: Record) -> None:
        self.dialer = dialer
        self.record = record
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def start(self, ports: Sequence[int]) -> None:
        """Listen on each port of the loopback; raises `Unavailable` when one is taken."""
        self.dialer.settimeout(_DIAL_SECONDS)
        for port in ports:
            try:
                self._servers.append(await asyncio.start_server(self._accept(port), "127.0.0.1", port))
            except OSError as error:
                raise Unavailable(
                    f"port {port} cannot be published: {error.strerror}",
                    hint="End what uses it, or publish another.",
                ) from None
            self.record.add("port", f"127.0.0.1:{port}", "allowed", detail="published")

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
            async with self._turn:
                inner = await asyncio.to_thread(self._dial, port)
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

    def _dial(self, port: int) -> socket.socket | None:
        """A connection to `port` inside, or None when nothing listens there."""
        try:
            self.dialer.send(str(port).encode())
            _, fds, _, _ = socket.recv_fds(self.dialer, 4096, 4)
        except OSError:
            return None
        socks = [socket.socket(fileno=fd) for fd in fds]
        for extra in socks[1:]:
            extra.close()
        # What comes from inside is only ever used as a stream of bytes.
        return socks[0] if socks else None

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
