"""From a source to a `Dataset`: read, digest, divide."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from allmend.data.likeness import likeness
from allmend.data.reading import Reading
from allmend.data.rows import Dataset, Row, labels_of
from allmend.data.splits import overlap, split
from allmend.errors import InputError
from allmend.nouns.examples import Examples


def load(
    source: str | Path,
    *,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    select: float | int = 0.1,
    held_out: float | int = 0.1,
    held_out_source: str | Path | None = None,
    most: tuple[int, int] | None = None,
    near: bool = True,
) -> Dataset:
    """Read `source` and divide it (see `splits.split`).

    Where `held_out` comes to more rows than the second number of `most`, that many are held out, and at most the
    first number selected. With `held_out_source` the held-out rows are that file's, all of them, and training rows
    that (nearly) repeat one of them are left out and counted in the notes. Raises `NotFound`, `UsageError`,
    `InputError`."""
    opened = partial(Reading, prompt_column=prompt_column, completion_column=completion_column, skip_bad=skip_bad)
    reading = opened(source)
    rows = list(reading)
    shape = reading.shape
    if shape is None or not rows:
        reasons = "; ".join(f"{skipped.place}: {skipped.reason}" for skipped in reading.skipped_rows)
        raise InputError("no row of it can be used", where=reading.name, hint=reasons or None)
    notes = list(reading.notes)
    apart: list[Row] = []
    if held_out_source is not None:
        other = opened(held_out_source)
        apart = list(other)
        if other.shape is None or other.shape.kind != shape.kind:
            raise InputError(f"its rows are {other.shape.kind if other.shape else 'unusable'}, "
                             f"those of {reading.name} are {shape.kind}", where=other.name)  # fmt: skip
        leaking = set(overlap(rows, apart, near=near))
        if leaking:
            rows = [row for place, row in enumerate(rows) if place not in leaking]
            notes.append(f"{len(leaking)} training rows (nearly) repeat held-out rows and were left out")
        held_out = 0
    alike = likeness([row.given for row in rows], near=near)
    sides = split(rows, seed=seed, select=select, held_out=held_out, alike=alike)
    if most is not None and len(sides.held_out) > most[1]:
        fewer = min(most[0], len(sides.select))
        sides = split(rows, seed=seed, select=fewer, held_out=most[1], alike=alike)
    if sides.duplicates or sides.near_duplicates:
        notes.append(f"{sides.duplicates} exact and {sides.near_duplicates} near duplicates stay on one side")
    train, chosen, held = ([rows[place] for place in side] for side in (sides.train, sides.select, sides.held_out))
    held = apart or held
    examples = Examples(
        kind=shape.kind,
        source=reading.source,
        sha256=reading.sha256(),
        rows=len(rows) + len(apart),
        labels=labels_of([*rows, *apart]),
        columns=shape.columns,
        notes=notes + sides.notes,
        skipped=reading.skipped,
        skipped_rows=reading.skipped_rows,
        splits={"train": len(train), "select": len(chosen), "held_out": len(held)},
        seed=seed,
        held_out_source=None if held_out_source is None else str(held_out_source),
        held_out_sha256=other.sha256() if held_out_source is not None else None,
    )
    return Dataset(examples, train, chosen, held)
