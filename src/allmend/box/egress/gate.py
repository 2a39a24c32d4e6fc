"""One connection out of the box, from its first byte to its last.

Three entrances (CONNECT, absolute-form HTTP, the transparent ports) and one exit: a granted name, resolved by the
supervisor, dialled at a public address, its bytes counted, its TLS server name held equal to the granted one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from allmend.box.egress import addresses, client_hello, http
from allmend.box.egress.policy import Grant, Policy
from allmend.box.record import Record
from allmend.errors import Refused

HEAD_SECONDS = 20.0
IDLE_SECONDS = 600.0
DIAL_SECONDS = 30.0
_BLOCK = 65536

Resolve = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]
"""(name, port) to the (address, port) pairs to dial."""

Local = Callable[[http.Request, bytes], tuple[int, str]]
"""Answers a request to the box's own service: (status, text)."""

Dial = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to an (address, port) that was found to be dialable."""

LOCAL_NAME = "allmend.box"


async def resolve(name: str, port: int) -> Sequence[tuple[str, int]]:
    """The system's own name resolution."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


class Gate:
    """Decides and carries connections; the servers hand each one to it."""

    def __init__(
        self,
        policy: Policy,
        record: Record,
        *,
        resolver: Resolve = resolve,
        connect: Dial = asyncio.open_connection,
        local: Local | None = None,
    ) -> None:
        self.policy = policy
        self.connect = connect
        self.record = record
        self.resolver = resolver
        self.local = local
        self._questions = ThreadPoolExecutor(4, thread_name_prefix="allmend-asks")

    async def proxied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to the proxy port."""
        request = await self._head(reader, writer, None)
        if request is None:
            return
        if request.host == LOCAL_NAME:
            await self._local(request, reader, writer)
            return
        try:
            grant = await self._permitted(request.host, request.port)
        except Refused as error:
            await _say(writer, 403, "Forbidden", f"allmend: {error}")
            return
        if request.method != "CONNECT":
            await self._plain(request, grant, reader, writer)
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        if request.port in (80, 443):
            await self._tls(request.host, request.port, grant, reader, writer)
        else:
            await self._tunnel(request.host, request.port, grant, b"", reader, writer)

    async def transparent_tls(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to port 443 of the address that stands for `name`."""
        try:
            grant = await self._permitted(name, 443)
        except Refused:
            return
        await self._tls(name, 443, grant, reader, writer)

    async def transparent_http(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to port 80 of the address that stands for `name`."""
        request = await self._head(reader, writer, name)
        if request is None:
            return
        try:
            grant = await self._permitted(request.host, request.port)
        except Refused as error:
            await _say(writer, 403, "Forbidden", f"allmend: {error}")
            return
        await self._plain(request, grant, reader, writer)

    async def _permitted(self, name: str, port: int) -> Grant:
        """The grant for a name; raises `Refused`. Recorded either way."""
        shown = f"{name}:{port}"
        try:
            if addresses.is_literal(name) and not self.policy.by_operator(name, port):
                raise Refused(f"{shown} is an address; hosts are permitted by name", hint="Use the host's name.")
            grant = self.policy.look_up(name, port) or await self._asked(name, port)
        except Refused as error:
            self.record.add("host", shown, "denied", source="proxy", detail=error.message, advice=error.hint)
            raise
        detail = "a person allowed it while it ran" if grant.asked else ""
        self.record.add("host", shown, "allowed", source="proxy", operator=grant.operator, detail=detail)
        return grant

    async def _asked(self, name: str, port: int) -> Grant:
        """Ask a person, on threads kept for that: no number of open questions holds anything else up."""
        return await asyncio.get_running_loop().run_in_executor(self._questions, self.policy.find, name, port)

    def close(self) -> None:
        """Give the threads back."""
        self._questions.shutdown(wait=False, cancel_futures=True)

    async def _head(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str | None
    ) -> http.Request | None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            return http.parse(head, host=host)
        except http.BadRequest as error:
            self.record.add("host", host or "proxy", "denied", source="proxy", detail=f"bad request: {error}")
            await _say(writer, 400, "Bad Request", f"allmend: this request was not passed on: {error}")
        except (asyncio.LimitOverrunError, TimeoutError):
            self.record.add("host", host or "proxy", "denied", source="proxy", detail="bad request: endless head")
            await _say(
                writer,
                431,
                "Request Header Fields Too Large",
                "allmend: the request's head is too long or too slow",
            )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        return None

    async def _local(self, request: http.Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.local is None or request.chunked or request.length > _BLOCK:
            await _say(writer, 404, "Not Found", "not here")
            return
        body = await reader.readexactly(request.length)
        status, text = await asyncio.to_thread(self.local, request, body)
        await _say(writer, status, "OK" if status == 200 else "Refused", text, newline=False)

    async def _tls(
        self, name: str, port: int, grant: Grant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass TLS on once its ClientHello asks for `name`; not a byte goes out before that."""
        data = b""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                asked = None
                while asked is None:
                    block = await reader.read(_BLOCK)
                    if not block:
                        return
                    data += block
                    asked = client_hello.server_name(data)
        except client_hello.NotTls as error:
            self.record.add("host", f"{name}:{port}", "denied", source="proxy", detail=f"not TLS: {error}")
            return
        except TimeoutError:
            return
        if asked != name:
            shown = asked[:253] or "no name"
            self.record.add(
                "host", f"{name}:{port}", "denied", source="proxy", detail=f"TLS asked for {shown!r} instead"
            )
            return
        await self._tunnel(name, port, grant, data, reader, writer)

    async def _tunnel(
        self,
        name: str,
        port: int,
        grant: Grant,
        first: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            out_reader, out_writer = await self.dial(name, port, grant)
        except (Refused, OSError):
            return
        try:
            if first:
                out_writer.write(first)
                self.record.traffic(name, port, sent=len(first), operator=grant.operator)
            await asyncio.gather(
                self._copy(reader, out_writer, name, port, "sent"),
                self._copy(out_reader, writer, name, port, "received"),
            )
        finally:
            out_writer.close()

    async def _plain(
        self, request: http.Request, grant: Grant, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One plain request and its response; nothing that follows the body is passed on."""
        name, port = request.host, request.port
        try:
            out_reader, out_writer = await self.dial(name, port, grant)
        except Refused as error:
            await _say(writer, 403, "Forbidden", f"allmend: {error}")
            return
        except OSError as error:
            await _say(
                writer,
                502,
                "Bad Gateway",
                f"allmend: {name}:{port} could not be reached ({error.strerror or error})",
            )
            return
        try:
            await asyncio.gather(
                self._send_request(request, reader, out_writer),
                self._copy(out_reader, writer, name, port, "received"),
            )
        except (http.BadRequest, asyncio.IncompleteReadError, ValueError) as error:
            self.record.add("host", f"{name}:{port}", "denied", source="proxy", detail=f"bad request: {error}")
        finally:
            out_writer.close()

    async def _send_request(
        self, request: http.Request, reader: asyncio.StreamReader, out: asyncio.StreamWriter
    ) -> None:
        async def pass_on(data: bytes) -> None:
            self._check_still(request.host, request.port)
            out.write(data)
            self.record.traffic(request.host, request.port, sent=len(data))
            await out.drain()

        await pass_on(request.forward())
        left = request.length
        while left:
            block = await reader.read(min(left, _BLOCK))
            if not block:
                raise http.BadRequest("the body is cut short")
            left -= len(block)
            await pass_on(block)
        while request.chunked:
            line = await reader.readuntil(b"\r\n")
            size = http.chunk_size(line)
            await pass_on(line)
            left = size + 2
            while left:
                block = await reader.readexactly(min(left, _BLOCK))
                left -= len(block)
                await pass_on(block)
            if size == 0:
                break

    async def dial(self, name: str, port: int, grant: Grant) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to `name` at an address that may be dialled; raises `Refused` or OSError."""
        try:
            found = await self.resolver(name, port)
        except OSError as error:
            self.record.add(
                "host", f"{name}:{port}", "attempted", source="proxy", detail="the name could not be resolved"
            )
            raise ConnectionError(f"{name} could not be resolved") from error
        usable = [pair for pair in found if grant.operator or addresses.is_public(pair[0])]
        if not usable:
            self.record.add("host", f"{name}:{port}", "denied", source="proxy", detail="it has no public address")
            raise Refused(
                f"{name} leads to an address that is not public", hint="Only public addresses can be reached."
            )
        failure: OSError = ConnectionError("no address")
        for address, target in usable[:4]:
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    streams = await self.connect(address, target)
                self.record.traffic(name, port, connections=1, operator=grant.operator)
                return streams
            except OSError as error:
                failure = error
        raise failure

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, name: str, port: int, way: str
    ) -> None:
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    block = await source.read(_BLOCK)
                if not block:
                    break
                if way == "sent":
                    self._check_still(name, port)
                sink.write(block)
                if way == "sent":
                    self.record.traffic(name, port, sent=len(block))
                else:
                    self.record.traffic(name, port, received=len(block))
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()
        except (OSError, TimeoutError):
            sink.close()

    def _check_still(self, name: str, port: int) -> None:
        """Before each block goes out; raises ConnectionError when the connection may not go on."""
        if not self.policy.still(name, port):
            why = "the connection was open when a secret for other hosts was handed over"
            self.record.add("host", f"{name}:{port}", "denied", source="proxy", detail=why)
            raise ConnectionAbortedError(why)


async def _say(writer: asyncio.StreamWriter, status: int, reason: str, text: str, *, newline: bool = True) -> None:
    try:
        writer.write(http.refusal(status, reason, text) if newline else _exact(status, reason, text))
        await writer.drain()
    except OSError:
        pass


def _exact(status: int, reason: str, text: str) -> bytes:
    body = text.encode()
    return f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
