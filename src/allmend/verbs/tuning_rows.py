"""The rows of a tune and their splits: read alike by whoever tunes, judges again or ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend import data
from allmend.errors import InputError

if TYPE_CHECKING:
    from allmend.data import Dataset
    from allmend.verbs.tune import TuneSettings

SELECT_ROWS = 200
"""At most this many choose settings where the held-out rows are limited."""
HELD_OUT_ROWS = 1000
"""At most this many rows are held out of one file: more would narrow the interval little and cost much time."""


def read_dataset(source: str, settings: TuneSettings) -> Dataset:
    """Rows and their splits, as these settings divide them; the same rows and seed give the same splits."""
    return data.load(
        source,
        prompt_column=settings.prompt_column,
        completion_column=settings.completion_column,
        skip_bad=settings.skip_bad,
        seed=settings.seed,
        held_out_source=settings.held_out,
        most=(SELECT_ROWS, HELD_OUT_ROWS),
    )


def check_sides(dataset: Dataset) -> None:
    """Raise `InputError` where a side of the split is empty."""
    for side, why in (("held_out", "judge"), ("select", "choose settings"), ("train", "learn")):
        if not getattr(dataset, side):
            raise InputError(
                f"no rows are left to {why} {'from' if why == 'learn' else 'by'}: rows that are alike stay together, "
                f"and the {len(dataset)} rows are too few groups to divide",
                where=dataset.examples.source,
                hint="Bring rows that differ, or name held-out rows of your own with --held-out FILE.",
            )
