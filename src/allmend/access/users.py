"""Users behind a key: those whom a server with many users of its own names in its requests."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from allmend import database
from allmend.access import audit
from allmend.access.limits import Limits
from allmend.database.schema import key_users

HEADERS = ("x-openwebui-user-id", "x-user-id", "x-forwarded-user", "x-litellm-end-user-id")
"""Where a user's name is looked for, in this order."""
_FRESH_SECONDS = 1.0
_MOST_KNOWN = 10_000
_known: dict[tuple[str, str], tuple[float, User | None]] = {}


@dataclass(frozen=True)
class User:
    """What one user has beyond what the key gives each of its users."""

    limits: Limits
    adapter: str | None
    """Applied where the user asks for the adapter's base."""


def named(headers: Mapping[str, str]) -> str | None:
    """The user that a request names; None where none is, or the name is no printable text of at most 200 characters."""
    name = given(headers)
    return name if name and len(name) <= 200 and name.isprintable() else None


def given(headers: Mapping[str, str]) -> str:
    """What stands where a user is named; empty where nothing does."""
    name = next((name for header in HEADERS if (name := headers.get(header, "").strip())), "")
    try:
        # Web servers read headers as Latin-1; programs that name people write UTF-8.
        return name.encode("latin-1").decode()
    except UnicodeError:
        return name


def needs_look_up(key: str, user: str) -> bool:
    """Whether `get` would ask the database."""
    known = _known.get((key, user))
    return known is None or time.monotonic() - known[0] > _FRESH_SECONDS


def get(key: str, user: str) -> User | None:
    """What is known of a user; believed for a second."""
    now = time.monotonic()
    known = _known.get((key, user))
    if known is not None and now - known[0] <= _FRESH_SECONDS:
        return known[1]
    same = (key_users.c.key_id == key) & (key_users.c.user == user)
    with database.reading() as connection:
        row = None if connection is None else connection.execute(select(key_users).where(same)).first()
    found = None if row is None else User(Limits.model_validate_json(row.limits), row.adapter)
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[key, user] = (now, found)
    return found


def put(key: str, user: str, *, limits: Limits, adapter: str | None, by: str = "operator") -> None:
    """Give a user limits and an adapter of its own."""
    same = (key_users.c.key_id == key) & (key_users.c.user == user)
    with database.writing() as connection:
        connection.execute(delete(key_users).where(same))
        values = {"key_id": key, "user": user, "adapter": adapter, "limits": json.dumps(limits.stored())}
        connection.execute(insert(key_users).values(**values))
        audit.note(connection, by, "user.set", key, user=user, adapter=adapter, limits=limits.words())
    _known.clear()
