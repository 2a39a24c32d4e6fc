"""Who may speak to the server: pages of other sites may not, and nobody from elsewhere without the key."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
COOKIE = "allmend_visitor"
KEY_COOKIE = "allmend_key"


@dataclass(frozen=True)
class Guard:
    """Checks every request before anything else sees it.

    A page of another site can make a browser send requests here: they carry its `Origin`. A name that resolves to
    127.0.0.1 can make a browser think that page and server are one: the `Host` gives it away.
    """

    hosts: tuple[str, ...] = _LOOPBACK
    """Names this server goes by."""
    key: str | None = None
    """What a visitor must show (`?key=` once, or `Authorization: Bearer`); None on the loopback."""
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def refusal(self, scope: dict[str, Any]) -> tuple[int, str] | None:
        """A status and words, or None for a request that may pass."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() not in self.hosts:
            return 421, f"this server is not called {name[:80]!r}"
        origin = headers.get("origin")
        if (
            origin is not None
            and scope["method"] not in ("GET", "HEAD")
            and urlsplit(origin).netloc.lower() != host.lower()
        ):
            return 403, "a page of another site may not do this"
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
        reads = scope["method"] in ("GET", "HEAD")
        followed = reads and mode == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site not in ("none", "same-origin") and not followed:
            return 403, "a page of another site may not do this"
        if self.key is not None and not self._has_key(headers, scope):
            return 401, "a key is needed: open the address that `allmend app` printed"
        return None

    def _has_key(self, headers: dict[str, str], scope: dict[str, Any]) -> bool:
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key", [""])[0]
        shown = [
            asked,
            headers.get("authorization", "").removeprefix("Bearer "),
            cookies(headers.get("cookie", "")).get(KEY_COOKIE, ""),
        ]
        assert self.key is not None
        return any(hmac.compare_digest(each.encode(), self.key.encode()) for each in shown)


def cookies(header: str) -> dict[str, str]:
    """The cookies of a request."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}
