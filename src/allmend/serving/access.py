"""Who calls: their key and what it covers, and which host names a browser may reach a local server by."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from fnmatch import fnmatchcase
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from allmend.access.principal import Principal
from allmend.errors import AllmendError
from allmend.serving import edges, faults
from allmend.serving.desk import OPEN, WORD, Desk
from allmend.serving.faults import Fault
from allmend.serving.inside import MARK
from allmend.serving.visit import Visit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)
_OPEN = ("/health", "/ready")
"""What a load balancer asks, which holds no key."""
LAST = -10
"""Priority of what batches ask: behind everybody."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
FORMS: tuple[tuple[str, int], ...] = (
    ("/v1/files", (256 << 20) + (64 << 10)),
    ("/v1/uploads/*/parts", (64 << 20) + (64 << 10)),
    ("/v1/audio/trans*", (32 << 20) + (64 << 10)),
)
"""Paths, and the bytes that a form with a file may have there."""
SCOPES: tuple[tuple[str, str], ...] = (
    ("/v1/chat/", "serve:chat"),
    ("/v1/completions", "serve:chat"),
    ("/v1/responses", "serve:chat"),
    ("/v1/embeddings", "serve:embeddings"),
    ("/v1/rerank", "serve:embeddings"),
    ("/v2/rerank", "serve:embeddings"),
    ("/rerank", "serve:embeddings"),
    ("/v1/moderations", "serve:embeddings"),
    ("/v1/audio/", "serve:audio"),
    ("/v1/files", "serve:files"),
    ("/v1/uploads", "serve:files"),
    ("/v1/batches", "serve:files"),
    ("/v1/vector_stores", "serve:search"),
    ("/v1/models", "serve:read"),
    ("/openapi.json", "serve:read"),
    ("/metrics", "serve:metrics"),
    ("/v1/load_lora_adapter", "serve:admin"),
    ("/v1/unload_lora_adapter", "serve:admin"),
    ("/v1/replace_model", "serve:admin"),
)
"""Beginning of a path: the scope that it needs. What is not here needs `serve:admin`."""


class Access:
    """ASGI middleware: a `Visit` for every request; 401 without a key, 403 for what it does not cover or for a host
    name that is not this machine's own, 413, 429.

    A local server without a key is open to every page that a browser on this machine shows, if the page's name is
    pointed at 127.0.0.1 (DNS rebinding). Such requests carry the page's name as their host.
    """

    def __init__(self, app: App, *, desk: Desk, loopback: bool, largest: int, origins: tuple[str, ...] = ()) -> None:
        self._app = app
        self._desk = desk
        self._loopback = loopback
        self._largest = largest
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visit: Visit | None = None
        works = 0
        try:
            try:
                visit = await self._visit(scope, headers)
            except Fault as fault:
                await _answer(fault, send)
                return
            except AllmendError as error:
                await _answer(faults.of_error(error), send)
                return
            works = int(scope["method"] == "POST" and MARK not in scope)
            self._desk.under_way += works
            scope["allmend.visit"] = visit
            await self._app(scope, self._counted(receive, self._most(scope, headers)), _with_headers(send, visit))
        finally:
            try:
                if visit is not None:
                    await visit.close()
            except Fault as fault:
                # The answer is out; a connection that breaks now would take the client's next request with it.
                _log.error("a request's end was not written down: %s", fault.detail.message)
            finally:
                self._desk.under_way -= works

    async def _visit(self, scope: Scope, headers: Headers) -> Visit:
        if (who := scope.get(MARK)) is not None:
            return await self._inside(who, scope["path"])
        self._check_host(headers)
        edges.check_encoding(headers)
        self._check_size(headers, self._most(scope, headers))
        path = scope["path"]
        if path in _OPEN:
            return Visit(self._desk)
        principal = await self._principal(headers)
        needed = next((each for start, each in SCOPES if path.startswith(start)), "serve:admin")
        if not principal.anywhere(needed):
            raise Fault(403, f"This key does not cover {needed}.", type="permission_error", code="insufficient_scope")
        visit = Visit(self._desk, principal, headers)
        visit.name_user(headers)
        if scope["method"] == "POST":
            self._check_draining()
            try:
                await visit.enter(path)
            except BaseException:
                await visit.close()
                raise
        return visit

    async def _inside(self, who: Any, path: str) -> Visit:
        """A request of a batch: on the account of whoever made the batch, behind everybody else."""
        self._check_draining()
        principal = who if isinstance(who, Principal) else OPEN
        needed = next((each for start, each in SCOPES if path.startswith(start)), "serve:admin")
        if not principal.anywhere(needed):
            raise Fault(403, f"This key does not cover {needed}.", type="permission_error", code="insufficient_scope")
        visit = Visit(self._desk, principal)
        try:
            await visit.enter(path)
        except BaseException:
            await visit.close()
            raise
        visit.priority = LAST
        return visit

    def _check_draining(self) -> None:
        if self._desk.draining:
            again = {"retry-after": "1", "connection": "close", "x-should-retry": "true"}
            words = "The server is shutting down."
            raise Fault(503, words, type="server_error", code="shutting_down", headers=again)

    async def _principal(self, headers: Headers) -> Principal:
        if self._desk.is_open:
            return OPEN
        kind, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "").strip()
        # Headers are read as Latin-1: these are the bytes that came.
        if self._desk.word is not None and hmac.compare_digest(given.encode("latin-1"), self._desk.word.encode()):
            return WORD
        found = await self._of_database(given) if self._desk.keys else None
        if found is None:
            words = "Incorrect API key provided."
            if not given:
                words = "You didn't provide an API key: send `Authorization: Bearer`."
            raise Fault(401, words, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        return found

    async def _of_database(self, given: str) -> Principal | None:
        from allmend.access import keys

        if keys.needs_look_up(given):
            return await run_in_threadpool(keys.identify, given)
        return keys.identify(given)

    def _most(self, scope: Scope, headers: Headers) -> int:
        """Bytes that a body may have: forms with files, which are kept on disk, more than what is held in memory."""
        if headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return next((most for path, most in FORMS if fnmatchcase(scope["path"], path)), self._largest)
        return self._largest

    def _counted(self, receive: Receive, most: int) -> Receive:
        """`receive`, failing once a body that stated no length has grown too large."""
        taken = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                # Whoever reads the body lets this one through.
                raise HTTPException(413, f"The body has more than {most} bytes.", {"connection": "close"})
            return message

        return counted

    def _check_size(self, headers: Headers, most: int) -> None:
        stated = headers.get("content-length", "0")
        if stated.isdigit() and int(stated[:20]) > most:
            words = f"The body has {int(stated[:20])} bytes; at most {most} are taken."
            raise Fault(413, words, code="body_too_large", headers={"connection": "close"})

    def _check_host(self, headers: Headers) -> None:
        if not (self._desk.is_open and self._loopback):
            return
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
        if name and name not in _LOOPBACK:
            raise Fault(403, "This server answers to localhost only.", type="permission_error", code="host")
        edges.check_page(headers, _LOOPBACK, self._origins)


def _with_headers(send: Send, visit: Visit) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and visit.headers:
            more = [(name.encode(), value.encode("latin-1", "replace")) for name, value in visit.headers.items()]
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return sending


async def _answer(fault: Fault, send: Send) -> None:
    body = json.dumps(fault.body(), ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **(fault.headers or {})}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
