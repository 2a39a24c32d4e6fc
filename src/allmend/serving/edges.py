"""What HTTP lets clients write in several ways, in one; and which web pages may call.

A base address with a slash too many, or a path with one, means the same route. HEAD asks for GET's headers.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from allmend.errors import UsageError
from allmend.serving.faults import Fault

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

_HEAD = "allmend.head"
_NAMED = re.compile(r"/+v1/+models/(?=.)")
"""What follows is a model's name, in which slashes may stand first (a folder), and two of them (`hub://…`)."""
_APPS = ("app", "capacitor", "file", "ionic", "tauri", "vscode-file", "vscode-webview")
"""Schemes of programs that show pages of their own; a page of the web cannot have one of them."""
TOLD = (
    "x-request-id", "x-usage-id", "retry-after", "retry-after-ms", "x-queue-place", "x-queue-estimate",
    "x-fallback-from", "x-allmend-voice", "x-should-retry",
    *(f"x-ratelimit-{told}-{what}" for told in ("limit", "remaining", "reset") for what in ("requests", "tokens")),
)  # fmt: skip
"""Headers of ours that a page's script may read."""


class Edges:
    """ASGI middleware: paths with single slashes and none at the end; HEAD as GET, whose body the server leaves out."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            path = one_path(scope["path"])
            if path != scope["path"]:
                scope = {**scope, "path": path}
            if scope["method"] == "HEAD":
                # The server keeps its own scope, by which it knows that no body is to be sent.
                scope = {**scope, "method": "GET", _HEAD: True}
        await self._app(scope, receive, send)


def is_head(scope: Scope) -> bool:
    """Whether only the headers of what GET would answer are asked for."""
    return _HEAD in scope


def one_path(path: str) -> str:
    """A path with single slashes, and none at its end."""
    if "//" not in path and not path.endswith("/"):
        return path
    named = _NAMED.match(path)
    begin, rest = ("/v1/models/", path[named.end() :]) if named else ("", re.sub("/{2,}", "/", path))
    return (begin + rest).rstrip("/") or "/"


def origins(given: Sequence[str], *, has_key: bool) -> tuple[str, ...]:
    """Origins of pages that may call, as browsers write them; raises `UsageError` for what is none."""
    made = []
    for text in given:
        if text == "*":
            if not has_key:
                words = "without a key, every page that a browser here shows could use this server"
                raise UsageError(words, where="--origin '*'", hint="Name the pages' addresses, or ask for a key.")
            made.append(text)
            continue
        try:
            parts = urlsplit(text)
            whole = bool(parts.scheme and parts.hostname) and parts.path in ("", "/") and not parts.query
            port = f":{parts.port}" if parts.port is not None else ""
        except ValueError:
            whole, port = False, ""
        if not whole or "@" in parts.netloc:
            raise UsageError(f"{text!r} is no origin", where="--origin", hint="Like https://app.example.org")
        standard = {"http": ":80", "https": ":443"}.get(parts.scheme)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        made.append(f"{parts.scheme}://{host}{'' if port == standard else port}")
    return tuple(made)


def check_page(headers: Headers, loopback: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise `Fault` 403 where a page of another machine calls a server that asks for no key.

    A browser lets any page send forms here without asking first, though it may not read what is answered.
    """
    origin = headers.get("origin")
    if origin is None or origin.lower() in allowed or "*" in allowed:
        return
    try:
        parts = urlsplit(origin)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme = host = ""
    if scheme not in _APPS and host not in loopback and not host.endswith(".localhost"):
        words = f"Pages of {origin[:200]} may not use this server; `--origin` lets them."
        raise Fault(403, words, type="permission_error", code="origin")


def check_encoding(headers: Headers) -> None:
    """Raise `Fault` 415 for a body that is packed: unpacked it could have any size."""
    packed = headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        words = f"The body is packed ({packed[:40]}); send it as it is, without content-encoding."
        raise Fault(415, words, code="unsupported_encoding", headers={"accept-encoding": "identity"})
