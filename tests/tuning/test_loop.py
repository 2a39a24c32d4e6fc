"""The training loop against a plain one, and against interruptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

import tiny
import training
from allmend.adapters import LoraConfig, attach
from allmend.data import Tokens
from allmend.errors import InputError, TrainingDiverged
from allmend.tuning import checkpoint
from allmend.tuning.loop import BEST, LAST, Plan, Step, train
from allmend.tuning.tricks import Tricks

CONFIG = LoraConfig(rank=4, alpha=8)
PLAN = Plan(steps=8, rate=5e-3, batch_rows=4, seed=3)


def trained(
    folder: Path, plan: Plan = PLAN, rows: list[Tokens] | None = None, kind: str = "llama", **more: Any
) -> tuple[Any, Any]:
    folder.mkdir(exist_ok=True, parents=True)
    loaded = training.loaded(kind)
    lora = attach(loaded.model, more.pop("config", CONFIG), seed=plan.seed)
    rows = training.rows(18) if rows is None else rows
    return lora, train(loaded, lora, rows, training.rows(6, seed=9), plan, folder, **more)


def plain_losses(kind: str, rows: list[Tokens], plan: Plan, lora: LoraConfig = CONFIG) -> list[float]:
    """PEFT's LoRA, torch's AdamW, padded batches, full logits, the schedule written out."""
    first = attach(training.loaded(kind).model, lora, seed=plan.seed).state()
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=int(lora.alpha), target_modules="all-linear", lora_dropout=lora.dropout,
        use_dora=lora.dora, use_rslora=lora.rslora,
    )  # fmt: skip
    model = peft.get_peft_model(tiny.model(kind), config)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in weights.items():
        key = name.removeprefix("base_model.model.").replace(".default.weight", "")
        weight.data.copy_(first[key])
    optimiser = torch.optim.AdamW(weights.values(), lr=0, betas=(0.9, 0.99), weight_decay=0)
    model.train()
    losses = []
    for step in range(plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        loss = training.plain_loss(model, rows, plan, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), plan.clip)
        climb = max(1, round(plan.steps * plan.warmup))
        up = (step + 1) / climb
        optimiser.param_groups[0]["lr"] = plan.rate * min(up, (plan.steps - step) / max(1, plan.steps - climb))
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize(
    "config",
    [CONFIG, CONFIG.model_copy(update={"rslora": True}), CONFIG.model_copy(update={"dora": True})],
    ids=["lora", "rslora", "dora"],
)
def test_it_trains_as_a_plain_loop_with_peft_does(tmp_path: Path, kind: str, config: LoraConfig) -> None:
    rows = training.rows(18, longest=60)
    wanted = plain_losses(kind, rows, PLAN, config)
    _, outcome = trained(tmp_path, rows=rows, kind=kind, config=config)
    assert outcome.losses == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert len(set(wanted)) == PLAN.steps


@pytest.mark.parametrize("more", [{"dropout": 0.3}, {"dropout": 0.3, "dora": True}], ids=["lora", "dora"])
def test_dropout_is_peft_s(tmp_path: Path, more: dict[str, Any]) -> None:
    """Row by row through the model's own layers, where both draw the same numbers in the same order."""
    config, rows = CONFIG.model_copy(update=more), training.rows(8, longest=30)
    plan = replace(PLAN, batch_rows=1, tricks=Tricks.none())
    wanted = plain_losses("llama", rows, plan, config)
    _, outcome = trained(tmp_path, plan, rows=rows, config=config)
    assert outcome.losses == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_an_accumulated_step_is_the_unaccumulated_one(tmp_path: Path) -> None:
    whole = trained(tmp_path / "a")[0].state()
    parts = trained(tmp_path / "b", replace(PLAN, pack_tokens=1))[0].state()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=2e-4)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


DROPPING = {"config": LoraConfig(rank=4, alpha=8, dropout=0.2)}


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    first, _ = trained(tmp_path / "a", **DROPPING)
    torch.randn(7)
    second, _ = trained(tmp_path / "b", **DROPPING)
    assert same(first.state(), second.state())


@pytest.mark.parametrize("at", [1, 3, 7])
def test_stop_saves_and_the_continued_run_is_the_unbroken_one(tmp_path: Path, at: int) -> None:
    whole, outcome = trained(tmp_path / "whole", **DROPPING)
    seen: list[Step] = []
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", report=seen.append, stop=lambda: len(seen) == at, **DROPPING)
    assert checkpoint.load(tmp_path / "parts" / LAST)[2].step == at
    lora, rest = trained(tmp_path / "parts", **DROPPING)
    assert [step.loss for step in seen] + rest.losses == outcome.losses
    assert same(lora.state(), whole.state())
    for file in (LAST, BEST):
        assert same(checkpoint.load(tmp_path / "whole" / file)[0], checkpoint.load(tmp_path / "parts" / file)[0])


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = trained(tmp_path)
    again, outcome = trained(tmp_path)
    assert outcome.losses == [] and same(first.state(), again.state())


def test_killed_anywhere_and_continued_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at random moments, `ALLMEND_KILLS` of them (the full count: 100), in processes of their own."""
    script = Path(__file__).with_name("kill_and_continue.py")
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path), os.environ.get("ALLMEND_KILLS", "6")],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])},
    )
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert told["kills"] >= int(os.environ.get("ALLMEND_KILLS", "6"))
    assert told["equal"], told
    assert not told["left"], told


def test_the_best_is_taken_and_kept(tmp_path: Path) -> None:
    lora, outcome = trained(tmp_path, replace(PLAN, rate=0.08, steps=12, evaluations=12))
    losses = dict(outcome.select_losses)
    best = min(losses, key=losses.__getitem__)
    assert outcome.progress.best_step == best and outcome.progress.best_loss == losses[best]
    assert same(lora.state(), checkpoint.load(tmp_path / BEST)[0])
    assert set(losses) == set(range(1, 13))


class Poisoned:
    """Makes the loss NaN from step `at` on, as a broken kernel or an overflow would."""

    def __init__(self, lora: Any, at: int) -> None:
        self.lora, self.at = lora, at

    def __call__(self, step: Step) -> None:
        if step.step == self.at:
            next(iter(self.lora.layers.values())).lora_a.data.fill_(float("nan"))


def test_nan_stops_with_the_best_kept(tmp_path: Path) -> None:
    loaded = training.loaded()
    lora = attach(loaded.model, CONFIG)
    plan = replace(PLAN, evaluations=8)
    # The fast path copies the LoRA after each step: what is written between two steps is seen one later, or by a
    # checkpoint that falls due right then, which is a matter of time.
    with pytest.raises(TrainingDiverged, match=r"step [456]") as caught:
        train(loaded, lora, training.rows(18), training.rows(6, seed=9), plan, tmp_path, Poisoned(lora, 4))
    assert "--learning-rate" in (caught.value.hint or "")
    tensors, _, progress = checkpoint.load(tmp_path / BEST)
    assert progress.best_step in (1, 2, 3, 4) and all(tensor.isfinite().all() for tensor in tensors.values())
    assert not loaded.model.training


def test_a_rate_far_too_high_is_told_before_the_end(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged):
        trained(tmp_path, replace(PLAN, rate=1e4, steps=400, clip=1e9, checkpoint_seconds=0.0))
    # What is kept is from before it ran away, and going on from it tells the same once more.
    tensors, _, progress = checkpoint.load(tmp_path / LAST)
    assert progress.high == 0 and all(tensor.isfinite().all() for tensor in tensors.values())
    with pytest.raises(TrainingDiverged):
        trained(tmp_path, replace(PLAN, rate=1e4, steps=400, clip=1e9))


def test_what_tells_of_divergence_survives_a_stop(tmp_path: Path) -> None:
    """Stopped while the loss is too high, the continued run ends at the very step where the unbroken one does."""
    plan = replace(PLAN, rate=1e4, steps=400, clip=1e9)
    with pytest.raises(TrainingDiverged) as unbroken:
        trained(tmp_path / "a", plan)
    seen: list[Step] = []
    end = int(str(unbroken.value.where).split()[-1])
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", plan, report=seen.append, stop=lambda: len(seen) == end - 4)
    assert checkpoint.load(tmp_path / "b" / LAST)[2].high > 0
    with pytest.raises(TrainingDiverged) as continued:
        trained(tmp_path / "b", plan)
    assert continued.value.where == unbroken.value.where


def test_replanning_only_ever_lowers(tmp_path: Path) -> None:
    seen: list[Step] = []
    _, outcome = trained(tmp_path, replace(PLAN, steps=10**6, deadline=0.5), report=seen.append)
    planned = [step.steps for step in seen]
    assert planned == sorted(planned, reverse=True)
    assert outcome.progress.step == outcome.progress.steps == seen[-1].step < 10**6
    assert outcome.progress.replanned and outcome.progress.seconds < 120
    assert outcome.progress.best_step is not None
    # A replay takes the same steps off at the same places, and measures nothing.
    replayed, again = trained(
        tmp_path / "again", replace(PLAN, steps=10**6, replanned=tuple(outcome.progress.replanned))
    )
    assert again.losses == outcome.losses
    assert same(checkpoint.load(tmp_path / LAST)[0], checkpoint.load(tmp_path / "again" / LAST)[0])
    assert same(replayed.state(), checkpoint.load(tmp_path / "again" / BEST)[0])


def test_time_that_would_be_left_over_buys_more_steps_early_on(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=12, most_steps=40)
    _, outcome = trained(tmp_path, replace(plan, deadline=10_000.0))
    # As many as the rows allow, decided while the rate was still high.
    assert outcome.progress.replanned == [(2, 40)] and outcome.progress.step == 40
    _, again = trained(tmp_path / "again", replace(plan, replanned=((2, 40),)))
    assert again.losses == outcome.losses
    assert same(checkpoint.load(tmp_path / LAST)[0], checkpoint.load(tmp_path / "again" / LAST)[0])
    _, fixed = trained(tmp_path / "fixed", plan)
    assert fixed.progress.step == 12 and not fixed.progress.replanned


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_a_damaged_checkpoint_is_told(tmp_path: Path, keep: int) -> None:
    trained(tmp_path)
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[:keep])
    with pytest.raises(InputError, match="damaged") as caught:
        trained(tmp_path)
    assert "--fresh" in (caught.value.hint or "")


def test_a_flipped_bit_is_told_wherever_it_is(tmp_path: Path) -> None:
    trained(tmp_path)
    content = (tmp_path / LAST).read_bytes()
    numbers = np.random.default_rng(0)
    places = [content.index(b"best_loss"), content.index(b"lora_A"), 12, len(content) - 1]
    for place in [*places, *numbers.integers(0, len(content), 60)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(numbers.integers(0, 8))
        (tmp_path / LAST).write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            checkpoint.load(tmp_path / LAST)


def test_rows_with_nothing_to_predict_do_no_harm(tmp_path: Path) -> None:
    lone = [Tokens([5], b"\1", "a"), Tokens([6], b"\1", "b")]
    _, outcome = trained(tmp_path, replace(PLAN, steps=2), rows=lone)
    assert outcome.losses == [0.0, 0.0]
