"""Successive halving: how many trials see how many rows, fitted into the seconds there are.

Karnin, Koren and Somekh (2013); Jamieson and Talwalkar (arXiv:1502.07943). Trials go on from where they were, so a
rung costs only what it adds. All of this is arithmetic on predictions: nothing here trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ETA = 3
"""Of each rung's trials one in ETA goes on, and sees ETA times as many rows."""


@dataclass(frozen=True)
class Costs:
    """Predicted seconds, for a trial of the middle sort."""

    row: float
    """Training on one row."""
    evaluation: float
    """Measuring the selection loss once."""
    switch: float = 0.0
    """Taking up a trial: its state read, its layers put in."""

    def segment(self, rows: int) -> float:
        """From one rung to the next."""
        return self.row * rows + self.evaluation + self.switch


def halve(trials: int, eta: int = ETA) -> list[int]:
    """How many trials each rung has: `trials`, then one in `eta` of them, down to one."""
    counts = [max(1, trials)]
    while counts[-1] > 1:
        counts.append(max(1, counts[-1] // eta))
    return counts


def seconds_of(counts: list[int], ends: list[int], costs: Costs, begin: int = 0, workers: int = 1) -> float:
    """Predicted seconds of rungs that end at `ends` rows a trial, from trials that have seen `begin` rows.

    Args:
        workers: trials that train at a time; a rung of fewer leaves some idle.
    """
    total = 0.0
    for count, start, end in zip(counts, [begin, *ends], ends, strict=False):
        total += math.ceil(count / workers) * costs.segment(end - start)
    return total


def fit(
    counts: list[int], seconds: float, costs: Costs, most: int, *, begin: int = 0, eta: float = ETA, workers: int = 1
) -> list[int]:
    """Rows at which each rung ends, rising, such that all of it takes at most `seconds`; empty where nothing fits.

    At the beginning the ends are `eta` apart. Later (`begin` rows were seen by each trial that is left) the factor
    between them is what fits, at most `eta` squared.

    Args:
        most: rows that a trial may see in all.
        workers: trials that train at a time; the last rung's one trial has but one.
    """

    def cost(ends: list[int]) -> float:
        return seconds_of(counts, ends, costs, begin, workers)

    low, high = 0.0, 1.0
    best: list[int] = []
    for _ in range(60):
        middle = (low + high) / 2
        ends = _ends(len(counts), middle, most, begin, eta)
        if ends and cost(ends) <= seconds:
            best, low = ends, middle
        else:
            # Too few rows to tell rungs apart is no reason to try fewer.
            low, high = (middle, high) if not ends else (low, middle)
    whole = _ends(len(counts), 1.0, most, begin, eta)
    return whole if whole and cost(whole) <= seconds else best


def _ends(rungs: int, share: float, most: int, begin: int, eta: float) -> list[int]:
    """`share` between 0 and 1 of what may be had; empty where two ends would be the same."""
    if begin:
        factor = (1 + share * (min(eta * eta, (most / begin) ** (1 / rungs)) - 1)) if most > begin else 1.0
        ends = [round(begin * factor**place) for place in range(1, rungs + 1)]
    else:
        ends = [round(most * share / eta ** (rungs - 1 - place)) for place in range(rungs)]
    rising = all(a < b for a, b in zip([begin, *ends], ends, strict=False))
    return ends if rising and ends[-1] <= most else []


def survivors(scores: Mapping[int, float | None], keep: int, *, default: int | None = None) -> list[int]:
    """The `keep` trials with the lowest loss, best first; one without a finite loss never goes on.

    Args:
        default: the trial of the informed settings. It keeps the last of several places, since the first rungs favour
            whatever falls fast: it won the whole grid twice and was dropped after the first rung both times
            (`bench/search/halving.json`).
    """
    finite = sorted((loss, number) for number, loss in scores.items() if loss is not None and math.isfinite(loss))
    chosen = [number for _, number in finite[:keep]]
    if default is not None and len(chosen) > 1 and default in (number for _, number in finite[keep:]):
        chosen[-1] = default
    return chosen
