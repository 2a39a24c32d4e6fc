"""What lies around every route: who may speak, notebooks' own servers by name, the policy of every answer."""

from __future__ import annotations

import secrets
from typing import Any

from fastapi.responses import JSONResponse

from allmend.apps.guard import COOKIE, KEY_COOKIE, Guard, cookies
from allmend.apps.proxy import Proxy
from allmend.apps.servers import is_server_name
from allmend.pages import POLICY

# A page of another site gets neither hold of a window of ours nor our answers as pictures or scripts of its own.
_EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def _host_name(scope: Any) -> str:
    host = next((value for name, value in scope["headers"] if name.lower() == b"host"), b"")
    return str(host.decode("latin-1").partition(":")[0].lower())


class Guarded:
    """Puts the guard and the page policy around the application, and gives each visitor a name of their own."""

    def __init__(self, app: Any, guard: Guard, proxy: Proxy | None) -> None:
        self.app = app
        self.guard = guard
        self.proxy = proxy

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.proxy is not None and is_server_name(_host_name(scope)):
            await self.proxy(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self.guard.refusal(scope)
        if refusal is not None:
            status, words = refusal
            await JSONResponse({"error": {"message": words}}, status)(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        known = cookies(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE, "")
        visitor = known if len(known) == 32 and known.isalnum() else secrets.token_hex(16)
        scope.setdefault("state", {})["visitor"] = visitor

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                extra = list(_EVERYWHERE)
                if b"content-security-policy" not in names:
                    extra.append((b"content-security-policy", POLICY.encode()))
                if visitor != known:
                    extra.append((b"set-cookie", f"{COOKIE}={visitor}; Path=/; HttpOnly; SameSite=Strict".encode()))
                if self.guard.key is not None:
                    extra.append(
                        (b"set-cookie", f"{KEY_COOKIE}={self.guard.key}; Path=/; HttpOnly; SameSite=Strict".encode())
                    )
                message = message | {"headers": [*message["headers"], *extra]}
            await send(message)

        await self.app(scope, receive, sent)
