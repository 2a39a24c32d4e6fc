"""Reading the ledger: rows, and sums by month, account, model: the basis of a bill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, func, select

from allmend import database
from allmend.database.schema import usage
from allmend.errors import UsageError, nearest

BY = ("month", "day", "account", "key", "user", "route", "model", "adapter", "state")
"""What usage can be summed by."""
COLUMNS = tuple(usage.c.keys())
"""What a row says."""


@dataclass(frozen=True)
class Sum:
    """Usage of a group."""

    group: dict[str, str | None]
    answers: int
    prompt: int
    cached: int
    completion: int
    unit: str
    """What they count: tokens, characters, seconds."""
    cost: str
    """In the currency, exact to a billionth."""
    currency: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the group's first."""
        values = asdict(self)
        return {**values.pop("group"), **values}


SUMS = tuple(each.name for each in fields(Sum) if each.name != "group")
"""What is said of every group."""


def summary(by: Sequence[str] = ("month", "account", "model"), *, month: str | None = None,
            account: str | None = None) -> list[Sum]:  # fmt: skip
    """Sums of what is settled or was cancelled, a row a group, unit and currency.

    What failed or was lost is counted where `state` is among the groups alone: nobody is billed for it.

    Args:
        by: from `BY`.
        month: `2026-11`; all when not given.
    """
    for name in by:
        if name not in BY:
            raise UsageError(f"usage is not summed by {name!r}", where="--by", hint=nearest(name, BY) or None)
    columns = [_column(name).label(f"by_{name}") for name in by]
    query = (
        select(
            *columns,
            usage.c.unit,
            usage.c.currency,
            func.count().label("answers"),
            func.sum(usage.c.prompt).label("prompt"),
            func.sum(usage.c.cached).label("cached"),
            func.sum(usage.c.completion).label("completion"),
            func.sum(usage.c.cost).label("cost"),
        )
        .where(*_where(month, account), *([usage.c.state != "open"] if "state" in by else [_billed()]))
        .group_by(*columns, usage.c.unit, usage.c.currency)
        .order_by(*columns, usage.c.unit, usage.c.currency)
    )
    with database.reading() as connection:
        rows = [] if connection is None else connection.execute(query).all()
    return [
        Sum(
            {name: getattr(row, f"by_{name}") for name in by},
            row.answers,
            int(row.prompt),
            int(row.cached),
            int(row.completion),
            row.unit,
            money(int(row.cost)),
            row.currency,
        )
        for row in rows
    ]


def rows(*, month: str | None = None, account: str | None = None) -> Iterator[dict[str, Any]]:
    """Every row, oldest first, as plain values."""
    query = select(usage).where(*_where(month, account)).order_by(usage.c.began, usage.c.id)
    with database.reading() as connection:
        if connection is None:
            return
        for row in connection.execution_options(stream_results=True).execute(query):
            values = dict(row._mapping)
            values["cost"] = money(values["cost"])
            yield values


def check_month(text: str, where: str) -> None:
    """Raise `UsageError` for what is no month."""
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text):
        raise UsageError(f"{text!r} is no month", where=where, hint="Like 2026-11.")


def money(billionths: int) -> str:
    """`1234500000` as `1.2345`."""
    text = format(Decimal(billionths).scaleb(-9), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _column(name: str) -> ColumnElement[Any]:
    if name == "month":
        return func.substr(usage.c.day, 1, 7)
    return usage.c["key_id" if name == "key" else name]


def _billed() -> ColumnElement[bool]:
    return (usage.c.state == "settled") | (usage.c.state == "cancelled")


def _where(month: str | None, account: str | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if month is not None:
        check_month(month, "--month")
        found.append(usage.c.day.startswith(month))
    if account is not None:
        found.append(func.lower(usage.c.account) == account.lower())  # As accounts are found by their names.
    return found
