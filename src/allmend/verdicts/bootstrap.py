"""The paired bootstrap over rows, for who wants it: rows are drawn again with both models' numbers together.

Percentile intervals (Efron, Annals of Statistics 7, 1979). With few rows they hold the truth less often than they say,
which is why they are not the verdict's own; `bench/verdict/coverage.py` measures both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_AT_A_TIME = 2_000_000
"""Numbers drawn at a time, so that many rows do not take much memory."""


def bootstrap_interval(differences: Floats, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Interval of the mean of paired differences, one a row, by percentiles of so many resamples."""
    values, counts = np.unique(differences, return_counts=True)
    return _percentiles(_drawn(counts, resamples, seed, lambda draws: draws @ values / len(differences)), confidence)


def bootstrap_f1(
    base: Sequence[str], tuned: Sequence[str], expected: Sequence[str], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Interval of macro F1 of tuned less that of base, over the labels that are expected."""
    labels = sorted(set(expected))
    # An answer that is no label counts against the label that was expected.
    kinds = Counter(zip(expected, base, tuned, strict=True))
    right, before, after = zip(*kinds, strict=True)

    def difference(draws: Floats) -> Floats:
        return _f1(draws, after, right, labels) - _f1(draws, before, right, labels)

    return _percentiles(_drawn(np.array(list(kinds.values())), resamples, seed, difference), confidence)


def _drawn(counts: Counts, resamples: int, seed: int, of: Callable[[Floats], Floats]) -> Floats:
    """`of` draws (draws, kinds): how often each kind of row is in a resample. Rows of a kind are all the same, so that
    drawing how many there are is drawing the rows."""
    rows, numbers = int(counts.sum()), np.random.default_rng(seed)
    most = max(1, _AT_A_TIME // len(counts))
    parts = [min(most, resamples - start) for start in range(0, resamples, most)]
    return np.concatenate([of(numbers.multinomial(rows, counts / rows, part).astype(float)) for part in parts])


def _f1(draws: Floats, said: Sequence[str], right: Sequence[str], labels: Sequence[str]) -> Floats:
    """Macro F1 of each draw; a label that a draw lacks on both sides counts as right."""
    total = np.zeros(len(draws))
    for label in labels:
        says = np.array([answer == label for answer in said], dtype=float)
        is_it = np.array([answer == label for answer in right], dtype=float)
        weight = draws @ (says + is_it)
        total += np.where(weight > 0, 2.0 * (draws @ (says * is_it)) / np.maximum(weight, 1), 1.0)
    return np.asarray(total / len(labels))


def _percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
