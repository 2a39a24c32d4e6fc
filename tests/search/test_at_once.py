"""Several adapters in one step: each as if it had been trained by itself."""

from __future__ import annotations

import pytest
import torch

import training
from allmend.adapters import LoraConfig, LoraSet, attach, detach
from allmend.errors import InputError
from allmend.models.loading import Loaded
from allmend.search.at_once import AtOnce
from allmend.tuning.optimiser import AdamW
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks

CONFIGS = [LoraConfig(rank=2, alpha=4), LoraConfig(rank=8, alpha=32), LoraConfig(rank=4, alpha=4)]
RATES = [1e-2, 1e-3, 5e-3]
STEPS = 6


def fresh(loaded: Loaded, config: LoraConfig, seed: int) -> LoraSet:
    lora = attach(loaded.model, config, seed=seed)
    detach(loaded.model, lora)
    return lora


def batches(step: int, number: int) -> list:
    """Batches of another size for each adapter."""
    rows = training.rows(40, seed=number)
    size = 3 + number
    return rows[step * size : (step + 1) * size]


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_three_at_once_are_three_apart(kind: str) -> None:
    apart, apart_losses = [], []
    for number, (config, rate) in enumerate(zip(CONFIGS, RATES, strict=True)):
        loaded = training.loaded(kind)
        lora = attach(loaded.model, config, seed=number)
        passes = Passes.of(loaded, lora, Tricks.none(), 10_000)
        optimiser, losses = AdamW(lora.parameters()), []
        for step in range(STEPS):
            batch = batches(step, number)
            packs = passes.packs(batch)
            learned = sum(pack.targets.numel() for pack in packs)
            total = 0.0
            for one in packs:
                loss = passes.loss(one) / learned
                loss.backward()
                total += float(loss.detach())
            optimiser.step(rate)
            losses.append(total)
        apart.append(lora.state())
        apart_losses.append(losses)
    loaded = training.loaded(kind)
    before = dict(loaded.model.named_modules())
    loras = [fresh(loaded, config, number) for number, config in enumerate(CONFIGS)]
    together = AtOnce(loaded, loras)
    optimisers = [AdamW(lora.parameters()) for lora in loras]
    found: list[list[float]] = [[] for _ in CONFIGS]
    for step in range(STEPS):
        losses = together.losses([batches(step, number) for number in range(3)])
        sum(losses).backward()  # type: ignore[union-attr]
        for number, (optimiser, rate) in enumerate(zip(optimisers, RATES, strict=True)):
            optimiser.step(rate)
            found[number].append(float(losses[number].detach()))
    together.close()
    for number in range(3):
        assert found[number] == pytest.approx(apart_losses[number], rel=1e-4)
        for name, tensor in loras[number].state().items():
            torch.testing.assert_close(tensor, apart[number][name], rtol=1e-2, atol=1e-3)
    assert dict(loaded.model.named_modules()) == before


def test_what_cannot_go_together_is_told() -> None:
    loaded = training.loaded()
    one = fresh(loaded, LoraConfig(rank=2, targets=("q_proj",)), 0)
    other = fresh(loaded, LoraConfig(rank=2), 0)
    with pytest.raises(InputError, match="different layers"):
        AtOnce(loaded, [one, other])
    with pytest.raises(InputError, match="dropout"):
        AtOnce(loaded, [fresh(loaded, LoraConfig(rank=2, dropout=0.1), 0)])
