"""Where is looked: each value meets each other once, and what a person named is left alone."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from allmend.nouns.search import Point
from allmend.search.space import Space, first_points, space_of


def test_nine_points_are_an_orthogonal_array() -> None:
    points = first_points(Space(), 9)
    assert points[0] == Space().default and len(points) == 9
    for one, other in combinations(Point.model_fields, 2):
        pairs = {(getattr(point, one), getattr(point, other)) for point in points}
        assert len(pairs) == 9, f"{one} and {other} meet in every way once"


def test_three_points_differ_in_the_rate_alone() -> None:
    points = first_points(Space(), 3)
    assert len({point.learning_rate for point in points}) == 3
    assert len({(point.rank, point.batch, point.epochs) for point in points}) == 1


@given(
    count=st.integers(1, 9), rows=st.integers(1, 10_000), rate=st.none() | st.floats(1e-6, 1e-1),
    rank=st.none() | st.integers(1, 64), batch=st.none() | st.integers(1, 64), epochs=st.none() | st.floats(0.5, 9),
    passes=st.none() | st.floats(0.01, 20),
)  # fmt: skip
def test_what_was_named_is_not_searched(
    count: int, rows: int, rate: float | None, rank: int | None, batch: int | None, epochs: float | None,
    passes: float | None,
) -> None:  # fmt: skip
    space = space_of(rows, rate=rate, rank=rank, batch=batch, epochs=epochs, passes=passes)
    points = first_points(space, count)
    assert 1 <= len(points) <= count and points[0] == space.default
    assert len(set(map(repr, points))) == len(points), "no point twice"
    for point in points:
        for named, value in ((rate, point.learning_rate), (rank, point.rank), (batch, point.batch),
                             (epochs, point.epochs)):  # fmt: skip
            assert named is None or value == named


def test_epochs_are_not_searched_where_the_budget_buys_less_than_one() -> None:
    assert len(space_of(8000, passes=0.7).epochs) == 1
    assert len(space_of(8000, passes=2.5).epochs) == 3
