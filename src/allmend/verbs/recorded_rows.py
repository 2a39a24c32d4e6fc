"""Whether the file of held-out rows is still the one that a run was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.errors import InputError

if TYPE_CHECKING:
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
