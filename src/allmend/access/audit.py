"""Who did what to what, and when. Rows are only ever added: the database itself refuses to change or delete one.

Secrets never come here: keys stand by their public name, and details go through redaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from allmend import database
from allmend.database.schema import audit
from allmend.redaction import redact, redact_values


@dataclass(frozen=True)
class Entry:
    """A line of the log."""

    id: int
    time: float
    """Seconds since 1970, UTC."""
    actor: str
    """The account's name."""
    key: str | None
    """Public name of the key it used."""
    action: str
    """Like `key.create`, `repo.delete`, `adapter.load`."""
    target: str
    details: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def note(
    connection: Connection, actor: str, action: str, target: str, *, key: str | None = None, **details: Any
) -> None:
    """Add a line within a transaction: it stands if and only if what it speaks of was done."""
    connection.execute(
        insert(audit).values(
            time=time.time(),
            actor=actor[:96],
            key_id=key,
            action=action,
            target=redact(target)[:1000],
            details=json.dumps(redact_values(details), ensure_ascii=False, sort_keys=True, default=str),
        )
    )


def record(actor: str, action: str, target: str, *, key: str | None = None, **details: Any) -> None:
    """Add a line in a transaction of its own."""
    with database.writing() as connection:
        note(connection, actor, action, target, key=key, **details)


def read(
    *, actor: str | None = None, action: str | None = None, since: float | None = None, limit: int = 100
) -> Sequence[Entry]:
    """Lines, newest first. `action` is one, or the beginning of several: `key.`."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if actor is not None:
        query = query.where(audit.c.actor == actor)
    if action is not None:
        query = query.where(audit.c.action.startswith(action, autoescape=True))
    if since is not None:
        query = query.where(audit.c.time >= since)
    with database.reading() as connection:
        if connection is None:
            return []
        rows = connection.execute(query).all()
    return [
        Entry(row.id, row.time, row.actor, row.key_id, row.action, row.target, json.loads(row.details)) for row in rows
    ]
