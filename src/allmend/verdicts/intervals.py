"""Is a difference more than chance? Statistics over rows that two models both answered.

Three intervals of a paired difference, chosen by what a row's number can be; `bench/verdict/coverage.py` measures how
often each holds the truth, beside the bootstraps that were tried:

yes or no     Tango's score interval (Statistics in Medicine 17, 1998): McNemar's test turned round.
any number    a t interval whose ends are moved by the sample's skewness (Johnson, JASA 73, 1978; the terms of a
              Cornish-Fisher expansion) and whose degrees of freedom follow its kurtosis.
macro F1      the same on each row's influence on F1 (the delta method: Efron and Tibshirani, An Introduction to the
              Bootstrap, 1993, chapter 21).

or, where it is asked for, the paired bootstrap (`bootstrap.py`).

McNemar's exact test: McNemar (1947), as a binomial test on the rows that changed. Many comparisons: Holm (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, t

from allmend.verdicts.bootstrap import bootstrap_f1, bootstrap_interval

Interval = tuple[float, float]
Floats = NDArray[np.float64]

FEWEST_OF_A_LABEL = 5
"""Rows of the rarest label below which F1 gets no interval: it would hold the truth less often than it says."""

_HALVINGS = 60


def paired_interval(
    base: Sequence[float], tuned: Sequence[float], confidence: float = 0.95, seed: int = 0, resamples: int = 0
) -> Interval:
    """Interval of the mean of tuned - base over rows like these.

    Args:
        base, tuned: one number a row, the same rows in the same order.
        seed: of the bootstrap; the formulas draw nothing at random.
        resamples: of a paired bootstrap; 0 takes the formulas.
    """
    before, after = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    differences = after - before
    # Where no row differs from another there is nothing to resample.
    if resamples and len(differences) > 1 and np.ptp(differences) > 0:
        return bootstrap_interval(differences, confidence, resamples, seed)
    if len(before) and is_yes_no(before) and is_yes_no(after):
        gained, lost = int(((after == 1) & (before == 0)).sum()), int(((before == 1) & (after == 0)).sum())
        return yes_no_interval(gained, lost, len(before), confidence)
    return mean_interval(differences, confidence)


def is_yes_no(values: Floats) -> bool:
    """Whether every number is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def yes_no_interval(gained: int, lost: int, rows: int, confidence: float = 0.95) -> Interval:
    """Interval of the difference of two shares on the same rows, by Tango's score.

    Args:
        gained, lost: rows that changed from no to yes, and from yes to no.
        rows: all of them.
    """
    z = float(norm.ppf(0.5 + confidence / 2))
    seen = (gained - lost) / rows
    low = _where(lambda delta: _score(gained, lost, rows, delta) > z, -1.0, seen)
    high = _where(lambda delta: _score(gained, lost, rows, delta) >= -z, seen, 1.0)
    return low, high


def _score(gained: int, lost: int, rows: int, delta: float) -> float:
    """Tango's statistic: how many standard errors the rows lie above a true difference of `delta`."""
    a, c = 2 * rows, -lost * delta * (1 - delta)
    b = -gained - lost + (2 * rows - gained + lost) * delta
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = rows * (2 * share + delta * (1 - delta))
    above = gained - lost - rows * delta
    if variance <= 1e-12:
        return 0.0 if abs(above) < 1e-9 else math.copysign(math.inf, above)
    return above / math.sqrt(variance)


def _where(yes: Callable[[float], bool], low: float, high: float) -> float:
    """Where between `low` and `high` a condition that holds at `low` stops holding."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if yes(middle) else (low, middle)
    return (low + high) / 2


def mean_interval(differences: Sequence[float] | Floats, confidence: float = 0.95, skewed: bool = True) -> Interval:
    """Interval of the mean of numbers like these.

    Args:
        skewed: move both ends by the sample's skewness. Not done where most rows are equal: the skewness of a few
            changed rows is luck.
    """
    values = np.asarray(differences, dtype=float)
    rows = len(values)
    if rows < 2 or np.ptp(values) == 0:
        return _without_spread(values)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(rows)
    away = values - mean
    variance = float((away**2).mean())
    if error == 0 or variance == 0:  # a spread below what floating point squares
        return _without_spread(values)
    scaled = away / math.sqrt(variance)
    kurtosis, skewness = float((scaled**4).mean()), float((scaled**3).mean())
    # The variance of a sample's variance is what a t's degrees of freedom stand for.
    freedom = min(max(2 * rows / (max(kurtosis, 1.01) - 1), 2.0), rows - 1.0)
    # A small sample of skewed numbers mostly lacks the tail that its mean depends on.
    reach = float(t.ppf(0.5 + confidence / 2, freedom)) * (1 + abs(skewness) / rows)
    changed = float((values != np.median(values)).mean())
    shift = skewness / (12 * math.sqrt(rows)) * (1 + 2 * reach**2) if skewed and changed >= 0.5 else 0.0
    # With few rows the shift must not turn the interval round.
    shift = min(max(shift, -reach / 2), reach / 2)
    return mean + (shift - reach) * error, mean + (shift + reach) * error


def _without_spread(differences: Floats) -> Interval:
    """No row differs from another: the true mean may still lie up to 3/n away (Hanley and Lippman-Hand, 1983)."""
    rows = max(1, len(differences))
    mean = float(differences.mean()) if len(differences) else 0.0
    reach = min(1.0, 3.0 / rows) * max(1.0, abs(mean))
    return mean - reach, mean + reach


def f1_interval(
    base: Sequence[str],
    tuned: Sequence[str],
    expected: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 0,
) -> Interval | None:
    """Interval of macro F1 of tuned less that of base; None where the rarest label has too few rows.

    Args:
        base, tuned, expected: a label a row, the same rows in the same order; an answer may be no label.
        resamples: of a paired bootstrap; 0 takes the formula.
    """
    counts = [list(expected).count(label) for label in set(expected)]
    if not counts or min(counts) < FEWEST_OF_A_LABEL:
        return None
    if resamples:
        return bootstrap_f1(base, tuned, expected, confidence, resamples, seed)
    difference = f1_influence(tuned, expected) - f1_influence(base, expected)
    return mean_interval(difference, confidence, skewed=False)


def f1_influence(answers: Sequence[str], expected: Sequence[str]) -> Floats:
    """Each row's part in macro F1: numbers whose mean is F1 and whose spread is that of F1, times the rows."""
    labels = {label: number for number, label in enumerate(sorted(set(expected)))}
    said, right = (np.array([labels.get(label, -1) for label in side]) for side in (answers, expected))
    rows = len(right)
    parts = np.zeros(rows)
    total = 0.0
    for label in labels.values():
        says, is_it = said == label, right == label
        weight = float(says.sum() + is_it.sum())
        score = 2.0 * float((says & is_it).sum()) / weight
        parts += (2.0 * (says & is_it) - score * (says.astype(float) + is_it)) / weight
        total += score
    return np.asarray((parts * rows + total) / len(labels), dtype=float)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value that as many rows change for the better as for the worse by chance."""
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


def p_value(base: Sequence[float], tuned: Sequence[float]) -> float:
    """Two-sided p-value of no difference: McNemar's for yes or no, else where the interval would just reach zero."""
    before, after = np.asarray(base, dtype=float), np.asarray(tuned, dtype=float)
    if len(before) and is_yes_no(before) and is_yes_no(after):
        return mcnemar(int((after > before).sum()), int((after < before).sum()))
    differences = after - before
    if len(differences) < 2 or np.ptp(differences) == 0:
        low, high = _without_spread(differences)
        return 1.0 if low <= 0 <= high else 0.05

    def leaves_zero_out(confidence: float) -> bool:
        low, high = mean_interval(differences, confidence)
        return low > 0 or high < 0

    return 1.0 - _where(leaves_zero_out, 0.0, 1.0 - 1e-12)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several, in the order given (Holm 1979): the chance of any false claim is kept."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, most = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = most
    return adjusted


def rows_needed(
    base: Sequence[float], tuned: Sequence[float], confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """About how many rows would show a difference of the size seen; None when none was seen.

    Normal approximation for the mean of paired differences (any text on sample size).
    """
    difference = np.asarray(tuned, dtype=float) - np.asarray(base, dtype=float)
    if len(difference) < 2:
        return None
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    if mean == 0 or spread == 0:
        return None
    return math.ceil((_both(confidence, power) * spread / mean) ** 2)


def detectable(
    base: Sequence[float], tuned: Sequence[float], confidence: float = 0.95, power: float = 0.8
) -> float | None:
    """The smallest true difference that as many rows with this spread would show, `power` of the time."""
    difference = np.asarray(tuned, dtype=float) - np.asarray(base, dtype=float)
    if len(difference) < 2:
        return None
    spread = float(difference.std(ddof=1))
    return _both(confidence, power) * spread / math.sqrt(len(difference)) if spread else None


def fewest_rows(confidence: float = 0.95) -> int:
    """Yes-or-no rows below which not even all of them changing one way would be more than chance (McNemar)."""
    return math.floor(1 - math.log2(1 - confidence)) + 1


def rows_for(difference: float, changing: float = 0.25, confidence: float = 0.95, power: float = 0.8) -> int:
    """Yes-or-no rows that would show `difference` when a share `changing` of the rows changes at all."""
    return math.ceil(_both(confidence, power) ** 2 * max(changing - difference**2, 1e-9) / difference**2)


def _both(confidence: float, power: float) -> float:
    return float(norm.ppf(0.5 + confidence / 2) + norm.ppf(power))
