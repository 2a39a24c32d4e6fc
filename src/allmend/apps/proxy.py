"""The way from a browser to a notebook's own web server: HTTP and websockets, streamed, held to its own origin.

What comes back is hostile. Headers are taken by name, so that none sets a cookie for another name, reports to another
host or opens the page to others; a policy is put on every answer that lets its scripts run and reach nothing but their
own server and the hosts that the run was granted. A page can always navigate itself to another address: what a person
types into it can leave by that, which is why the link says whose page it is.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from allmend.apps.guard import cookies
from allmend.apps.servers import COOKIE, ENTER, Registry, Shown

if TYPE_CHECKING:
    import httpx

Scope = MutableMapping[str, Any]
_KEPT = frozenset(
    b"accept-ranges cache-control content-disposition content-encoding content-language content-length content-range "
    b"content-type etag expires last-modified location retry-after set-cookie vary www-authenticate".split()
)
"""Headers of an answer that pass, with every `x-` header but those that speak to the browser."""
_NOT_KEPT = frozenset((b"x-frame-options", b"x-dns-prefetch-control", b"x-content-type-options", b"x-xss-protection"))
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade "
    b"proxy-connection expect".split()
)
_OWN_ADDRESS = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])(?::\d{1,5})?(?=/|$)")
_CONNECT_SECONDS = 10.0
_MOST_MESSAGE = 64 * 2**20
_CLOSED_EARLY = 1011


class Proxy:
    """An ASGI application for every name in `registry`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request or websocket whose Host is a server's name."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        name = host.partition(":")[0].lower()
        shown = self.registry.find(name)
        refusal = self._refusal(scope, headers, host, shown)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        if scope["type"] == "http" and scope["path"] == ENTER:
            await self._enter(scope, send, name)
            return
        assert shown is not None and shown.path is not None
        shown.open_now += 1
        try:
            await (_websocket if scope["type"] == "websocket" else _http)(scope, receive, send, shown, host)
        finally:
            shown.open_now -= 1
            shown.used_at = time.monotonic()

    def _refusal(
        self, scope: Scope, headers: dict[bytes, str], host: str, shown: Shown | None
    ) -> tuple[int, str] | None:
        if shown is None:
            return 404, "The run that served this page is over, or there never was one."
        site, mode = headers.get(b"sec-fetch-site", "none"), headers.get(b"sec-fetch-mode", "navigate")
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if site not in ("none", "same-origin") and not (mode == "navigate" and reads):
            return 403, "A page of another site may not do this."
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}" and not (origin == "null" and reads):
            return 403, "A page of another site may not do this."
        if scope["path"] == ENTER:
            return None
        if not shown.knows(cookies(headers.get(b"cookie", "")).get(COOKIE, "")):
            return 401, "This page opens by a link that works once. Take a fresh link from the page of the run."
        if shown.path is None:
            return 503, "The notebook's server does not answer yet."
        return None

    async def _enter(self, scope: Scope, send: Any, name: str) -> None:
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        shown = self.registry.enter(name, token)
        if shown is None:
            await _answer(send, 401, _words(401, "This link has been used already. Take a fresh one from the run."))
            return
        cookie = f"{COOKIE}={shown.secret}; Path=/; HttpOnly; SameSite=Lax"
        # The browser asks again by itself, from this origin, so that no address with a token stays in its history.
        first = shown.first.encode("utf-8", "replace").decode("latin-1")
        first = first if re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", first) else "/"
        extra = [(b"set-cookie", cookie.encode()), (b"location", first.encode("latin-1"))]
        await _answer(send, 303, b"", extra)


async def _http(scope: Scope, receive: Any, send: Any, shown: Shown, host: str) -> None:
    import httpx

    transport = httpx.AsyncHTTPTransport(uds=str(shown.path), limits=httpx.Limits(max_keepalive_connections=0))
    request = httpx.Request(
        scope["method"],
        httpx.URL(scheme="http", host="server", raw_path=_raw_path(scope)),
        headers=_asked(scope, host),
        content=_body(scope, receive),
        extensions={"timeout": {"connect": _CONNECT_SECONDS, "read": None, "write": None, "pool": None}},
    )
    begun = False
    async with transport:
        try:
            answer = await _unless_gone(transport.handle_async_request(request), receive, scope)
            if answer is None:
                return
            begun = True
            await _pass_on(answer, receive, send, shown, host)
        except (httpx.HTTPError, OSError):
            if not begun:
                await _answer(send, 502, _words(502, "The notebook's server gave no answer. It may have ended."))


async def _pass_on(answer: httpx.Response, receive: Any, send: Any, shown: Shown, host: str) -> None:
    headers = _answered(answer.headers.raw, shown, host)
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})

    async def carry() -> bool:
        async for part in answer.stream:  # type: ignore[union-attr]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return True

    try:
        await _unless_gone(carry(), receive, None)
    finally:
        await answer.aclose()


async def _unless_gone(work: Any, receive: Any, scope: Scope | None) -> Any:
    """The result of `work`; None when the browser went away first. The request's body has been read when it matters."""
    task = asyncio.ensure_future(work)
    if scope is not None and _has_body(scope):
        return await task

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        for each in (task, watcher):
            if not each.done():
                each.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await each


def _has_body(scope: Scope) -> bool:
    names = {name.lower() for name, _ in scope["headers"]}
    return b"content-length" in names or b"transfer-encoding" in names


def _body(scope: Scope, receive: Any) -> AsyncIterator[bytes] | None:
    if not _has_body(scope):
        return None

    async def parts() -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise OSError("the browser went away")
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    return parts()


def _raw_path(scope: Scope) -> bytes:
    path = bytes(scope.get("raw_path") or scope["path"].encode())
    return path + (b"?" + scope["query_string"] if scope["query_string"] else b"")


def _asked(scope: Scope, host: str) -> list[tuple[bytes, bytes]]:
    """The browser's headers as the notebook sees them: all but what is between the browser and this proxy."""
    kept = [(b"host", host.encode("latin-1"))]
    for name, value in scope["headers"]:
        low = name.lower()
        if low == b"cookie":
            value = _without_ours(value)
        if low in _HOP or low == b"host" or not value:
            continue
        kept.append((low, value))
    return kept


def _without_ours(header: bytes) -> bytes:
    parts = [part.strip() for part in header.split(b";")]
    return b"; ".join(part for part in parts if part.partition(b"=")[0].strip() != COOKIE.encode())


def _answered(raw: list[tuple[bytes, bytes]], shown: Shown, host: str) -> list[tuple[bytes, bytes]]:
    kept = []
    for name, value in raw:
        low = name.lower()
        if low in _HOP or not (low in _KEPT or (low.startswith(b"x-") and low not in _NOT_KEPT)):
            continue
        if low == b"set-cookie":
            for cookie in _own_cookies(value):
                kept.append((low, cookie))
            continue
        if low == b"location":
            value = _OWN_ADDRESS.sub(f"http://{host}", value.decode("latin-1")).encode("latin-1")
        kept.append((low, value))
    return [*kept, *_held(shown, host)]


def _own_cookies(value: bytes) -> list[bytes]:
    """A cookie of the notebook's server, for this name alone."""
    text = value.decode("latin-1")
    name = text.partition("=")[0].strip()
    if name == COOKIE or any(ord(c) < 32 for c in text):
        return []
    parts = [part for part in text.split(";") if not part.strip().lower().startswith("domain")]
    return [";".join(parts).encode("latin-1")]


def _held(shown: Shown, host: str) -> list[tuple[bytes, bytes]]:
    granted = " ".join(f"https://{name} wss://{name}" for name in shown.hosts if re.fullmatch(r"[\w*.:-]+", name))
    own = f"'self' ws://{host} data: blob: {granted}"
    policy = (
        f"default-src {own} 'unsafe-inline' 'unsafe-eval'; form-action 'self'; frame-ancestors 'none'; "
        f"frame-src {own}; base-uri 'self'; object-src 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-dns-prefetch-control", b"off"),
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


async def _websocket(scope: Scope, receive: Any, send: Any, shown: Shown, host: str) -> None:
    from websockets.asyncio.client import unix_connect
    from websockets.exceptions import WebSocketException

    await receive()
    address = f"ws://{host}{_raw_path(scope).decode('latin-1')}"
    passed = [(n, v) for n, v in _asked(scope, host) if n in (b"cookie", b"user-agent", b"accept-language")]
    try:
        async with unix_connect(
            str(shown.path),
            address,
            origin=f"http://{host}",
            subprotocols=scope.get("subprotocols") or None,
            additional_headers=[(n.decode(), v.decode("latin-1")) for n, v in passed if n != b"user-agent"],
            max_size=_MOST_MESSAGE,
            open_timeout=_CONNECT_SECONDS,
            proxy=None,
        ) as inner:
            await send({"type": "websocket.accept", "subprotocol": inner.subprotocol})
            await _carry_messages(inner, receive, send)
    except (WebSocketException, OSError, TimeoutError):
        with suppress(Exception):  # it is closed already where it was open
            await send({"type": "websocket.close", "code": _CLOSED_EARLY})


async def _carry_messages(inner: Any, receive: Any, send: Any) -> None:
    from websockets.exceptions import ConnectionClosed

    async def outward() -> None:
        async for message in inner:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
        code = inner.close_code or 1000
        await send({"type": "websocket.close", "code": code if code not in (1005, 1006) else _CLOSED_EARLY})

    async def inward() -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            await inner.send(message["text"] if message.get("text") is not None else message["bytes"])

    tasks = [asyncio.ensure_future(outward()), asyncio.ensure_future(inward())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionClosed, OSError, RuntimeError):
                await task


async def _refuse(scope: Scope, receive: Any, send: Any, status: int, words: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await _answer(send, status, _words(status, words))


def _words(status: int, words: str) -> bytes:
    return (
        f'<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{status}</title><p>{html.escape(words)}</p>"
    ).encode()


async def _answer(send: Any, status: int, body: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"referrer-policy", b"no-referrer"),
        *(extra or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
