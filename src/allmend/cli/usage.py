"""`allmend usage`: who used how many tokens of what, and what it costs."""

from __future__ import annotations

import csv
import json as json_format
import sys
from typing import Any

from cyclopts import App

from allmend.cli.show import notes, out, print_json
from allmend.errors import UsageError

app = App(name="usage", help="Who used how many tokens of what, and what it costs.")


@app.default
def summary_command(
    *,
    month: str | None = None,
    account: str | None = None,
    by: str = "month,account,model",
    rows: bool = False,
    csv: bool = False,
    json: bool = False,
) -> None:
    """Sum the ledger, or write out its rows.

    Parameters
    ----------
    month
        Only this month, like 2026-11.
    account
        Only this account.
    by
        What to sum by: month, day, account, key, user, route, model, adapter, state.
    rows
        Every answer instead of sums; needs --csv or --json.
    csv
        Print CSV.
    json
        Print JSON; with --rows a line each.
    """
    from allmend.access import usage

    if rows:
        _rows(usage.rows(month=month, account=account), as_csv=csv, as_json=json)
        return
    found = usage.summary([name.strip() for name in by.split(",") if name.strip()], month=month, account=account)
    values = [each.to_dict() for each in found]
    if json:
        print_json(values)
    elif csv:
        _csv(values)
    elif not found:
        notes().print("Nothing in the ledger yet: it is kept by a server with --with-keys.", markup=False)
    else:
        from rich.table import Table

        # What says the same everywhere is left to --csv and --json; what is shown is never cut.
        silent = {"unit"} if all(each["unit"] == "tokens" for each in values) else set()
        silent |= {"currency"} if all(each["currency"] is None for each in values) else set()
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        shown = [[name, *("" if each[name] is None else str(each[name]) for each in values)] for name in values[0]]
        shown = [column for column in shown if column[0] not in silent]
        for name, *cells in shown:
            right = isinstance(values[0][name], int)
            width = max(map(len, (name, *cells)))
            table.add_column(name, justify="right" if right else "left", no_wrap=True, min_width=width)
        for row in zip(*(cells for _, *cells in shown), strict=True):
            table.add_row(*row)
        out().print(table, crop=False)


@app.command(name="price")
def price_command(
    model: str,
    /,
    *,
    prompt: str | None = None,
    completion: str | None = None,
    cached: str | None = None,
    currency: str = "EUR",
    json: bool = False,
) -> None:
    """Set what a million tokens of a model cost from now on, or show it.

    A model that counts something else has its price for a million of that: characters to be said, seconds to be heard.

    Parameters
    ----------
    model
        A model's or an adapter's name; `*` for those that have no price of their own.
    prompt
        Of tokens read.
    completion
        Of tokens written.
    cached
        Of tokens read that came from memory; as `prompt` when not given.
    currency
        Three letters.
    json
        Print JSON.
    """
    from allmend.access import prices

    if prompt is not None or completion is not None:
        if prompt is None or completion is None:
            raise UsageError("a price has both --prompt and --completion")
        prices.put(model, prompt=prompt, completion=completion, cached=cached, currency=currency)
    found = prices.of(prices.current(), model, None)
    if json:
        print_json(found.to_dict() if found else {})
    elif found is None:
        notes().print("It has no price.", markup=False)
    else:
        said = f"prompt {found.prompt}, from memory {found.cached}, completion {found.completion}"
        out().print(f"{found.model}: {said} {found.currency} a million tokens", markup=False)


def _rows(found: Any, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        for row in found:
            sys.stdout.write(json_format.dumps(row, ensure_ascii=False) + "\n")
    elif as_csv:
        _csv(found)
    else:
        raise UsageError("rows are for programs", where="--rows", hint="Give --csv or --json too.")


def _csv(values: Any) -> None:
    writer = None
    for row in values:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
