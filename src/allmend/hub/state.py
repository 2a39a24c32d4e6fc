"""What a running hub is made of."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from allmend import database
from allmend.database.hub_repositories import hub_settings
from allmend.database.once import put_once
from allmend.hub.faults import Fault

if TYPE_CHECKING:
    from allmend.hub.cas import CasTokens
    from allmend.hub.inspecting import Inspector
    from allmend.hub.mirror import Mirror
    from allmend.hub.store import Store


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Attributes:
        regular: bytes of a file that travels inside a commit; larger ones are uploaded before it.
        commit: bytes of a commit's body.
        operations: changes in one commit.
        part: bytes of one part of an LFS upload in parts.
        page: entries of a page of a tree; fewer where commits are named beside them.
    """

    regular: int = 10 * 2**20
    commit: int = 2 * 2**30
    operations: int = 250_000
    part: int = 64 * 2**20
    page: int = 1000
    page_expanded: int = 100
    quota: int | None = None
    """Bytes that one owner's repositories may reach; None is no limit."""


@dataclass
class Hub:
    """A hub: where contents are, how it signs, its bounds.

    Attributes:
        uploads: a folder for parts of uploads that are not complete.
        url: what clients call the hub by; None takes it from each request.
        loopback: answer to this machine's own names only.
        cas_path: where the content-addressed store answers.
    """

    store: Store
    tokens: CasTokens
    secret: bytes
    uploads: Path
    url: str | None = None
    limits: Limits = field(default_factory=Limits)
    loopback: bool = True
    cas_path: str = ""
    inspector: Inspector | None = None
    mirror: Mirror | None = None

    def wake(self) -> None:
        """Begin what runs beside requests; called in the server's loop."""
        if self.inspector is not None:
            self.inspector.wake()

    def sign(self, seconds: float = 6 * 3600, **claims: Any) -> str:
        """A text that says `claims` until `seconds` from now, and that only this hub can have made."""
        body = json.dumps({**claims, "until": int(time.time() + seconds)}, separators=(",", ":")).encode()
        return f"{_text(body)}.{_text(self._mac(body))}"

    def signed(self, text: str, **wanted: Any) -> dict[str, Any]:
        """What a signed text says; raises a 403 where it is not ours, too old, or for something else."""
        try:
            body, mac = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in text.split("."))
            right = hmac.compare_digest(mac, self._mac(body))
            claims = json.loads(body) if right else {}
        except ValueError:
            claims = {}
        if not claims or claims["until"] < time.time() or any(claims.get(key) != wanted[key] for key in wanted):
            raise Fault(403, "This address has expired or was not made by this hub; ask for a new one.")
        return dict(claims)

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self.secret, b"hub address\0" + body, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def shared_secret() -> bytes:
    """What every server of this database signs with; made on first use."""
    with database.writing() as connection:
        put_once(connection, hub_settings, {"name": "secret", "value": secrets.token_hex(32)})
        value = connection.execute(select(hub_settings.c.value).where(hub_settings.c.name == "secret")).scalar_one()
    return bytes.fromhex(value)
