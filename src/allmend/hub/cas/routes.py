"""The routes. Unknown ones answer 404 with a clear body, which the stock client takes as "this hub does without"."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from allmend.errors import AllmendError, DoesNotFit, InputError, NotFound, Refused, Unavailable
from allmend.hub.cas import reconstruction
from allmend.hub.cas.tokens import CasTokens, Grant, Scope
from allmend.hub.store import Store, Stored, hashes, reading, shards, tables

ANSWER_SECONDS = 24 * 3600
"""How long a client may use what it was told of chunks that are here; far less than they are kept unused."""

_MOST_XORBS = 32  # told of at once: two gigabytes of chunks
_STATUS: dict[type[AllmendError], int] = {
    InputError: 400,
    Refused: 403,
    NotFound: 404,
    DoesNotFit: 413,
    Unavailable: 503,
}

Admitted = Callable[[Grant, Sequence[Stored]], Awaitable[None]]
"""Asked before uploaded files become known; raises `DoesNotFit` for a quota, `Refused` for anything else."""

Visible = Callable[[Grant, str], Awaitable[bool]]
"""Whether a grant may read a file: whether its repository reaches it."""


def cas_router(
    store: Store,
    *,
    tokens: CasTokens,
    base_url: str | None = None,
    admitted: Admitted | None = None,
    visible: Visible | None = None,
) -> APIRouter:
    """The `/v1/…` routes of the Xet protocol over `store`.

    Args:
        store: where everything lies.
        tokens: what the hub's token routes mint with.
        base_url: the hub's address in answers; None takes that of the request.
        admitted: see `Admitted`; None admits every file.
        visible: see `Visible`; None shows every file to every valid token.
    """
    routes = _Routes(store, tokens, base_url, admitted, visible)
    router = APIRouter()
    for method, path, function in (
        ("GET", "/v1/reconstructions/{name}", routes.reconstruction),
        ("GET", "/v1/chunks/{prefix}/{name}", routes.chunk),
        ("HEAD", "/v1/xorbs/{prefix}/{name}", routes.has_xorb),
        ("POST", "/v1/xorbs/{prefix}/{name}", routes.take_xorb),
        ("GET", "/v1/xorbs/{prefix}/{name}", routes.xorb_bytes),
        ("POST", "/v1/shards", routes.take_shard),
        ("POST", "/v1/telemetry", routes.telemetry),
    ):
        router.add_api_route(path, _plainly(function), methods=[method], include_in_schema=False, response_model=None)
    for path in ("/v1/{rest:path}", "/v2/{rest:path}"):
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]
        router.add_api_route(path, _unknown, methods=methods, include_in_schema=False, response_model=None)
    return router


Route = Callable[[Request], Awaitable[Response]]


def _plainly(function: Route) -> Route:
    async def route(request: Request) -> Response:
        try:
            return await function(request)
        except AllmendError as error:
            status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
            return JSONResponse({"error": error.message, "hint": error.hint}, status_code=status)

    route.__name__ = function.__name__
    return route


async def _unknown(request: Request) -> Response:
    words = f"this hub does not know {request.method} {request.url.path[:200]}"
    return JSONResponse({"error": words}, status_code=404)


class _Unauthorised(Refused):
    """No token, or one that does not hold."""


_STATUS[_Unauthorised] = 401
_STATUS = {kind: _STATUS[kind] for kind in sorted(_STATUS, key=lambda kind: -len(kind.__mro__))}


class _Routes:
    def __init__(
        self,
        store: Store,
        tokens: CasTokens,
        base_url: str | None,
        admitted: Admitted | None,
        visible: Visible | None,
    ) -> None:
        self._store, self._tokens, self._base_url = store, tokens, base_url
        self._admitted, self._visible = admitted, visible

    def _grant(self, request: Request, scope: Scope = "read") -> Grant:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _Unauthorised("this needs a token of the hub's xet-read-token or xet-write-token route")
        try:
            grant = self._tokens.verify(token.strip())
        except Refused as error:
            raise _Unauthorised(error.message, hint=error.hint) from None
        return self._tokens.verify(token.strip(), scope) if scope == "write" else grant

    async def reconstruction(self, request: Request) -> Response:
        """How a file, or a range of it, is put together."""
        grant = self._grant(request)
        name = hashes.text(hashes.raw(request.path_params["name"]))
        if self._visible is not None and not await self._visible(grant, name):
            raise NotFound("there is no such file in this repository", where=name)
        start, end = _range(request.headers.get("range")) or (0, None)
        base = self._base_url or str(request.base_url)
        expires = int(time.time()) + self._tokens.seconds

        def address(xorb: str, first: int, last: int) -> str:
            signature = self._tokens.sign_bytes(xorb, first, last, expires)
            where = f"{base.rstrip('/')}/v1/xorbs/default/{xorb}"
            return f"{where}?from={first}&to={last}&until={expires}&signature={signature}"

        body = await reconstruction.answer(self._store, name, start, end, address)
        if body is None:
            return JSONResponse({"error": "the range begins behind the file's end"}, status_code=416)
        return JSONResponse(body)

    async def chunk(self, request: Request) -> Response:
        """Which chunks are here, beside one that the client has."""
        self._grant(request)
        chunk = hashes.raw(request.path_params["name"])
        found = await asyncio.to_thread(tables.neighbours, chunk, _MOST_XORBS)
        if not found:
            return JSONResponse({"error": "no such chunk is here"}, status_code=404)
        rows = [
            (
                hashes.raw(xorb.hash),
                [(row["hash"].tobytes(), int(row["unpacked"])) for row in xorb.chunks],
                xorb.packed,
            )
            for xorb in found
        ]
        body = await asyncio.to_thread(lambda: shards.answer(rows, seconds=ANSWER_SECONDS))
        return Response(body, media_type="application/octet-stream")

    async def has_xorb(self, request: Request) -> Response:
        """Whether a xorb is here."""
        self._grant(request)
        found = await self._xorb(request.path_params["name"])
        return Response(status_code=200, headers={"content-length": str(found.packed)})

    async def take_xorb(self, request: Request) -> Response:
        """Take a xorb as it arrives."""
        self._grant(request, "write")
        new = await self._store.take_xorb(request.path_params["name"], request.stream())
        return JSONResponse({"was_inserted": new})

    async def take_shard(self, request: Request) -> Response:
        """Take a shard: its files become known."""
        grant = self._grant(request, "write")
        held = bytearray()
        async for piece in request.stream():
            held += piece
            if len(held) > shards.MOST_BYTES:
                raise InputError("a shard is longer than 64 MiB")

        async def allowed(files: Sequence[Stored]) -> None:
            if self._admitted is not None:
                await self._admitted(grant, files)

        await self._store.take_shard(bytes(held), allowed)
        return JSONResponse({"result": 1})

    async def xorb_bytes(self, request: Request) -> Response:
        """The bytes of a xorb that a signed address names, verified."""
        name, query = request.path_params["name"], request.query_params
        try:
            first, last, until = (int(query.get(key, "")) for key in ("from", "to", "until"))
        except ValueError:
            raise Refused("this address is not signed") from None
        signed = self._tokens.sign_bytes(name, first, last, until)
        if not hmac.compare_digest(signed, query.get("signature", "")) or until < time.time():
            raise Refused("this address is not signed, or has ended")
        asked = _range(request.headers.get("range"))
        if asked is not None and (asked[0] != first or asked[1] not in (None, last + 1)):
            raise Refused("this address is for another range")
        xorb = await self._xorb(name)
        ends = xorb.ends
        start = 0 if first == 0 else int(np.searchsorted(ends, first)) + 1
        end = int(np.searchsorted(ends, last + 1)) + 1
        parts = reading.pieces(xorb, start, end)
        if parts[0].span[0] != first or parts[-1].span[1] != last + 1:
            raise InputError("the range does not begin and end with a chunk")
        headers = {
            "content-length": str(last + 1 - first),
            "content-range": f"bytes {first}-{last}/{xorb.packed}",
            "accept-ranges": "bytes",
        }
        body = reading.packed(self._store.objects, self._store.catalogue, parts)
        return StreamingResponse(body, 206, headers, "application/octet-stream")

    async def telemetry(self, request: Request) -> Response:
        """Take what the client says of its speed, and forget it."""
        async for _ in request.stream():
            pass
        return JSONResponse({})

    async def _xorb(self, name: str) -> tables.Xorb:
        hashes.raw(name)
        return await self._store.catalogue.xorb(name)


_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def _range(header: str | None) -> tuple[int, int | None] | None:
    """A range from its start to before its end; None when none, or one of another form, was asked for."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    start, last = int(match[1]), match[2]
    return start, int(last) + 1 if last else None
