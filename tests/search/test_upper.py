"""LoRAs in the upper layers over kept activations: the same losses and gradients as without keeping any."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import training
from allmend.adapters import LoraConfig, attach
from allmend.compute import Segment
from allmend.errors import UsageError
from allmend.nouns.search import Point
from allmend.search.trainer import Shared, Siblings
from allmend.search.upper import Below, above, upper_targets
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks

ROWS = training.rows(14)
PREFIXED = [type(row)([9, 8, 7, 6, 5, 4, *row.ids], bytes(6) + row.mask, row.place) for row in training.rows(9, seed=4)]


def gradients(passes: Passes, rows: list) -> tuple[float, list[torch.Tensor]]:
    total = 0.0
    for pack in passes.packs(rows):
        loss = passes.loss(pack)
        loss.backward()
        total += float(loss.detach())
    found = [weight.grad.clone() for weight in passes.lora.parameters()]
    for weight in passes.lora.parameters():
        weight.grad = None
    return total, found


@pytest.mark.parametrize("kind", ["llama", "gemma3", "qwen2"])
@pytest.mark.parametrize("rows", [ROWS, PREFIXED], ids=["apart", "shared-prefix"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_kept_activations_give_the_same(kind: str, rows: list, on_disk: bool, tmp_path: Path) -> None:
    loaded = training.loaded(kind, num_hidden_layers=3, **({"layer_types": ["sliding_attention", "full_attention",
                             "sliding_attention"]} if kind == "gemma3" else {}))  # fmt: skip
    lora = attach(loaded.model, LoraConfig(rank=3, targets=upper_targets(loaded.model, 2, ())), seed=1)
    for layer in lora.layers.values():
        torch.nn.init.normal_(layer.lora_b, std=0.05)
    passes = Passes.of(loaded, lora, Tricks(), 120)
    wanted, wanted_gradients = gradients(passes, rows)
    below = Below.of(passes, rows, tmp_path / "below.bin" if on_disk else None)
    assert below is not None and below.start == 1
    kept = above(passes, below)
    for _ in range(2):  # the second time nothing is worked out anew
        found, found_gradients = gradients(kept, rows)
        assert found == pytest.approx(wanted, rel=1e-5)
        for one, other in zip(found_gradients, wanted_gradients, strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7
    assert len(below.known) == len(rows) and (tmp_path / "below.bin").exists() == on_disk
    assert kept.mean_loss(kept.packs(rows)) == pytest.approx(passes.mean_loss(passes.packs(rows)), rel=1e-5)
    kept.close()


def test_trials_share_the_table(tmp_path: Path) -> None:
    """A trial of another rank trains on what the first had worked out, and as it would without."""
    curves = []
    for upper in (0, 1):
        loaded = training.loaded()
        config = LoraConfig(alpha=8, targets=upper_targets(loaded.model, 1, ()))
        shared = Shared(config, seed=2, pack_tokens=256, upper_layers=upper)
        siblings = Siblings(loaded, ROWS, ROWS[:4], shared)
        losses: list[float] = []
        for number, rank in enumerate((2, 4)):
            point = Point(learning_rate=5e-3, rank=rank, batch=4, epochs=3)
            segment = Segment(trial=number, point=point, folder=tmp_path / f"{upper}-{number}", until=8, steps=8,
                              climb=1, decay_from=1, evaluate_at=(8,))  # fmt: skip
            siblings.run(segment, lambda event, into=losses: into.append(event.loss or 0.0), lambda: False)
        assert (siblings.below is not None) == bool(upper)
        siblings.close()
        curves.append(losses)
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_a_wrong_number_of_layers_is_told() -> None:
    model = training.loaded().model
    assert {name.split(".")[2] for name in upper_targets(model, 1, ("q_proj",))} == {"1"}
    for layers in (0, 3):
        with pytest.raises(UsageError, match="the model has 2 layers"):
            upper_targets(model, layers, ())
