"""Rows that are written once: whoever comes second leaves them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection


def insert_new(connection: Connection, table: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; those whose key is there stay as they are."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    if rows:
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def put_once(connection: Connection, table: Any, row: dict[str, Any]) -> None:
    """Insert a row unless its key is there."""
    insert_new(connection, table, [row])
