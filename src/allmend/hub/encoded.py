"""Addresses as they were written: `refs%2Fpr%2F1` is one part of a path, not three.

Servers hand applications a path that is decoded already, where a revision's slashes can no longer be told from the
address's own. Here the path is decoded part by part; a slash inside a part stays `%2F`, a percent sign `%25`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from allmend.hub.faults import Fault

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class EncodedPaths:
    """ASGI middleware that keeps encoded slashes encoded."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its path decoded part by part."""
        raw = scope.get("raw_path")
        if scope["type"] == "http" and raw:
            parts = raw.split(b"?")[0].decode("latin-1").split("/")
            try:
                path = "/".join(_kept(unquote(part, errors="strict")) for part in parts)
            except UnicodeDecodeError:
                path = "\0"
            if "\0" in path or b"%00" in scope.get("query_string", b""):
                fault = Fault(400, "The address is no text.")
                await fault.response()(scope, receive, send)
                return
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def _kept(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def plain(part: str) -> str:
    """A part of the path as it was meant."""
    return part.replace("%2F", "/").replace("%25", "%")


def split_revision(rest: str) -> tuple[str, str]:
    """A revision and the path after it; `refs/…` that nobody encoded is three parts or more.

    `rest` is as routes have it, with encoded slashes.
    """
    parts = rest.split("/")
    if parts[0] == "refs" and len(parts) >= 3:
        return "/".join(plain(part) for part in parts[:3]), "/".join(plain(part) for part in parts[3:])
    return plain(parts[0]), "/".join(plain(part) for part in parts[1:])
