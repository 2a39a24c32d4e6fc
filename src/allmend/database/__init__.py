"""One engine, one schema, one migration chain: SQLite in `ALLMEND_HOME`, or PostgreSQL by `ALLMEND_DATABASE`.

    address() -> str                                     light
    writing() -> Connection in a transaction             context managers, SQLAlchemy Core
    Writer() -> many of them on one connection
    reading() -> Connection, or None when nothing was ever written
    schema.<table>                                       the tables

SQLAlchemy is imported on first use, Alembic only when a database's version is not the newest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from allmend.database.place import address

if TYPE_CHECKING:
    from allmend.database.engine import Writer, forget, in_plain_words, reading, shown_address, writing

_HOMES = dict.fromkeys(("Writer", "forget", "in_plain_words", "reading", "shown_address", "writing"),
                       "allmend.database.engine")  # fmt: skip

__all__ = ["Writer", "address", "forget", "in_plain_words", "reading", "shown_address", "writing"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'allmend.database' has no attribute {name!r}")
