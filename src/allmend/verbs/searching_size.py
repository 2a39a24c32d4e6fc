"""Whether a tune searches at all, and how many trials it begins with: what the seconds there are can tell apart."""

from __future__ import annotations

from allmend.search.rungs import ETA, Costs, fit, halve
from allmend.search.scheduler import ENOUGH_ROWS, SLACK
from allmend.search.space import Space, first_points
from allmend.tuning import together

WHOLE_ROWS = 3000
"""Rows that a winner should see, where there are so many: below it, searching costs more than it finds."""
_FEWEST_SELECT = 20
"""Selection rows below which the lowest loss of several settings is luck."""


def why_no_search(trials: int | None, rate: float | None, select: int) -> str:
    """Why there is no search; empty where there is one."""
    if trials == 1:
        return "asked for"
    if together.processes() > 1:
        return "several processes train one setting together"
    if not select:
        return "there are no selection rows to compare by"
    if trials is None and select < _FEWEST_SELECT:
        return f"{select} selection rows are too few to tell settings apart by; --trials searches all the same"
    if trials is None and rate is not None:
        return "a learning rate was named; --trials searches the rest"
    return ""


def how_many(seconds: float, costs: Costs, rows: int, space: Space, asked: int | None) -> tuple[int, str]:
    """Trials of the first bracket, and why: as many as can see enough rows to be told apart.

    Args:
        seconds: for all trials together.
        costs: predicted, for a trial of the middle sort.
        rows: training rows.
        asked: what a person asked for.
    """
    if space.size() == 1:
        return 1, "every setting was named"
    if asked is not None:
        return asked, "asked for"
    most = max(1, round(max(point.epochs for point in first_points(space, 9)) * rows))
    for count in (9, 3):
        if count > space.size():
            continue
        counts = halve(count)
        ends = fit(counts, seconds * SLACK, costs, most)
        enough = min(ENOUGH_ROWS, most // ETA ** (len(counts) - 1))
        if ends and ends[0] >= enough and ends[-1] >= min(WHOLE_ROWS, most):
            return count, f"each sees {ends[0]} rows before the first of {len(counts)} comparisons"
    return 1, (
        f"a search would leave the winner fewer than {min(WHOLE_ROWS, most)} rows, or its trials fewer than "
        f"{min(ENOUGH_ROWS, most)}: one informed setting makes more of so little time"
    )
