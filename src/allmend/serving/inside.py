"""Asking the application from inside: what works through a batch calls the same routes as everybody."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

MARK = "allmend.inside"
"""In the scope of a request that came from inside: it was let in when its batch was made. Nobody can send it."""
_ANYBODY = "operator"


@dataclass(frozen=True)
class Answered:
    """What a route answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def principal_of(request: Request) -> Any:
    """Who asks, where the middleware says so."""
    return getattr(request.scope.get("allmend.visit"), "principal", None)


def owner_of(request: Request) -> str:
    """Whose files and batches these are: the account of the key, and the user behind it where it names one."""
    principal = principal_of(request)
    if principal is None:
        return _ANYBODY
    user = getattr(principal, "user", None)
    return f"{principal.account}/{user}" if user else str(principal.account)


async def post(app: Any, path: str, body: bytes, principal: Any = None) -> Answered:
    """The application's answer to a POST of JSON, on behalf of whoever `principal` is."""
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
        # Whoever made the batch; the middleware lets it in on that account.
        MARK: principal or True,
    }
    sent = False
    status, headers, parts = 500, {}, []

    async def receive() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            # Nobody hangs up: whoever looks whether the client is gone finds that it is not.
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    with suppress(Exception):  # the outermost layer answers a failure with 500 and raises it again
        await app(scope, receive, send)
    return Answered(status, headers, b"".join(parts))
