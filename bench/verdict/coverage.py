"""How often intervals hold the truth that they were made for: 95 of 100 is what they promise.

    python bench/verdict/coverage.py [--sets 10000] [--bootstrap-sets 1000] [--minutes 8]

Data sets are drawn from models of paired rows whose true difference is known, for each kind of metric and several
numbers of rows; `paired_interval` and `f1_interval`, as a verdict calls them, are asked for 95 %. Beside them,
on fewer sets, stand the paired bootstrap that `--bootstrap` asks for, and scipy's BCa bootstrap.
The result goes to `coverage.json` beside this file. Works in parts: run it again until nothing is left.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from about import machine
from scipy.stats import bootstrap

from allmend.verdicts.intervals import f1_interval, is_yes_no, paired_interval
from allmend.verdicts.metrics import macro_f1

ROWS = (20, 30, 50, 100, 200, 500, 1000)
Numbers = np.random.Generator
Pairs = tuple[np.ndarray, np.ndarray, float | None]
"""base, tuned, and their true difference where the model of the rows has a formula for it."""


def accuracy(numbers: Numbers, rows: int) -> Pairs:
    """Base right in 50 to 90 of 100, tuned about as often or more, up to half of the rows answered alike."""
    base, alike = numbers.uniform(0.5, 0.9), numbers.uniform(0, 0.5)
    tuned = float(np.clip(base + numbers.normal(0.04, 0.06), 0.3, 0.95))
    gain, loss = tuned * (1 - base), base * (1 - tuned)
    common = alike * min(gain, loss)
    kind = numbers.choice(4, rows, p=[gain - common, loss - common, base - loss + common, 1 - base - gain + common])
    return np.isin(kind, (1, 2)).astype(float), np.isin(kind, (0, 2)).astype(float), tuned - base


def accuracy_high(numbers: Numbers, rows: int) -> Pairs:
    """Both right in 85 to 98 of 100: few rows change."""
    base = numbers.uniform(0.85, 0.97)
    tuned = float(np.clip(base + numbers.normal(0, 0.02), 0.8, 0.98))
    kind = numbers.choice(4, rows, p=[tuned * (1 - base), base * (1 - tuned), base * tuned, (1 - base) * (1 - tuned)])
    return np.isin(kind, (1, 2)).astype(float), np.isin(kind, (0, 2)).astype(float), tuned - base


def loss(numbers: Numbers, rows: int) -> Pairs:
    """Losses of gamma-distributed difficulty, lowered by a share with noise that grows with them."""
    hard = numbers.gamma(1.5, 0.6, rows)
    return hard, hard * 0.85 + numbers.normal(0, 0.15, rows) * hard, -0.15 * 0.9


def loss_heavy(numbers: Numbers, rows: int) -> Pairs:
    """Log-normal losses, far more skewed."""
    hard = np.exp(numbers.normal(-1, 1, rows))
    return hard, hard * np.exp(numbers.normal(-0.2, 0.3, rows)), math.exp(-0.5) * (math.exp(-0.2 + 0.045) - 1)


def overlap(numbers: Numbers, rows: int) -> Pairs:
    """ROUGE-L or chrF: between 0 and 1, with rows that are all wrong and all right."""
    quality = numbers.beta(1.2, 1.5, rows)
    base = np.where(numbers.random(rows) < 0.25, 0, quality)
    tuned = np.clip(quality * 1.1 + numbers.normal(0, 0.15, rows), 0, 1)
    return base, np.where(numbers.random(rows) < 0.15, 1, tuned), None


def pass_at(numbers: Numbers, rows: int) -> Pairs:
    """pass@1 of eight programs a row."""
    able = numbers.beta(0.4, 0.8, rows)
    return numbers.binomial(8, able) / 8, numbers.binomial(8, np.clip(able * 1.3, 0, 1)) / 8, None


def grade(numbers: Numbers, rows: int) -> Pairs:
    """A judge's grades in tenths."""
    base = numbers.binomial(10, numbers.beta(4, 3, rows)) / 10
    return base, np.clip(base + numbers.choice([-0.2, -0.1, 0, 0.1, 0.2, 0.3], rows), 0, 1), None


def fields(numbers: Numbers, rows: int) -> Pairs:
    """Field match: most rows unchanged, a quarter moved."""
    base = numbers.choice([0, 0.25, 0.5, 0.75, 1], rows, p=[0.1, 0.1, 0.2, 0.2, 0.4])
    return base, np.where(numbers.random(rows) < 0.25, numbers.choice([0.5, 0.75, 1], rows), base), None


KINDS: dict[str, Callable[[Numbers, int], Pairs]] = {
    "accuracy": accuracy, "accuracy, few errors": accuracy_high, "loss": loss, "loss, heavy tail": loss_heavy,
    "ROUGE-L or chrF": overlap, "pass@1": pass_at, "judge's grade": grade, "JSON fields": fields,
}  # fmt: skip
LABELS = {
    "macro F1, 2 even labels": ([0.5, 0.5], [0.7, 0.75], [0.82, 0.8]),
    "macro F1, 2 uneven labels": ([0.85, 0.15], [0.9, 0.5], [0.93, 0.6]),
    "macro F1, 3 labels": ([0.6, 0.3, 0.1], [0.8, 0.6, 0.4], [0.85, 0.7, 0.55]),
    "macro F1, 5 labels": ([0.4, 0.25, 0.15, 0.12, 0.08], [0.6] * 5, [0.7] * 5),
}


def label_rows(numbers: Numbers, name: str, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected labels and two models' answers; half of what one gets wrong the other gets wrong alike."""
    shares, base_right, tuned_right = LABELS[name]
    count = len(shares)
    expected = numbers.choice(count, rows, p=shares)
    luck, wrong = numbers.random(rows), (expected + numbers.integers(1, count, rows)) % count
    own = np.where(numbers.random(rows) < 0.5, luck, numbers.random(rows))
    base = np.where(luck < np.take(base_right, expected), expected, wrong)
    other = (expected + numbers.integers(1, count, rows)) % count
    return expected, base, np.where(own < np.take(tuned_right, expected), expected, other)


def bca(base: np.ndarray, tuned: np.ndarray, numbers: Numbers) -> tuple[float, float]:
    difference = tuned - base
    if np.ptp(difference) == 0:
        return float(difference[0]), float(difference[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bootstrap((difference,), np.mean, n_resamples=999, method="BCa", rng=numbers).confidence_interval
    return float(found.low), float(found.high)


@cache
def _of_counts(gained: int, lost: int, rows: int) -> tuple[float, float]:
    return paired_interval([0.0] * gained + [1.0] * lost + [0.0] * (rows - gained - lost),
                           [1.0] * gained + [0.0] * (rows - gained))  # fmt: skip


def interval(base: np.ndarray, tuned: np.ndarray) -> tuple[float, float]:
    """`paired_interval`; of yes or no it depends on two counts alone, so the same counts are asked once."""
    if is_yes_no(base) and is_yes_no(tuned):
        return _of_counts(int((tuned > base).sum()), int((tuned < base).sum()), len(base))
    return paired_interval(base, tuned)


def of_numbers(name: str, rows: int, sets: int, boots: int) -> dict[str, object]:
    numbers = np.random.default_rng([7, rows, len(name)])
    truth = None
    if KINDS[name](numbers, 2)[2] is None:
        base, tuned, _ = KINDS[name](np.random.default_rng(1), 4_000_000)
        truth = float((tuned - base).mean())
    held = above = below = percentile = by_bca = 0
    for number in range(sets):
        base, tuned, known = KINDS[name](numbers, rows)
        true = truth if known is None else known
        low, high = interval(base, tuned)
        held, above, below = held + (low <= true <= high), above + (low > true), below + (high < true)
        if number < boots:
            low, high = paired_interval(base, tuned, seed=number, resamples=1000)
            percentile += low <= true <= high
        if number < boots // 10:
            low, high = bca(base, tuned, numbers)
            by_bca += low <= true <= high
    boot = (
        {"--bootstrap": round(percentile / boots, 4), "BCa of scipy": round(by_bca / (boots // 10), 3)} if boots else {}
    )
    return {"metric": name, "rows": rows, "coverage": round(held / sets, 4), "truth below": round(above / sets, 4),
            "truth above": round(below / sets, 4), "sets": sets, **boot}  # fmt: skip


def of_labels(name: str, rows: int, sets: int, boots: int) -> dict[str, object]:
    numbers = np.random.default_rng([11, rows, len(name)])
    expected, base, tuned = (side.astype(str) for side in label_rows(np.random.default_rng(1), name, 2_000_000))
    truth = macro_f1_of(tuned, expected) - macro_f1_of(base, expected)
    held = given = tried = percentile = 0
    for number in range(sets):
        expected, base, tuned = (side.astype(str).tolist() for side in label_rows(numbers, name, rows))
        interval = f1_interval(base, tuned, expected)
        if interval is not None:
            given += 1
            held += interval[0] <= truth <= interval[1]
        if interval is not None and number < boots:
            low, high = f1_interval(base, tuned, expected, seed=number, resamples=1000) or interval
            tried, percentile = tried + 1, percentile + (low <= truth <= high)
    boot = {"--bootstrap": round(percentile / tried, 4)} if tried > boots / 2 else {}
    return {"metric": name, "rows": rows, "coverage": round(held / given, 4) if given > sets / 2 else None,
            "sets": given, "no interval, too few rows of a label": round(1 - given / sets, 3), **boot}  # fmt: skip


def macro_f1_of(answers: np.ndarray, expected: np.ndarray) -> float:
    """Macro F1 of two million rows, quicker than the list form; the same number."""
    small = slice(0, 500)
    scores = []
    for part in (small, slice(None)):
        a, e = answers[part], expected[part]
        scores.append(np.mean([2 * ((a == k) & (e == k)).sum() / ((a == k).sum() + (e == k).sum()) for k in set(e)]))
    assert math.isclose(scores[0], macro_f1(answers[small].tolist(), expected[small].tolist()))
    return float(scores[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--bootstrap-sets", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=8.0)
    asked = parser.parse_args()
    began = time.monotonic()
    kept = Path.home() / ".cache" / "allmend-bench" / f"coverage-{asked.sets}-{asked.bootstrap_sets}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, object]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in (*KINDS, *LABELS):
        for rows in ROWS:
            key, boots = f"{name}, {rows}", asked.bootstrap_sets if rows <= 200 else 0
            if key in done:
                continue
            if time.monotonic() - began > asked.minutes * 60:
                print("More is left: run it again.")
                return
            numeric = name in KINDS
            done[key] = (
                of_numbers(name, rows, asked.sets, boots)
                if numeric
                else of_labels(name, rows, asked.sets // 4, boots // 2)
            )
            kept.write_text(json.dumps(done))
            print(done[key], flush=True)
    cells = list(done.values())
    made = [cell for cell in cells if cell["coverage"] is not None]
    within = [cell for cell in made if abs(float(cell["coverage"]) - 0.95) <= 0.0101]
    both = [cell for cell in made if "--bootstrap" in cell]
    below = [f"{cell['metric']}, {cell['rows']} rows: {cell['coverage']}" for cell in made if cell["coverage"] < 0.94]
    above = [f"{cell['metric']}, {cell['rows']} rows: {cell['coverage']}" for cell in made if cell["coverage"] > 0.96]
    result = {
        "what": "share of simulated data sets whose 95 % interval holds the true difference",
        "command": "python " + " ".join(["bench/verdict/coverage.py", *sys.argv[1:]]),
        "mean_coverage": round(float(np.mean([cell["coverage"] for cell in made])), 4),
        "mean_coverage_100_rows_or_more": round(
            float(np.mean([cell["coverage"] for cell in made if cell["rows"] >= 100])), 4
        ),
        "within_1_percent": f"{len(within)} of {len(made)}",
        "within_1_percent_50_rows_or_more": f"{sum(cell['rows'] >= 50 for cell in within)} of "
        f"{sum(cell['rows'] >= 50 for cell in made)}",
        "bootstrap_within_1_percent": f"{sum(abs(float(cell['--bootstrap']) - 0.95) <= 0.0101 for cell in both)} of "
        f"{len(both)}",
        "the_same_cells_without_bootstrap": f"{sum(cell in within for cell in both)} of {len(both)}",
        "bootstrap_mean_coverage": round(float(np.mean([cell["--bootstrap"] for cell in both])), 4),
        "below": below,
        "above": above,
        "standard_error_of_a_cell": round(math.sqrt(0.95 * 0.05 / asked.sets), 4),
        "standard_error_of_an_f1_cell": round(math.sqrt(0.95 * 0.05 / (asked.sets // 4)), 4),
        "cells": cells,
        "machine": machine(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "cells"})


if __name__ == "__main__":
    main()
