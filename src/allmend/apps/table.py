"""Rows of parameters from a table, and the table of results."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allmend.apps.parameters import WrongParameters, check, from_text
from allmend.errors import InputError, NotFound
from allmend.nouns.plan import FormParameter

MOST_ROWS = 100_000


@dataclass(frozen=True)
class Row:
    """One row: its number (from 1, the header not counted) and the values it gives."""

    number: int
    values: dict[str, Any]

    def digest(self, sha256: str) -> str:
        """What tells this row of this notebook from any other: the same when it is run again."""
        text = json.dumps([sha256, self.values], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_rows(path: Path, parameters: Sequence[FormParameter]) -> list[Row]:
    """The rows of a CSV file (a header of parameter names) or of JSON lines (an object a line); all are checked first.

    An empty cell of a CSV file leaves the notebook's own value.

    Raises:
        InputError: a row that the form does not take, with its line; or no table at all.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFound("there is no such table", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it cannot be read ({error})", where=str(path)) from None
    read = _json_lines if path.suffix in (".jsonl", ".ndjson", ".json") else _csv
    rows: list[Row] = []
    for line, given in read(text, path, parameters):
        try:
            rows.append(Row(len(rows) + 1, check(parameters, given)))
        except WrongParameters as error:
            raise InputError(error.message, where=f"{path}:{line}") from None
        if len(rows) > MOST_ROWS:
            raise InputError(f"more than {MOST_ROWS:,} rows", where=str(path))
    if not rows:
        raise InputError("the table has no rows", where=str(path))
    return rows


def _json_lines(text: str, path: Path, parameters: Sequence[FormParameter]) -> Iterable[tuple[int, dict[str, Any]]]:
    for line, part in enumerate(text.split("\n"), start=1):
        if not part.strip():
            continue
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InputError("this line is no JSON object", where=f"{path}:{line}")
        yield line, value


def _csv(text: str, path: Path, parameters: Sequence[FormParameter]) -> Iterable[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",")
    known = {parameter.name: parameter for parameter in parameters}
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) < len(header):
            raise InputError("a column stands twice in the header", where=f"{path}:1")
        check(parameters, {name: None for name in header if name not in known})
        for cells in reader:
            if len(cells) > len(header):
                raise InputError("more cells than the header has columns", where=f"{path}:{reader.line_num}")
            yield (
                reader.line_num,
                {
                    name: _cell(known[name], cell, f"{path}:{reader.line_num}")
                    for name, cell in zip(header, cells, strict=False)
                    if cell != ""
                },
            )
    except WrongParameters as error:
        raise InputError(error.message, where=f"{path}:1") from None
    except csv.Error as error:
        raise InputError(f"this is no CSV table ({error})", where=f"{path}:{reader.line_num}") from None


def _cell(parameter: FormParameter, text: str, where: str) -> Any:
    try:
        return from_text(parameter, text)
    except ValueError as error:
        raise InputError(f"{parameter.name}: {error}", where=where) from None


def write_results(path: Path, parameters: Sequence[str], results: Iterable[dict[str, Any]]) -> None:
    """The results as CSV, by rename. Cells that a spreadsheet would take for a formula get a leading quote mark."""
    columns = ["row", *parameters, "state", "seconds", "result", "outputs", "error", "folder"]
    made = io.StringIO()
    writer = csv.DictWriter(made, columns, extrasaction="ignore")
    writer.writeheader()
    for result in results:
        writer.writerow({name: _safe(result.get(name, "")) for name in columns})
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(made.getvalue())
    temporary.replace(path)


def _safe(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
