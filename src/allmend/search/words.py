"""A search in words: what it will do, and what the budget bought."""

from __future__ import annotations

from allmend.nouns.search import Search
from allmend.search.rungs import Costs, fit, halve
from allmend.search.scheduler import SLACK
from allmend.search.space import Space, first_points


def planned(space: Space, count: int, seconds: float, costs: Costs, rows: int) -> list[str]:
    """The plan of trials, before it begins: a line for each rung and for each point that is known by now.

    Args:
        count: trials of the first bracket.
        seconds: for all trials together.
        rows: training rows.
    """
    most = max(1, round(max(space.epochs) * rows))
    counts = halve(count)
    ends = fit(counts, seconds * SLACK, costs, most)
    lines = []
    before = 0
    for place, (trials, end) in enumerate(zip(counts, ends, strict=False)):
        minutes = trials * costs.segment(end - before) / 60
        who = f"{trials} trials" if trials > 1 else "the best one"
        how = " with a falling learning rate" if place and place == len(counts) - 1 else ""
        lines.append(f"rung {place + 1}: {who} to {end} rows{how} ({end / rows:.2f} passes), about {minutes:.1f} min")
        before = end
    for number, point in enumerate(first_points(space, count)):
        lines.append(
            f"trial {number}: learning rate {point.learning_rate:g}, rank {point.rank}, batch {point.batch}, "
            f"at most {point.epochs:g} epochs"
        )
    if count > 9:
        lines.append(f"{count - 9} more are drawn by Optuna's sampler")
    return lines


def bought(search: Search) -> str:
    """What the time bought."""
    tried = [trial for trial in search.trials if trial.step]
    if search.winner is None or not tried:
        return "No trial came to a measurement."
    winner = search.trial(search.winner)
    rows = sum(trial.rows for trial in tried)
    whole = max(trial.rows for trial in tried)
    ended = {state: sum(trial.state == state for trial in tried) for state in ("stopped", "diverged", "failed")}
    stopped = ", ".join(f"{count} {state}" for state, count in ended.items() if count)
    later = " It diverged later; what is kept is from before." if winner.state == "diverged" else ""
    settings = "settings" if len(tried) > 1 else "setting"
    return (
        f"{len(tried)} {settings} tried in {search.seconds / 60:.1f} min of training, "
        f"for the cost of {rows / whole:.1f} full ones ({rows} rows seen{'; ' + stopped if stopped else ''}). "
        f"Best: trial {winner.number}, learning rate "
        f"{winner.point.learning_rate:.3g}, rank {winner.point.rank}, batch {winner.point.batch}, "
        f"loss {winner.best:.4f} on {search.select_rows} selection rows.{later}"
    )
