"""Rows that are written once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection


def put_once(connection: Connection, table: Any, row: dict[str, Any]) -> None:
    """Insert a row unless its key is there."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).values(**row).on_conflict_do_nothing())
