"""Taking old rows out of the ledger, into a file: it has a row for every answer, and none leaves it by itself."""

from __future__ import annotations

import csv
import os
import secrets
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TextIO

from sqlalchemy import ColumnElement, and_, delete, select, tuple_

from allmend import database
from allmend.access import audit
from allmend.access.quotas import today
from allmend.access.usage import COLUMNS, check_month, money
from allmend.database.schema import usage
from allmend.errors import Unavailable, UsageError

_TOGETHER = 1000
"""Rows that are deleted in one transaction: servers that write into the ledger wait for no more than that."""


def trim(before: str, to: Path, *, by: str = "operator") -> int:
    """Write the rows of months before `before` (like `2026-06`) into a CSV file, and delete them then; how many.

    Answers under way are left. The very rows that are in the file are deleted, once it is whole on the disk; where
    that is interrupted, rows that are in the file are still in the ledger too, told apart by their id.

    Raises:
        UsageError: the month has not begun, or there is such a file.
        Unavailable: the file cannot be written.
    """
    check_month(before, "--before")
    if before > today()[:7]:
        raise UsageError(f"{before} has not begun", where="--before", hint="Months that are over can be taken out.")
    if to.exists():
        raise UsageError("there is such a file already", where=str(to), hint="Name another; nothing was deleted.")
    old = and_(usage.c.day < before, usage.c.ended.is_not(None))
    hidden = to.with_name(f".{to.name}.{secrets.token_hex(4)}.new")
    try:
        with hidden.open("w", encoding="utf-8", newline="") as handle:
            _write(handle, old)
            handle.flush()
            os.fsync(handle.fileno())
        _publish(hidden, to)
    except FileExistsError:
        raise UsageError("there is such a file already", where=str(to), hint="Nothing was deleted.") from None
    except OSError as error:
        hint = "Nothing was deleted."
        raise Unavailable(f"the file cannot be written: {error.strerror}", where=str(to), hint=hint) from error
    finally:
        with suppress(OSError):
            hidden.unlink()
    count = _delete(to)
    audit.record(by, "usage.trim", before, rows=count, file=to.name)
    return count


def _write(handle: TextIO, old: ColumnElement[bool]) -> None:
    writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
    writer.writeheader()
    with database.reading() as connection:
        if connection is None:
            return
        query = select(usage).where(old).order_by(usage.c.began, usage.c.id)
        for row in connection.execution_options(stream_results=True).execute(query):
            writer.writerow({**row._mapping, "cost": money(row.cost)})


def _delete(file: Path) -> int:
    """Delete what a file says, as it says it: a row that was settled since is not in the file, nor one just written."""
    count = 0
    with file.open(encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle)
        while some := [(row["id"], float(row["ended"])) for row in islice(rows, _TOGETHER)]:
            with database.writing() as connection:
                written = tuple_(usage.c.id, usage.c.ended).in_(some)
                count += connection.execute(delete(usage).where(written)).rowcount
    return count


def _publish(hidden: Path, to: Path) -> None:
    """Give a file its name, on the disk for good; raises `FileExistsError` where somebody was quicker."""
    try:
        os.link(hidden, to)
    except FileExistsError:
        raise
    except OSError:  # Not every disk has links.
        hidden.replace(to)
    handle = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
