"""Taking old rows out of the ledger, into a file: it has a row for every answer, and none leaves it by itself."""

from __future__ import annotations

import csv
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sqlalchemy import ColumnElement, and_, delete, select

from allmend import database
from allmend.access import audit
from allmend.access.quotas import today
from allmend.access.usage import COLUMNS, check_month, money
from allmend.database.schema import usage
from allmend.errors import Unavailable, UsageError

_TOGETHER = 5000
"""Rows that are deleted in one transaction: servers that write into the ledger wait for no more than that."""


def trim(before: str, to: Path, *, by: str = "operator") -> int:
    """Write the rows of months before `before` (like `2026-06`) into a CSV file, and delete them then; how many.

    Answers under way are left. Rows are deleted once the file is whole on the disk; where that is interrupted, rows
    that are in the file are still in the ledger too, told apart by their id.

    Raises:
        UsageError: the month has not begun, or there is such a file.
        Unavailable: the file cannot be written.
    """
    check_month(before, "--before")
    if before > today()[:7]:
        raise UsageError(f"{before} has not begun", where="--before", hint="Months that are over can be taken out.")
    if to.exists():
        raise UsageError("there is such a file already", where=str(to), hint="Name another; nothing was deleted.")
    # What ends from now on is not in the file.
    old = and_(usage.c.day < before, usage.c.ended < time.time())
    hidden = to.with_name(f".{to.name}.new")
    try:
        with hidden.open("w", encoding="utf-8", newline="") as handle:
            _write(handle, old)
            handle.flush()
            os.fsync(handle.fileno())
        hidden.replace(to)
    except OSError as error:
        hint = "Nothing was deleted."
        raise Unavailable(f"the file cannot be written: {error.strerror}", where=str(to), hint=hint) from error
    finally:
        with suppress(OSError):
            hidden.unlink()
    count = 0
    while True:
        with database.writing() as connection:
            some = select(usage.c.id).where(old).limit(_TOGETHER)
            gone = connection.execute(delete(usage).where(usage.c.id.in_(some))).rowcount
        count += gone
        if gone < _TOGETHER:
            break
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
