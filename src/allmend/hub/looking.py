"""Reading the database of a hub, which is there: the hub made it when it started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from allmend import database


@contextmanager
def looking() -> Iterator[Connection]:
    """A connection to read from."""
    with database.reading() as connection:
        if connection is not None:
            yield connection
            return
    with database.writing() as connection:
        yield connection
