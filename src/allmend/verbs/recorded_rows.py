"""Whether held-out rows are still those that a run was made with: the file of them, and how the data was divided."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from allmend.errors import InputError

if TYPE_CHECKING:
    from allmend.data import Dataset, Row
    from allmend.nouns.examples import Examples
    from allmend.nouns.run import Run


def held_out_digest(run: Run) -> str | None:
    """SHA-256 of the run's own file of held-out rows; None where they came from the data."""
    return next((file.sha256 for file in run.inputs if file.name == "held_out"), None)


def check_held_out(examples: Examples, recorded: str | None, hint: str | None = None) -> None:
    """Raise `InputError` where the held-out file has changed: training left out what repeats the rows that were in
    it, so rows that are new in it may have been trained on."""
    if examples.held_out_sha256 != recorded:
        raise InputError(
            "the file of held-out rows has changed since the run, so training may have seen its rows",
            where=examples.held_out_source,
            hint=hint,
        )


def rows_digest(rows: Sequence[Row]) -> str:
    """SHA-256 of what the rows ask and answer, in their order."""
    whole = hashlib.sha256()
    for row in rows:
        for part in (row.given, row.completion):
            whole.update(len(part).to_bytes(8, "big") + part.encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def division(run: Run) -> str | None:
    """Digest of the rows that the run held out, which it recorded; None for runs that did not."""
    found = run.choice("held_out_rows")
    return found if isinstance(found, str) else None


def check_division(dataset: Dataset, recorded: str | None, hint: str | None = None) -> None:
    """Raise `InputError` where the same file is divided into other sides than it was: another version may find more
    rows alike, and what is held out now may have been trained on then."""
    if recorded is not None and rows_digest(dataset.held_out) != recorded:
        raise InputError(
            "this version divides the data otherwise than the one that made the run, so training may have seen rows "
            "that are held out now",
            where=dataset.examples.source,
            hint=hint,
        )
