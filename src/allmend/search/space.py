"""Where to look: learning rate, rank, batch and epochs, each with three values worth trying, and nine first points.

The rate decides most, then the batch (arXiv:2602.04998 and others; rates that win over many models lie between 1e-4
and 1e-3 where alpha / rank is about 1). The nine points are Taguchi's orthogonal array L9: each value of one setting
meets each value of every other exactly once, so nine trials say something about all four.
"""

from __future__ import annotations

from dataclasses import dataclass

from allmend.nouns.choice import Choice
from allmend.nouns.search import Point

RATE, RANK, BATCH, EPOCHS = 5e-4, 16, 16, 3.0
"""What is taken where nothing is searched; the middle of the nine."""


@dataclass(frozen=True)
class Space:
    """Values of each setting, the default first. One value alone is not searched."""

    rates: tuple[float, ...] = (RATE, 1.5e-3, 1.5e-4)
    ranks: tuple[int, ...] = (RANK, 64, 8)
    batches: tuple[int, ...] = (BATCH, 8, 32)
    epochs: tuple[float, ...] = (EPOCHS, 1.0, 2.0)

    @property
    def default(self) -> Point:
        """The point that is tried first."""
        return Point(learning_rate=self.rates[0], rank=self.ranks[0], batch=self.batches[0], epochs=self.epochs[0])

    def size(self) -> int:
        """How many combinations there are; the learning rate is taken as three, though the sampler draws any."""
        return len(self.rates) * len(self.ranks) * len(self.batches) * len(self.epochs)

    def described(self, trials: int) -> list[Choice]:
        """Each setting that so many trials vary, with what is searched and why."""
        points = first_points(self, trials)
        varied = {name for point in points for name, value in point if value != getattr(self.default, name)}
        told = []
        for name, values, why in (
            ("learning_rate", self.rates, "rates that win over many models lie in this range; it decides most"),
            ("rank", self.ranks, "a size for little and for much data"),
            ("batch", self.batches, "small batches learn more from the same rows"),
            ("epochs", self.epochs, "little data is soon learned by heart"),
        ):
            if name in varied:
                told.append(Choice(name=f"search_{name}", value=sorted(values), reason=why))
        return told


def rates_around(middle: float) -> tuple[float, float, float]:
    """Learning rates to search: an informed one first, then three times as much and a third of it.

    Of 27 models in Tinker's sweep the best was never more than that away from what is informed here, and three times
    the largest of them diverged.
    """
    return middle, float(f"{3 * middle:.2g}"), float(f"{middle / 3:.2g}")


def space_of(
    rows: int,
    *,
    middle: float = RATE,
    rate: float | None = None,
    rank: int | None = None,
    batch: int | None = None,
    epochs: float | None = None,
    passes: float | None = None,
) -> Space:
    """The space for so many training rows; what a person named is not searched.

    Args:
        middle: an informed learning rate, where none is named.
        passes: over the rows, that the budget buys at most for one trial; epochs are searched only where it buys more
            than the fewest.
    """
    plain = Space()
    batches = tuple(size for size in plain.batches if size * 4 <= rows) or (min(plain.batches),)
    many = (epochs,) if epochs is not None else plain.epochs
    if passes is not None and epochs is None and passes <= min(plain.epochs):
        many = (EPOCHS,)
    return Space(
        rates=(rate,) if rate is not None else rates_around(middle),
        ranks=(rank,) if rank is not None else plain.ranks,
        batches=(batch,) if batch is not None else batches,
        epochs=many,
    )


def first_points(space: Space, count: int) -> list[Point]:
    """The first `count` points, at most nine: the default; the other rates; then the rest of the array."""
    points: list[Point] = []
    for row in _order(count):
        values = (space.rates, space.ranks, space.batches, space.epochs)
        rate, rank, batch, epochs = (of[level % len(of)] for of, level in zip(values, row, strict=True))
        point = Point(learning_rate=rate, rank=rank, batch=batch, epochs=epochs)
        if point not in points:
            points.append(point)
    return points[:count]


def _order(count: int) -> list[tuple[int, int, int, int]]:
    """Rows of L9 as levels of (rate, rank, batch, epochs); the first is the default of each.

    Few trials differ in the rate alone: it decides most.
    """
    array = [(i, (i + j) % 3, j, (i + 2 * j) % 3) for j in range(3) for i in range(3)]
    alone = [(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0)]
    return array if count >= 9 else alone + [row for row in array if row not in alone]
