"""Which names a local hub answers to.

A page of another site can point its own name at 127.0.0.1 and then read what the hub shows (DNS rebinding); such
requests carry the page's name as their host. Everything that is changed needs a token, which a page has not.
"""

from __future__ import annotations

from collections.abc import Callable

from allmend.access import is_loopback
from allmend.hub.encoded import App, Receive, Scope, Send
from allmend.hub.faults import Fault


class Hosts:
    """ASGI middleware: 403 for a host that is not this machine's own, where only this machine is listened to."""

    def __init__(self, app: App, *, loopback: bool, first: Callable[[], None]) -> None:
        self._app = app
        self._loopback = loopback
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it. Before each, `first` is called in the server's loop."""
        self._first()
        if scope["type"] == "http" and self._loopback and not _own(scope):
            response = Fault(403, "This hub answers to localhost only.").response()
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _own(scope: Scope) -> bool:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
    # `datasets` asks a server of its own beside the hub, by a name below the hub's: it is told no, not refused.
    return not name or is_loopback(name) or name.endswith(".localhost") or name.startswith("datasets-server.")
