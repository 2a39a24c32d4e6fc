"""Successive halving as arithmetic: it never plans more than there is, and only the best go on."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from allmend.search.rungs import ETA, Costs, fit, halve, seconds_of, survivors

COSTS = st.builds(Costs, row=st.floats(1e-4, 1.0), evaluation=st.floats(0, 10), switch=st.floats(0, 5))


@given(trials=st.integers(1, 200))
def test_each_rung_has_a_third_and_the_last_has_one(trials: int) -> None:
    counts = halve(trials)
    assert counts[0] == trials and counts[-1] == 1
    assert all(b == max(1, a // ETA) for a, b in pairwise(counts))


@given(
    trials=st.integers(1, 81), seconds=st.floats(0.1, 1e5), costs=COSTS, most=st.integers(1, 10**6),
    begin=st.integers(0, 10**5),
)  # fmt: skip
def test_it_never_plans_more_seconds_or_rows_than_there_are(
    trials: int, seconds: float, costs: Costs, most: int, begin: int
) -> None:
    counts = halve(trials)
    ends = fit(counts, seconds, costs, most, begin=begin)
    if not ends:
        return
    assert len(ends) == len(counts)
    assert all(a < b for a, b in zip([begin, *ends], ends, strict=False)), "each rung adds rows"
    assert ends[-1] <= most
    assert seconds_of(counts, ends, costs, begin) <= seconds * (1 + 1e-9)


@given(seconds=st.floats(50, 1e4), costs=COSTS)
def test_it_uses_what_there_is(seconds: float, costs: Costs) -> None:
    """A plan that is not held back by the rows could not be a tenth larger."""
    counts = halve(9)
    ends = fit(counts, seconds, costs, 10**9)
    if ends and ends[0] > 50:
        larger = [round(end * 1.1) for end in ends]
        assert seconds_of(counts, larger, costs) > seconds


def test_nine_cost_less_than_two_and_a_half_full_ones() -> None:
    ends = fit(halve(9), 1e9, Costs(1.0, 0.0), 9000)
    assert ends == [1000, 3000, 9000]
    assert seconds_of(halve(9), ends, Costs(1.0, 0.0)) / 9000 < 2.5


def test_too_little_for_one_rung_is_told() -> None:
    assert fit(halve(9), 1.0, Costs(0.01, 1.0), 1000) == []


@given(
    scores=st.dictionaries(
        st.integers(0, 80), st.one_of(st.none(), st.just(math.nan), st.just(math.inf), st.floats(0, 10)), max_size=30
    ),
    keep=st.integers(1, 10),
)
def test_every_survivor_is_among_the_best(scores: dict[int, float | None], keep: int) -> None:
    chosen = survivors(scores, keep)
    finite = {number for number, loss in scores.items() if loss is not None and math.isfinite(loss)}
    assert len(chosen) == min(keep, len(finite)) and set(chosen) <= finite
    worst = max((scores[number] or 0.0 for number in chosen), default=0.0)
    assert all((scores[number] or 0.0) >= worst for number in finite - set(chosen))


def test_the_informed_settings_stay_to_the_last_choice_unless_they_diverged() -> None:
    scores = {0: 0.9, 1: 0.1, 2: 0.2, 3: 0.3, 4: math.nan}
    assert survivors(scores, 3, default=0) == [1, 2, 0]
    assert survivors(scores, 3, default=2) == [1, 2, 3]
    assert survivors(scores, 1, default=0) == [1]
    assert survivors(scores, 3, default=4) == [1, 2, 3]
