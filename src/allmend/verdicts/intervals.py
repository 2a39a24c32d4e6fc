"""Is a difference more than chance? Statistics over rows that two models both answered.

Paired bootstrap: Efron and Tibshirani, An Introduction to the Bootstrap (1993), bias-corrected and accelerated where
the data allow it. McNemar's exact test: McNemar (1947), as a binomial test on the rows that changed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, bootstrap, norm

RESAMPLES = 9_999


def paired_interval(
    base: Sequence[float], tuned: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Interval of mean(tuned - base) over rows drawn again with replacement.

    Args:
        base, tuned: one number a row, the same rows in the same order.
    """
    difference = np.asarray(tuned, dtype=float) - np.asarray(base, dtype=float)
    if len(difference) < 2 or np.ptp(difference) == 0:
        # Every row alike says nothing about the spread; the honest interval is the rule-of-three's.
        return _without_spread(difference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns where the acceleration is degenerate; handled below
        for method in ("BCa", "percentile"):
            found = bootstrap(
                (difference,),
                np.mean,
                confidence_level=confidence,
                n_resamples=RESAMPLES,
                method=method,
                rng=np.random.default_rng(seed),
                batch=max(1, 2_000_000 // len(difference)),
            ).confidence_interval
            if math.isfinite(found.low) and math.isfinite(found.high):
                return float(found.low), float(found.high)
    raise AssertionError("the percentile bootstrap always gives an interval")


def _without_spread(difference: np.ndarray) -> tuple[float, float]:
    """No row differs from another: the true mean may still lie up to 3/n away (Hanley and Lippman-Hand, 1983)."""
    rows = max(1, len(difference))
    mean = float(difference.mean()) if len(difference) else 0.0
    reach = min(1.0, 3.0 / rows)
    return mean - reach, mean + reach


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p-value that as many rows change for the better as for the worse by chance."""
    if gained + lost == 0:
        return 1.0
    return float(binomtest(gained, gained + lost, 0.5).pvalue)


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
    z = float(norm.ppf(0.5 + confidence / 2) + norm.ppf(power))
    return math.ceil((z * spread / mean) ** 2)
