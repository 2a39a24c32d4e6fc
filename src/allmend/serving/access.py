"""Who may call: the key, and which host names a browser may reach a local server by."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from allmend.serving.faults import Fault
from allmend.serving.inside import MARK

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/health", "/ready")
"""What a load balancer asks, which holds no key."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


class Access:
    """ASGI middleware: 401 without the key, 403 for a host name that is not this machine's own, 413.

    A local server without a key is open to every page that a browser on this machine shows, if the page's name is
    pointed at 127.0.0.1 (DNS rebinding). Such requests carry the page's name as their host.
    """

    def __init__(self, app: App, *, key: str | None, loopback: bool, largest: int) -> None:
        self._app = app
        self._key = key.encode() if key else None
        self._loopback = loopback
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] == "http" and not scope.get(MARK) and (fault := self._fault(scope)) is not None:
            await _answer(fault, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        """`receive`, failing once a body that stated no length has grown too large: its reader answers 400."""
        taken = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest:
                raise ValueError(f"the body has more than {self._largest} bytes")
            return message

        return counted

    def _fault(self, scope: Scope) -> Fault | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        return self._stranger(scope, headers) or self._too_large(headers)

    def _too_large(self, headers: dict[bytes, bytes]) -> Fault | None:
        stated = headers.get(b"content-length", b"0")
        if stated.isdigit() and int(stated[:20]) > self._largest:
            words = f"The body has {int(stated[:20])} bytes; at most {self._largest} are taken."
            return Fault(413, words, code="body_too_large", headers={"connection": "close"})
        return None

    def _stranger(self, scope: Scope, headers: dict[bytes, bytes]) -> Fault | None:
        if self._key is None:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
            if self._loopback and name and name not in _LOOPBACK:
                return Fault(403, "This server answers to localhost only.", type="permission_error", code="host")
            return None
        if scope["path"] in _OPEN:
            return None
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._key):
            return None
        words = (
            "Incorrect API key provided." if given else "You didn't provide an API key: send `Authorization: Bearer`."
        )
        return Fault(401, words, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


async def _answer(fault: Fault, send: Send) -> None:
    headers = {"content-type": "application/json", **(fault.headers or {})}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": pairs})
    await send({"type": "http.response.body", "body": json.dumps(fault.body()).encode()})
