"""Full fine-tuning against a plain loop of torch, in fp32 and with masters beside bf16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import training
from allmend.data import Tokens
from allmend.tuning import checkpoint
from allmend.tuning.loop import BEST, LAST, Plan, Step, train
from allmend.tuning.whole import WholeModel

PLAN = Plan(steps=8, rate=1e-3, batch_rows=4, seed=3)


def trained(folder: Path, kind: str = "llama", plan: Plan = PLAN, dtype: Any = torch.float32, **more: Any) -> Any:
    folder.mkdir(exist_ok=True, parents=True)
    loaded = training.loaded(kind, tiny.model(kind, initializer_range=0.1).to(dtype))
    whole = WholeModel(loaded.model)
    outcome = train(loaded, whole, training.rows(18), training.rows(6, seed=9), plan, folder, **more)
    return whole, outcome


def plain_losses(kind: str, rows: list[Tokens], plan: Plan) -> list[float]:
    """Padded batches, full logits, torch's AdamW on every weight."""
    model = tiny.model(kind, initializer_range=0.1).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=0)
    losses = []
    for step in range(plan.steps):
        loss = training.plain_loss(model, rows, plan, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        climb = max(1, round(plan.steps * plan.warmup))
        up = (step + 1) / climb
        optimiser.param_groups[0]["lr"] = plan.rate * min(up, (plan.steps - step) / max(1, plan.steps - climb))
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("tied", [False, True])
def test_it_trains_as_a_plain_loop_does(tmp_path: Path, kind: str, tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny.model
    monkeypatch.setattr(tiny, "model", lambda kind, **more: plain(kind, tie_word_embeddings=tied, **more))
    wanted = plain_losses(kind, training.rows(18), PLAN)
    _, outcome = trained(tmp_path, kind)
    assert outcome.losses == pytest.approx(wanted, rel=2e-5, abs=1e-5)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stopped_and_continued_it_is_the_unbroken_run(tmp_path: Path, dtype: Any) -> None:
    whole, outcome = trained(tmp_path / "whole", dtype=dtype)
    seen: list[Step] = []
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "parts", dtype=dtype, report=seen.append, stop=lambda: len(seen) == 3)
    again, rest = trained(tmp_path / "parts", dtype=dtype)
    assert [step.loss for step in seen] + rest.losses == outcome.losses
    assert same(whole.state(), again.state())
    for file in (LAST, BEST):
        assert same(checkpoint.load(tmp_path / "whole" / file)[0], checkpoint.load(tmp_path / "parts" / file)[0])


def test_masters_take_steps_that_bf16_would_round_away(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path, plan=replace(PLAN, rate=1e-6), dtype=torch.bfloat16)
    begun = tiny.model("llama", initializer_range=0.1).to(torch.bfloat16)
    moved = sum(bool((whole.masters[name] != weight.float()).any()) for name, weight in begun.named_parameters())
    assert moved == len(whole.masters)
    for name, weight in whole.model.named_parameters():
        assert weight.grad is None and torch.equal(weight, whole.masters[name].to(torch.bfloat16))
    whole.release()
    assert not any(weight.requires_grad for weight in whole.model.parameters())
