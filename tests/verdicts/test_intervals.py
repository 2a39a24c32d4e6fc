"""Intervals and tests against known values and against simulated truth."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from allmend.verdicts.intervals import f1_interval, mcnemar, paired_interval, rows_needed
from allmend.verdicts.metrics import exact_match, macro_f1, normal

SETS = int(os.environ.get("ALLMEND_COVERAGE", "60"))
"""Simulated data sets; the full count is 2000."""


@pytest.mark.parametrize("what", ["labels", "losses"])
def test_intervals_cover_about_as_often_as_they_say(what: str) -> None:
    numbers, covered = np.random.default_rng(1), 0
    for _ in range(SETS):
        if what == "labels":
            base, tuned = numbers.random(200) < 0.7, numbers.random(200) < 0.8
            truth = 0.1
        else:
            hard = numbers.exponential(1.0, 200)
            base, tuned = hard, hard * 0.8 + numbers.normal(0, 0.1, 200)
            truth = -0.2
        low, high = paired_interval(base.astype(float).tolist(), tuned.astype(float).tolist(), seed=3)
        covered += low <= truth <= high
    # Three standard errors of the count around the nominal 95 %, and a percent for the bootstrap's own shortness.
    slack = 3 * math.sqrt(0.95 * 0.05 / SETS) + 0.01
    assert covered / SETS >= 0.95 - slack


def test_a_model_against_itself_is_no_difference() -> None:
    numbers, claims = np.random.default_rng(2), 0
    for _ in range(SETS):
        base, tuned = numbers.random(150) < 0.6, numbers.random(150) < 0.6
        low, high = paired_interval(base.astype(float).tolist(), tuned.astype(float).tolist())
        claims += not low <= 0 <= high
    assert claims / SETS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / SETS) + 0.01


VALUES = st.floats(-1e3, 1e3)


@given(
    pairs=st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=20), confidence=st.sampled_from([0.8, 0.95, 0.99])
)
@settings(max_examples=25, deadline=None)
def test_any_rows_give_a_finite_interval_in_order(pairs: list[tuple[float, float]], confidence: float) -> None:
    base, tuned = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    low, high = paired_interval(base, tuned, confidence)
    assert math.isfinite(low) and math.isfinite(high) and low <= high


def test_rows_that_all_agree_are_not_certain() -> None:
    low, high = paired_interval([1.0] * 300, [1.0] * 300)
    assert low < 0 < high and 0.005 < high < 0.02
    low, high = paired_interval([0.0], [1.0])
    assert low <= 0
    assert paired_interval([0.0] * 3, [1.0] * 3)[0] <= 0
    assert paired_interval([0.0] * 100, [1.0] * 100)[0] > 0.9
    low, high = paired_interval([0.25] * 300, [0.25] * 300)
    assert low < 0 < high and high == pytest.approx(0.01)


def test_the_seed_decides_the_interval() -> None:
    base, tuned = [0.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0, 0.5]
    assert paired_interval(base, tuned, seed=1) == paired_interval(base, tuned, seed=1)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    # By hand from the binomial distribution: 2 * sum of C(n, k) / 2**n over k <= min.
    [
        (0, 0, 1.0),
        (5, 0, 0.0625),
        (0, 5, 0.0625),
        (10, 2, 0.03857421875),
        (6, 6, 1.0),
        (1, 0, 1.0),
        (20, 5, 0.00407731533),
    ],
)
def test_mcnemar_is_the_exact_binomial(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, abs=1e-7)


@given(st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_mcnemar_does_not_care_which_way(gained: int, lost: int) -> None:
    assert mcnemar(gained, lost) == pytest.approx(mcnemar(lost, gained))
    assert 0 <= mcnemar(gained, lost) <= 1


def test_rows_needed_is_enough_and_not_far_more() -> None:
    numbers = np.random.default_rng(0)
    base = (numbers.random(400) < 0.70).astype(float)
    tuned = (numbers.random(400) < 0.73).astype(float)
    needed = rows_needed(base.tolist(), tuned.tolist())
    difference = tuned - base
    # Of the size seen: power 0.8 at 95 % takes (1.96 + 0.84)² variances over the squared mean.
    assert needed == pytest.approx(7.849 * difference.var(ddof=1) / difference.mean() ** 2, rel=0.01)
    assert rows_needed([1.0, 0.0], [1.0, 0.0]) is None
    assert rows_needed([1.0], [0.0]) is None
    assert rows_needed([], []) is None


def test_text_is_compared_up_to_case_and_spaces() -> None:
    assert exact_match(["  Yes\n", "ＹＥＳ", "no", ""], ["yes", "yes", "yes", " "]) == [1.0, 1.0, 0.0, 1.0]
    assert normal("Straße  und\tHaus") == normal("STRASSE und haus")


def test_macro_f1_by_hand() -> None:
    expected = ["a", "a", "a", "b", "b", "c"]
    answers = ["a", "a", "b", "b", "c", "d"]
    # a: precision 1, recall 2/3; b: 1/2, 1/2; c: 0.
    assert macro_f1(answers, expected) == pytest.approx((0.8 + 0.5 + 0) / 3)
    assert macro_f1([], []) == 0.0
    assert macro_f1(expected, expected) == 1.0


def test_the_bootstrap_is_scipy_s_where_it_is_asked_for() -> None:
    numbers = np.random.default_rng(3)
    base = numbers.gamma(1.5, 0.6, 60)
    tuned = base * 0.9 + numbers.normal(0, 0.2, 60)
    low, high = paired_interval(base.tolist(), tuned.tolist(), seed=1, resamples=20_000)
    ours = bootstrap((tuned - base,), np.mean, n_resamples=20_000, method="percentile", rng=numbers)
    assert (low, high) == pytest.approx(tuple(ours.confidence_interval), abs=0.01)
    assert paired_interval(base.tolist(), tuned.tolist(), seed=1, resamples=20_000) == (low, high)
    assert paired_interval([1.0] * 300, [1.0] * 300, resamples=500)[0] < 0


def test_the_bootstrap_of_f1_draws_rows_again() -> None:
    numbers = np.random.default_rng(4)
    expected = numbers.choice(list("abc"), 60)
    base = np.where(numbers.random(60) < 0.6, expected, "a")
    tuned = np.where(numbers.random(60) < 0.8, expected, "none of them")
    interval = f1_interval(base.tolist(), tuned.tolist(), expected.tolist(), resamples=4000)
    assert interval is not None
    found = []
    for _ in range(1500):
        drawn = numbers.integers(0, 60, 60)
        sides = [macro_f1(side[drawn].tolist(), expected[drawn].tolist()) for side in (tuned, base)]
        found.append(sides[0] - sides[1])
    assert interval == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])), abs=0.03)
