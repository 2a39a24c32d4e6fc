"""`allmend usage`: who used how many tokens of what, and what it costs."""

from __future__ import annotations

import csv
import json as json_format
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App

from allmend.cli.columns import print_columns
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
    groups = list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    values = [each.to_dict() for each in usage.summary(groups, month=month, account=account)]
    if json:
        print_json(values)
    elif csv:
        _csv(values, [*groups, *usage.SUMS])
    elif not values:
        asked = " ".join([*([f"of {account}"] if account else []), *([f"in {month}"] if month else [])])
        words = f"Nothing {asked} in the ledger" if asked else "Nothing in the ledger yet"
        notes().print(f"{words}: it is kept by a server with --with-keys.", markup=False)
    else:
        # What says the same everywhere is left to --csv and --json.
        silent = {"unit"} if all(each["unit"] == "tokens" for each in values) else set()
        silent |= {"currency"} if all(each["currency"] is None for each in values) else set()
        names = [name for name in values[0] if name not in silent]
        right = [name for name in names if isinstance(values[0][name], int)]
        rows_ = [["" if each[name] is None else str(each[name]) for name in names] for each in values]
        print_columns(names, rows_, right=right)


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
    found = prices.of(prices.current(), model)
    if json:
        print_json(found.to_dict() if found else {})
    elif found is None:
        notes().print("It has no price.", markup=False)
    else:
        said = f"prompt {found.prompt}, from memory {found.cached}, completion {found.completion}"
        out().print(f"{found.model}: {said} {found.currency} a million tokens", markup=False)


@app.command(name="trim")
def trim_command(*, before: str, to: Path, json: bool = False) -> None:
    """Take the rows of past months out of the ledger, into a CSV file.

    The ledger has a row for every answer and keeps it until then. Sums no longer count what was taken out.

    Parameters
    ----------
    before
        Months before this one, like 2026-06.
    to
        The file to make.
    json
        Print JSON.
    """
    from allmend.access.trimming import trim

    count = trim(before, to)
    if json:
        print_json({"rows": count, "file": str(to)})
    else:
        out().print(f"{count} rows from before {before} are in {to} now, and no longer in the ledger.", markup=False)


def _rows(found: Any, *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        for row in found:
            sys.stdout.write(json_format.dumps(row, ensure_ascii=False) + "\n")
    elif as_csv:
        from allmend.access import usage

        _csv(found, usage.COLUMNS)
    else:
        raise UsageError("rows are for programs", where="--rows", hint="Give --csv or --json too.")


def _csv(values: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()  # Also where nothing follows: what reads it finds its columns.
    writer.writerows(values)
