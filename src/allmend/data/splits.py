"""Dividing rows into train, select and held out, so that no side has seen the other's rows.

Duplicates and near duplicates stay on one side, label shares are kept, and the sides depend on the rows' content
and the seed alone: the same rows in another order are divided the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from allmend.data.likeness import Likeness, likeness
from allmend.data.rows import Row, labels_of
from allmend.data.word_pairs import Keys, mix

TRAIN, SELECT, HELD_OUT = 0, 1, 2


@dataclass(frozen=True)
class Split:
    """Places of rows, each side in the order of the rows."""

    train: list[int]
    select: list[int]
    held_out: list[int]
    duplicates: int = 0
    """Rows that repeat another exactly (letter case, spaces and punctuation aside)."""
    near_duplicates: int = 0
    """Distinct rows that nearly repeat another."""
    notes: list[str] = field(default_factory=list)


def split(
    rows: Sequence[Row],
    *,
    seed: int = 0,
    select: float | int = 0.1,
    held_out: float | int = 0.1,
    near: bool = True,
    alike: Likeness | None = None,
) -> Split:
    """Divide `rows`. `select` and `held_out` are shares below 1 or counts.

    Each group of alike rows gets a random number from the seed and its content; in each label, groups go to the
    held out side by that number until its share is full, then to select, then to train. What groups larger than a
    label's share leave open is filled from all labels. A group that is larger than what is left of a side goes on to
    the next, so a frame shared by half of the data ends up in train. A side that is asked for gets at least one
    group when there are three or more, even if that is more than was asked for."""
    total = len(rows)
    alike = alike or likeness([row.given for row in rows], near=near)
    wanted_held, wanted_select = _sizes(total, held_out, select)
    groups, members = np.unique(alike.groups, return_inverse=True)
    sizes = np.bincount(members, minlength=len(groups))
    ranks = mix(groups ^ mix(np.array([(seed % 2**64)], np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    strata = _strata(rows, members, len(groups))
    sides = np.zeros(len(groups), np.int8)
    for side, wanted in ((HELD_OUT, wanted_held), (SELECT, wanted_select)):
        _fill(sides, side, wanted, ranks, sizes, strata, total)
    per_row = sides[members]
    notes = []
    if total and sizes.max() > total // 2:
        notes.append(f"{int(sizes.max())} of {total} rows are alike and stay on one side")
    if alike.framed:
        notes.append(
            f"{alike.framed} of {total} rows agree on nearly all of their words with others; that was taken for a "
            "frame that they share, and whether they nearly repeat was told by the rest alone"
        )
    return Split(
        train=np.flatnonzero(per_row == TRAIN).tolist(),
        select=np.flatnonzero(per_row == SELECT).tolist(),
        held_out=np.flatnonzero(per_row == HELD_OUT).tolist(),
        duplicates=alike.duplicates,
        near_duplicates=alike.near_duplicates,
        notes=notes,
    )


def _sizes(total: int, held_out: float | int, select: float | int) -> tuple[int, int]:
    """Rows for held out and select: at least one each when asked for, never over two thirds."""
    counts = []
    for asked in (held_out, select):
        count = round(asked * total) if asked < 1 else int(asked)
        counts.append(max(count, 1) if asked > 0 and total >= 3 else 0)
    most = total * 2 // 3
    if sum(counts) > most:
        held = min(counts[0], max(1, most - min(counts[1], most // 2))) if counts[0] else 0
        counts = [held, min(counts[1], most - held)]
    return counts[0], counts[1]


def _strata(rows: Sequence[Row], members: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """A label number for each group: the label most of its rows have (the first in order, among equals)."""
    labels = labels_of(rows)
    if labels is None:
        return np.zeros(groups, np.int64)
    numbers = {label: number for number, label in enumerate(labels)}
    of_row = np.fromiter((numbers.get(row.completion, 0) for row in rows), np.int64, len(rows))
    cells, counts = np.unique(members * len(labels) + of_row, return_counts=True)
    order = np.lexsort((cells, -counts, cells // len(labels)))
    cells = cells[order]
    _, firsts = np.unique(cells // len(labels), return_index=True)
    of_group: NDArray[np.int64] = cells[firsts] % len(labels)
    return of_group


def _fill(
    sides: NDArray[np.int8],
    side: int,
    wanted: int,
    ranks: Keys,
    sizes: NDArray[np.int64],
    strata: NDArray[np.int64],
    total: int,
) -> None:
    """Give `side` about `wanted` rows: its share of each label, in the order of the groups' random numbers; then what
    is still open, whatever the label; the smallest group where none fits."""
    if not wanted:
        return
    _, of_group = np.unique(strata, return_inverse=True)
    rows_of = np.bincount(of_group, weights=sizes).astype(np.int64)
    exact = rows_of * wanted / total
    quota = np.floor(exact).astype(np.int64)
    for number in np.argsort(-(exact - quota), kind="stable")[: wanted - int(quota.sum())]:
        quota[number] += 1
    order = np.lexsort((ranks, of_group))
    for group in order.tolist():
        if sides[group] == TRAIN and sizes[group] <= quota[of_group[group]]:
            sides[group] = side
            quota[of_group[group]] -= sizes[group]
    # Groups larger than a label's share leave it open; together the labels may have room for them.
    left = wanted - int(sizes[sides == side].sum())
    for group in np.argsort(ranks, kind="stable").tolist():
        if sides[group] == TRAIN and sizes[group] <= left:
            sides[group] = side
            left -= int(sizes[group])
    rest = np.flatnonzero(sides == TRAIN)
    if left == wanted and len(rest) > 1:
        sides[rest[np.lexsort((ranks[rest], sizes[rest]))[0]]] = side


def overlap(train: Sequence[Row], held_out: Sequence[Row], *, near: bool = True) -> list[int]:
    """Places in `train` of rows that say (nearly) what a held-out row says: they would leak."""
    alike = likeness([row.given for row in (*train, *held_out)], near=near)
    known = np.unique(alike.groups[len(train) :])
    return np.flatnonzero(np.isin(alike.groups[: len(train)], known)).tolist()
