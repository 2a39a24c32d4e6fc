"""Trials that pause, wait and go on end in the same bits as one training of the same schedule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training
from allmend.adapters import LoraConfig, attach
from allmend.compute import Segment
from allmend.nouns.search import Point
from allmend.search.trainer import BEST, LAST, Shared, Siblings, plan_of, rows_after, steps_for
from allmend.tuning import checkpoint
from allmend.tuning.loop import train
from allmend.tuning.schedule import rate

ROWS = training.rows(26)
SELECT = training.rows(6, seed=9)
SHARED = Shared(LoraConfig(alpha=8, dropout=0.1), seed=2, pack_tokens=256)
POINTS = [
    Point(learning_rate=5e-3, rank=4, batch=4, epochs=3),
    Point(learning_rate=1e-3, rank=2, batch=8, epochs=3),
    Point(learning_rate=2e-3, rank=4, batch=4, epochs=3),
]


def segments(folder: Path, number: int) -> list[Segment]:
    """Three rungs; the end moves while the rate is still constant, as a refit moves it."""
    point = POINTS[number]
    first = Segment(
        trial=number, point=point, folder=folder / str(number), until=3, steps=30, climb=2, decay_from=3,
        evaluate_at=(3,),
    )  # fmt: skip
    second = first.model_copy(update={"until": 8, "steps": 20, "decay_from": 8, "evaluate_at": (3, 8)})
    last = first.model_copy(update={"until": 15, "steps": 15, "decay_from": 8, "evaluate_at": (3, 8, 11, 15)})
    return [first, second, last]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_halving_ends_in_the_bits_of_an_unbroken_training(tmp_path: Path, dropout: float) -> None:
    shared = replace(SHARED, config=LoraConfig(alpha=8, dropout=dropout))
    siblings = Siblings(training.loaded(), ROWS, SELECT, shared)
    for rung in range(3):
        for number in (1, 0, 2) if rung == 1 else (0, 1, 2):
            siblings.run(segments(tmp_path / "halved", number)[rung], lambda event: None, lambda: False)
            torch.randn(5)
    siblings.close()
    for number, point in enumerate(POINTS):
        loaded = training.loaded()
        lora = attach(loaded.model, shared.of(point), seed=shared.seed)
        whole = plan_of(segments(tmp_path / "halved", number)[2], shared)
        folder = tmp_path / "whole" / str(number)
        folder.mkdir(parents=True)
        train(loaded, lora, ROWS, SELECT, replace(whole, pause_at=None), folder)
        for file in (BEST, LAST):
            one, other = (checkpoint.load(place / str(number) / file) for place in (tmp_path / "halved", folder.parent))
            for part in (0, 1):
                assert set(one[part]) == set(other[part]) and (one[part] or (part, file) == (1, BEST))  # type: ignore[arg-type]
                assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])  # type: ignore[index]
            assert (one[2].step, one[2].best_step, one[2].best_loss) == (
                other[2].step, other[2].best_step, other[2].best_loss,
            )  # fmt: skip


def test_the_model_is_as_it_was_and_batches_are_packed_once(tmp_path: Path) -> None:
    loaded = training.loaded()
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    siblings = Siblings(loaded, ROWS, SELECT, SHARED)
    siblings.run(segments(tmp_path, 0)[0], lambda event: None, lambda: False)
    packed = len(siblings._packs)
    siblings.run(segments(tmp_path, 2)[0], lambda event: None, lambda: False)
    assert len(siblings._packs) == packed, "a trial with the same batches packs none anew"
    siblings.close()
    after = loaded.model.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)


def test_the_rate_is_constant_until_it_decays() -> None:
    rates = [rate(step, 20, 1.0, climb=2, decay_from=10) for step in range(20)]
    assert rates[:2] == [0.5, 1.0] and set(rates[2:10]) == {1.0}
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] == pytest.approx(0.1)
    assert rates[:10] == [rate(step, 400, 1.0, climb=2, decay_from=10) for step in range(10)], "whatever the end is"


@pytest.mark.parametrize("batch", [1, 4, 7, 26, 40])
def test_rows_and_steps_agree(batch: int) -> None:
    for seen in range(1, 90):
        steps = steps_for(seen, batch, 26)
        assert rows_after(steps, batch, 26) >= seen > rows_after(steps - 1, batch, 26)
