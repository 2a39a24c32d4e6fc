"""The listening sockets of one box: they live in the box's network namespace, the supervisor accepts on them.

A listening socket belongs to the namespace it was made in, wherever its descriptor is; so nothing of ours runs
inside
and nothing inside can be stopped or impersonated.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Awaitable, Callable
from typing import cast

from allmend.box.egress import dns, http
from allmend.box.egress.gate import Gate

MOST_CONNECTIONS = 256
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Servers:
    """The proxy, the transparent ports and the name server of one box."""

    gate: Gate

    def __init__(self) -> None:
        self._admitted: dict[int, float] | None = None
        self.names = dns.Names()
        self._servers: list[asyncio.Server] = []
        self._transports: list[asyncio.DatagramTransport] = []
        self._open: set[asyncio.Task[None]] = set()

    def admit(self, port: int) -> None:
        """Level B: a connection from this local port is the box's own (other programs' are not served)."""
        if self._admitted is None:
            self._admitted = {}
        now = time.monotonic()
        if len(self._admitted) > 1000:
            self._admitted = {key: at for key, at in self._admitted.items() if now - at < 10}
        self._admitted[port] = now

    async def start(self, listeners: dict[str, socket.socket], *, private: bool = False) -> None:
        """Serve on `listeners` (`proxy`, `http`, `https`, `dns`; any may be missing)."""
        self.private = private
        handlers: dict[str, Handler] = {
            "proxy": self.gate.proxied,
            "http": self._transparent_http,
            "https": self._transparent_tls,
        }
        for name, sock in listeners.items():
            sock.setblocking(False)
            if name == "dns":
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_datagram_endpoint(lambda: _NameServer(self), sock=sock)
                self._transports.append(transport)
            else:
                accept = self._bounded(handlers[name])
                self._servers.append(await asyncio.start_server(accept, sock=sock, limit=http.MOST_HEAD))

    def _bounded(self, handler: Handler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self.private and (self._admitted or {}).pop(writer.get_extra_info("peername")[1], None) is None:
                writer.transport.abort()
                return
            if len(self._open) >= MOST_CONNECTIONS:
                self.gate.record.add(
                    "limit", f"more than {MOST_CONNECTIONS} connections at once", "denied", source="proxy"
                )
                writer.transport.abort()
                return
            task = asyncio.create_task(_carry(handler, reader, writer))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        return accept

    async def _transparent_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = self._meant(writer, 443)
        if name is not None:
            await self.gate.transparent_tls(name, reader, writer)

    async def _transparent_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = self._meant(writer, 80)
        if name is not None:
            await self.gate.transparent_http(name, reader, writer)

    def _meant(self, writer: asyncio.StreamWriter, port: int) -> str | None:
        """The name whose address was connected to."""
        address = str(writer.get_extra_info("sockname")[0])
        name = self.names.name(address)
        if name is None:
            self.gate.record.add(
                "connect", f"{address}:{port}", "denied", source="proxy", detail="an address, not a name"
            )
        return name

    async def stop(self) -> None:
        """Close everything, connections included."""
        for server in self._servers:
            server.close()
        for transport in self._transports:
            transport.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        if hasattr(self, "gate"):
            self.gate.close()


async def _carry(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await handler(reader, writer)
    except (OSError, EOFError, TimeoutError, ValueError):
        pass  # the other side broke off or sent nonsense; what mattered is recorded
    finally:
        writer.close()


class _NameServer(asyncio.DatagramProtocol):
    def __init__(self, servers: Servers) -> None:
        self.servers = servers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        gate = self.servers.gate

        def known(name: str) -> bool:
            # Where a person can be asked, the question is put when the connection comes.
            return gate.policy.knows(name) or (gate.policy.interactive and _HOST.fullmatch(name) is not None)

        reply, name, granted = dns.answer(data, known, self.servers.names)
        if name is not None and not granted:
            gate.record.add("dns", name, "denied", source="dns")
        if reply:
            self.transport.sendto(reply, addr)
