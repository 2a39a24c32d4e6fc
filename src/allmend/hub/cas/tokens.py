"""Short-lived tokens for the Xet routes: what they allow is written in them and signed; nothing is looked up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass
from typing import Literal

from allmend.errors import Refused

Scope = Literal["read", "write"]


@dataclass(frozen=True)
class Grant:
    """What a token allows: `scope` (write includes read) on `repository`, for `user`, until `expires` (since 1970)."""

    repository: str
    scope: Scope
    user: str
    expires: int


class CasTokens:
    """Mints and verifies tokens.

    Args:
        secret: at least 32 random bytes, the same for every process of a hub.
        seconds: how long a token lasts; the stock client fetches a new one by itself before it ends.
    """

    def __init__(self, secret: bytes, *, seconds: int = 900) -> None:
        if len(secret) < 32:
            raise ValueError("the secret has fewer than 32 bytes")
        self._secret, self.seconds = secret, seconds

    def mint(self, repository: str, scope: Scope, *, user: str = "") -> tuple[str, int]:
        """A token and when it ends, in seconds since 1970."""
        grant = Grant(repository, scope, user, int(time.time()) + self.seconds)
        body = _text(json.dumps(asdict(grant), separators=(",", ":")).encode())
        return f"{body}.{self._sign('token', body)}", grant.expires

    def verify(self, token: str, scope: Scope = "read") -> Grant:
        """What a token allows; raises `Refused` when it is not ours, has ended, or does not allow `scope`."""
        body, _, signature = token.partition(".")
        if not hmac.compare_digest(self._sign("token", body).encode(), signature.encode("utf-8", "replace")):
            raise Refused("the token is not one of this hub")
        try:
            grant = Grant(**json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
        except (ValueError, TypeError, binascii.Error) as error:
            raise Refused("the token is not one of this hub") from error
        if grant.expires < time.time():
            raise Refused("the token has ended", hint="The client asks the hub for a new one.")
        if scope == "write" and grant.scope != "write":
            raise Refused("the token is for reading only", where=grant.repository)
        return grant

    def sign_bytes(self, xorb: str, start: int, end: int, expires: int) -> str:
        """The signature of an address that gives out bytes `start` to `end` (included) of a xorb until `expires`."""
        return self._sign("bytes", f"{xorb}:{start}:{end}:{expires}")

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode("utf-8", "replace")
        return _text(hmac.new(self._secret, message, hashlib.sha256).digest())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
