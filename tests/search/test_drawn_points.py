"""The study on disk is Optuna's own: any Optuna opens it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from allmend.errors import InputError
from allmend.nouns.search import Measured, Trial
from allmend.search.sampling import FILE, Sampler
from allmend.search.space import Space, first_points


def told(sampler: Sampler) -> list[Trial]:
    trials = []
    for number, point in sampler.ask(first_points(sampler.space, 3)):
        loss = 1.0 - 0.1 * number
        sampler.report(number, 100, loss)
        ended = "finished" if number == 2 else "stopped" if number == 1 else "diverged"
        trials.append(
            Trial(
                number=number, point=point, state=ended, why=f"because {number}",  # type: ignore[arg-type]
                curve=(Measured(rows=100, step=7, loss=loss),),
            )
        )  # fmt: skip
        sampler.tell(trials[-1])
    return trials


def test_stock_optuna_opens_it(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path / FILE, Space(), 0)
    trials = told(sampler)
    sampler.tell(trials[2])  # told twice, as after a kill: nothing changes
    sampler.close()
    study = optuna.load_study(study_name="allmend", storage=f"sqlite:///{tmp_path / FILE}")
    states = optuna.trial.TrialState
    assert [trial.state for trial in study.trials] == [states.FAIL, states.PRUNED, states.COMPLETE]
    assert study.best_trial.number == 2 and study.best_value == pytest.approx(0.8)
    assert study.trials[1].intermediate_values == {100: pytest.approx(0.9)}
    assert study.trials[1].user_attrs["why"] == "because 1"
    assert study.trials[2].params["learning_rate"] == pytest.approx(1.5e-4)
    study._storage.remove_session()


def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    first = Sampler(tmp_path / FILE, Space(), 0)
    told(first)
    first.close()
    again = Sampler(tmp_path / FILE, Space(), 0)
    drawn = again.draw(6)
    again.close()
    assert [number for number, _ in drawn] == [3, 4, 5, 6, 7, 8]
    space = Space()
    for _, point in drawn:
        assert min(space.rates) / 2 < point.learning_rate < max(space.rates) * 2
        assert point.rank in space.ranks and point.batch in space.batches and point.epochs in space.epochs


def test_a_damaged_storage_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is no database")
    with pytest.raises(InputError, match="storage cannot be opened"):
        Sampler(tmp_path / FILE, Space(), 0)
