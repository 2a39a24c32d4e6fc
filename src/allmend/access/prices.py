"""What tokens cost, by model, as the operator sets it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from sqlalchemy import insert, select

from allmend import database
from allmend.access import audit
from allmend.database.schema import prices
from allmend.errors import UsageError

ANY = "*"
_MOST = Decimal(1_000_000)


@dataclass(frozen=True)
class Price:
    """Of a million tokens, in decimal text."""

    model: str
    """A model's or an adapter's name; `*` for those that have none of their own."""
    currency: str
    prompt: str
    cached: str
    """Of prompt tokens that came from memory."""
    completion: str
    since: float

    def cost(self, prompt: int, cached: int, completion: int) -> int:
        """In billionths of the currency, rounded half to even."""
        cached = min(cached, prompt)
        millionths = (
            (prompt - cached) * Decimal(self.prompt)
            + cached * Decimal(self.cached)
            + completion * Decimal(self.completion)
        )
        return int((millionths * 1000).to_integral_value(ROUND_HALF_EVEN))

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


def put(
    model: str,
    *,
    prompt: str,
    completion: str,
    cached: str | None = None,
    currency: str = "EUR",
    by: str = "operator",
) -> Price:
    """Set what a model's tokens cost from now on; answers that are settled keep their price."""
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise UsageError(f"{currency!r} is no currency", where="--currency", hint="Three letters, like EUR.")
    values = {"prompt": prompt, "cached": prompt if cached is None else cached, "completion": completion}
    for name, text in values.items():
        try:
            amount = Decimal(text)
        except InvalidOperation:
            amount = Decimal(-1)
        if not (amount.is_finite() and 0 <= amount <= _MOST):
            raise UsageError(f"{text!r} is no price", where=f"--{name}", hint="Of a million tokens, like 0.15.")
        values[name] = format(amount, "f")
    made = Price(model, currency, values["prompt"], values["cached"], values["completion"], time.time())
    with database.writing() as connection:
        connection.execute(insert(prices).values(**made.to_dict()))
        audit.note(connection, by, "price.set", model, currency=currency, **values)
    return made


def current() -> dict[str, Price]:
    """The price of each model that has one."""
    return {price.model: price for price in history()}


def history() -> Sequence[Price]:
    """Every price that was ever set, oldest first."""
    # In the order they were set, also where the clock was put back in between.
    query = select(prices).order_by(prices.c.id)
    with database.reading() as connection:
        if connection is None:
            return []
        rows = connection.execute(query).all()
    return [Price(row.model, row.currency, row.prompt, row.cached, row.completion, row.since) for row in rows]


def of(
    found: dict[str, Price], model: str, adapters: Sequence[str] = (), used: tuple[int, int, int] = (1, 0, 1)
) -> Price | None:
    """The adapter's price, else the model's, else that of all; of several adapters, that of the dearest.

    Args:
        adapters: their names. A price without a revision is that of every revision.
        used: tokens of prompt, of it from memory, and of completion.
    """
    own = [found.get(name) or found.get(name.partition("@")[0]) for name in adapters]
    priced = [price for price in own if price is not None]
    # A second adapter, or a scale of nearly nothing, is no way around a price.
    dearest = max(priced, key=lambda price: price.cost(*used)) if priced else None
    return dearest or found.get(model) or found.get(ANY)
