"""Catalogue data as examples: a table of rated sentences becomes a file of prompt and completion rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from allmend.errors import InputError, NotFound, nearest
from allmend.models.catalogue import DataEntry, RatedRows, catalogue
from allmend.models.fetch import Progress, fetch, write_once


def examples_file(name: str, progress: Progress | None = None) -> Path:
    """The JSONL file of a catalogue data set, fetched and made if it is not here.

    Rows are `{"prompt": …, "completion": …}`, in the order of the source.
    """
    entry = catalogue().data.get(name)
    if entry is None:
        raise NotFound(f"there is no data set {name!r} in the catalogue", hint=nearest(name, catalogue().data))
    source = fetch("data", name, entry, progress)
    target = source.with_name(f"{name}.jsonl")
    if not target.exists():
        made = ((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in _rows(source, entry))
        write_once(target, made)
    return target


def _rows(source: Path, entry: DataEntry) -> Iterator[dict[str, str]]:
    with source.open(encoding="utf-8", newline=None) as handle:
        for number, line in enumerate(handle, start=1):
            row = _row(line.rstrip("\n"), entry.rows, f"{source}:{number}")
            if row:
                yield row


def _row(line: str, rows: RatedRows, place: str) -> dict[str, str] | None:
    columns = line.split(rows.separator)
    try:
        score, text = float(columns[rows.score]), columns[rows.text].strip()
    except (IndexError, ValueError) as error:
        raise InputError(f"not a rated sentence: {error}", where=place) from None
    if abs(score) < rows.threshold or not text:
        return None
    label = rows.positive if score > 0 else rows.negative
    return {"prompt": rows.prompt.format(text=text), "completion": label}
