"""Lines of the audit log about repositories."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from allmend.access import audit
from allmend.hub.repositories import Repository
from allmend.hub.visitor import Visitor


def note(connection: Connection, who: Visitor, action: str, repository: Repository, **details: Any) -> None:
    """Write down who did what to a repository, in the transaction that does it."""
    key = who.principal.key if who.principal else None
    audit.note(connection, who.signed, action, f"{repository.kind}/{repository.full_name}", key=key, **details)
