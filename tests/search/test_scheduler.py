"""Brackets and rungs over trials whose seconds are counted: budgets, ends, what goes wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allmend.adapters import read
from allmend.compute import HereWorker
from allmend.errors import DoesNotFit, TrainingDiverged
from allmend.nouns.search import Point, Search
from allmend.search.rungs import Costs
from allmend.search.sampling import FILE, Sampler
from allmend.search.scheduler import Limits, Scheduler
from allmend.search.space import Space
from allmend.search.state import read_record
from allmend.search.words import bought

ROWS = 1000
NINE = Limits(9, 9)


def search(
    folder: Path, formula: synthetic.Formula, budget: float, limits: Limits = NINE, row: float = 0.01,
    stop_after: float = math.inf,
) -> Search:  # fmt: skip
    keeper = synthetic.keeper(folder, formula.rows)
    if (folder / "search.json").is_file():
        keeper.search = read_record(folder)
    sampler = Sampler(folder / FILE, Space(), 0)
    begun = formula.seconds
    stopping = lambda: formula.seconds - begun > stop_after
    worker = HereWorker(formula, stopping=lambda: stopping() or formula.seconds - begun > budget)
    try:
        return Scheduler(
            keeper, sampler, [worker], formula.rows, Costs(row, 0.2), limits,
            left=lambda: budget - (formula.seconds - begun), stopping=stopping,
        ).go()  # fmt: skip
    finally:
        sampler.close()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(budget=st.floats(20, 2000), slower=st.sampled_from([0.5, 1.0, 1.0, 1.7, 3.0]), first=st.sampled_from([3, 9, 27]))
def test_the_budget_holds_whatever_the_machine_does(
    tmp_path_factory: pytest.TempPathFactory, budget: float, slower: float, first: int
) -> None:
    formula = synthetic.Formula(ROWS, slower=slower)
    try:
        found = search(tmp_path_factory.mktemp("search"), formula, budget, Limits(first, first))
    except DoesNotFit:
        assert budget < 60
        return
    most_step = 0.01 * slower * 32 + 0.2 * slower
    assert formula.seconds <= budget + 3 * most_step, "what overdraws it is the step under way"
    check(found)


def check(found: Search) -> None:
    """Every survivor but the informed settings was among the best of its rung; no later rung has fewer rows."""
    for bracket in {trial.bracket for trial in found.trials}:
        trials = [trial for trial in found.trials if trial.bracket == bracket]
        rungs = [rung for rung in found.rungs if rung.bracket == bracket]
        assert [rung.rows for rung in rungs] == sorted({rung.rows for rung in rungs})
        assert [rung.trials for rung in rungs] == sorted((rung.trials for rung in rungs), reverse=True)
        for rung in rungs[:-1]:
            here = [trial for trial in trials if trial.rung >= rung.number]
            default = min(trials, key=lambda trial: trial.number) if bracket == 0 else None
            on = [trial for trial in here if trial.rung > rung.number and trial is not default]
            out = [trial for trial in here if trial.rung == rung.number and "rung" in trial.why]

            def at(trial, rung=rung):  # type: ignore[no-untyped-def]
                return min(one.loss for one in trial.curve if one.rows <= rung.rows + trial.point.batch)

            if on and out:
                assert max(map(at, on)) <= min(map(at, out)) + 1e-12
    assert all(trial.why for trial in found.trials if trial.state not in {"waiting", "running", "paused"})
    curves = [[one.rows for one in trial.curve] for trial in found.trials]
    assert all(rows == sorted(set(rows)) for rows in curves)


def test_it_finds_the_best_and_leaves_the_others(tmp_path: Path) -> None:
    formula = synthetic.Formula(ROWS)
    found = search(tmp_path, formula, 100.0)
    check(found)
    winner = found.trial(found.winner or 0)
    assert winner.state == "finished" and winner.point.learning_rate == 5e-4
    assert winner.best == min(trial.best for trial in found.trials if trial.best is not None)
    assert [trial.state for trial in found.trials].count("stopped") == 8
    for trial in found.trials:
        left = read(Path(trial.adapter or ""))
        assert left.config.rank == trial.point.rank
        kept = (tmp_path / "trials" / f"{trial.number:02d}" / "last.safetensors").is_file()
        assert kept == (trial.number == found.winner), "losers' optimiser states are dropped"
    assert read(tmp_path / "adapter").config.rank == winner.point.rank
    assert read_record(tmp_path) == found
    assert "9 settings tried" in bought(found)


def test_trials_go_on_and_are_never_begun_again(tmp_path: Path) -> None:
    formula = synthetic.Formula(ROWS)
    search(tmp_path, formula, 100.0)
    steps: dict[int, int] = {}
    for segment in formula.segments:
        assert segment.until > steps.get(segment.trial, 0)
        steps[segment.trial] = segment.until
    climbs = {segment.trial: set() for segment in formula.segments}
    for segment in formula.segments:
        climbs[segment.trial].add(segment.climb)
    assert all(len(found) == 1 for found in climbs.values())
    last = formula.segments[-1]
    assert last.until == last.steps and 0 < last.decay_from < last.steps, "the rate falls in the last rung only"
    assert all(one.decay_from >= one.until for one in formula.segments[:9] if one.until < one.steps)


def test_time_that_is_left_buys_more_brackets(tmp_path: Path) -> None:
    formula = synthetic.Formula(100)
    found = search(tmp_path, formula, 300.0, Limits(9, 27))
    assert len(found.trials) == 27 and {trial.bracket for trial in found.trials} == {0, 1, 2}
    check(found)


@pytest.mark.parametrize("after", [0.5, 5.0, 20.0, 45.0])
def test_stopped_at_any_moment_the_best_so_far_is_there_and_it_goes_on(tmp_path: Path, after: float) -> None:
    formula = synthetic.Formula(ROWS)
    whole = search(tmp_path / "whole", synthetic.Formula(ROWS), 100.0)
    found = search(tmp_path / "parts", formula, 100.0, stop_after=after)
    measured = [trial.best for trial in found.trials if trial.best is not None]
    assert (tmp_path / "parts" / "adapter").is_dir() == bool(measured)
    if measured:
        assert found.trial(found.winner or 0).best == min(measured)
    again = search(tmp_path / "parts", formula, 100.0 - formula.seconds + 5)
    assert again.winner == whole.winner
    assert len(again.trials) == 9


def test_a_diverged_trial_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    def loss(point: Point, rows: int) -> float:
        return math.nan if point.learning_rate > 1e-3 and rows > 60 else synthetic.loss_of(point, rows)

    found = search(tmp_path, synthetic.Formula(ROWS, loss=loss), 100.0)
    assert {trial.state for trial in found.trials if trial.point.learning_rate > 1e-3} == {"diverged"}
    assert found.winner is not None and found.trial(found.winner).state == "finished"


def test_all_diverged_is_an_error_with_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="all 9 trials diverged") as caught:
        search(tmp_path, synthetic.Formula(ROWS, loss=lambda point, rows: math.nan), 100.0)
    assert "--learning-rate" in (caught.value.hint or "")


def test_too_small_for_one_rung_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    formula = synthetic.Formula(ROWS)
    with pytest.raises(DoesNotFit, match="too small for one rung of 9 trials") as caught:
        search(tmp_path, formula, 1.0)
    assert caught.value.exit_code == 7 and "--trials" in (caught.value.hint or "") and not formula.segments
