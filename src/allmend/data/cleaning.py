"""Writing a cleaned copy of a data file: without exact duplicates, empty rows and rows that cannot be read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allmend.data.reading import Reading
from allmend.data.repeats import exact
from allmend.data.rows import Row
from allmend.data.wording import key
from allmend.errors import UsageError

_WRITTEN = (".jsonl", ".csv")


def write_clean(
    source: str | Path,
    target: str | Path,
    *,
    prompt_column: str | None = None,
    completion_column: str | None = None,
) -> int:
    """Write the usable, distinct rows of `source` to `target` (`.jsonl`, or `.csv` for prompts and completions).

    The first of equal rows stays, in the order of the source. The file appears whole or not at all.
    Returns how many rows it has; a copy without any is not written. Raises `UsageError` when `target` exists or has
    another ending.
    """
    path = check_target(target)
    reading = Reading(source, prompt_column=prompt_column, completion_column=completion_column, skip_bad=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as stream:
            written = _write(_distinct(reading), stream, path.suffix.lower() == ".csv")
        if written:
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    return written


def check_target(target: str | Path) -> Path:
    """`target`, if a cleaned copy can be written there."""
    path = Path(target)
    if path.suffix.lower() not in _WRITTEN:
        raise UsageError(f"a cleaned copy ends in {' or '.join(_WRITTEN)}", where=f"--fix {target}")
    if path.exists():
        raise UsageError("the file is there already and is not written over", where=f"--fix {target}",
                         hint="Name a new file.")  # fmt: skip
    if not path.absolute().parent.is_dir():
        raise UsageError("there is no such folder", where=f"--fix {target}")
    return path


def _distinct(reading: Reading) -> Iterator[Row]:
    seen: set[int] = set()
    for row in reading:
        # A digest of 64 bits: Python's own hash of a text differs from one process to the next.
        mark = key("\0".join(exact(row)) if row.messages is None else repr((row.messages, row.tools)))
        if mark not in seen:
            seen.add(mark)
            yield row


def _write(rows: Iterator[Row], stream: Any, as_csv: bool) -> int:
    table = csv.writer(stream) if as_csv else None
    if table is not None:
        table.writerow(["prompt", "completion"])
    count = 0
    for row in rows:
        count += 1
        if table is None:
            stream.write(json.dumps(_fields(row), ensure_ascii=False) + "\n")
        elif row.kind == "prompt_completion" and row.tests is None:
            table.writerow([row.prompt, row.completion])
        else:
            what = "only prompts with completions fit" if row.tests is None else "tests beside a prompt do not fit"
            raise UsageError(f"{what} into a CSV", where="--fix", hint="Name a .jsonl file.")
    return count


def _fields(row: Row) -> dict[str, Any]:
    if row.text is not None:
        return {"text": row.text}
    if row.messages is not None:
        tools = {} if row.tools is None else {"tools": [dict(tool) for tool in row.tools]}
        return {"messages": [dict(message) for message in row.messages], **tools}
    tests = {} if row.tests is None else {"tests": row.tests}
    return {"prompt": row.prompt, "completion": row.completion, **tests}
