"""How many settings a budget can tell apart, and when there is no search at all."""

from __future__ import annotations

import pytest

from allmend.search.rungs import Costs
from allmend.search.space import Space, rates_around
from allmend.verbs.searching_size import how_many, why_no_search

COSTS = Costs(row=0.05, evaluation=2.0)
"""About what the reviews take on two cores."""


@pytest.mark.parametrize(("minutes", "trials"), [(0.5, 1), (2, 1), (3.5, 1), (6, 3), (12, 9)])
def test_a_small_budget_makes_more_of_fewer_settings(minutes: float, trials: int) -> None:
    count, why = how_many(minutes * 60, COSTS, 9000, Space(), None)
    assert count == trials and why


def test_what_was_asked_for_or_named_decides() -> None:
    assert how_many(10.0, COSTS, 9000, Space(), 5) == (5, "asked for")
    one = Space(rates=(1e-3,), ranks=(8,), batches=(8,), epochs=(1.0,))
    assert how_many(1e6, COSTS, 9000, one, 9)[0] == 1


@pytest.mark.parametrize(
    ("trials", "rate", "select", "words"),
    [
        (1, None, 100, "asked for"),
        (None, 1e-3, 100, "learning rate was named"),
        (None, None, 0, "no selection rows"),
        (None, None, 2, "2 selection rows are too few"),
        (9, None, 2, ""),
        (None, None, 100, ""),
    ],
)
def test_why_there_is_no_search(trials: int | None, rate: float | None, select: int, words: str) -> None:
    found = why_no_search(trials, rate, select)
    assert words in found and bool(found) == bool(words)


def test_rates_lie_around_the_informed_one() -> None:
    assert rates_around(6e-4) == (6e-4, 1.8e-3, 2e-4)
