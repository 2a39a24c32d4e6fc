"""What fits is measured, and what is chosen follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import tiny
import training
from allmend.adapters import LoraConfig, attach
from allmend.data import Tokens
from allmend.errors import DoesNotFit
from allmend.models.quantised import quantise
from allmend.tuning import memory
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel

WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "initializer_range": 0.02}
ROWS = [Tokens([5 + (place + i) % 250 for i in range(120)], bytes(118) + b"\1\1") for place in range(24)]


@pytest.fixture
def passes() -> Iterator[Passes]:
    loaded = training.loaded("llama", tiny.model("llama", **WIDE))
    made = Passes.of(loaded, attach(loaded.model, LoraConfig(rank=4), seed=0), Tricks(), 2048)
    yield made
    made.close()


def value(choices: list[Any], name: str) -> Any:
    return next(choice.value for choice in choices if choice.name == name)


def test_the_line_foresees_a_longer_pack(passes: Passes) -> None:
    line = memory.measure(passes, ROWS)
    memory.forget_peak(passes.loaded.device)
    memory.trial_step(passes, ROWS[:17])
    has = memory.peak_memory(passes.loaded.device)
    assert line.each > 0 and abs(line.at(2040) - has) < 0.25 * has, (line, has)


def test_with_room_nothing_changes(passes: Passes) -> None:
    choices, _ = memory.settle(passes, ROWS, 64 << 30)
    assert value(choices, "pack_tokens") == 2048 == passes.pack_tokens and not passes.recomputes


def test_less_memory_means_shorter_packs_then_activations_made_again(passes: Passes) -> None:
    line = memory.measure(passes, ROWS)
    choices, _ = memory.settle(passes, ROWS, int(line.at(1500) / memory.MARGIN))
    assert value(choices, "pack_tokens") == passes.pack_tokens and passes.pack_tokens in (512, 1024)
    assert "longer packs" in choices[0].reason and not passes.recomputes
    # Rows longer than any pack that fits: only what is kept for them can shrink.
    long = [Tokens(row.ids * 12, row.mask * 12, row.place) for row in ROWS[:3]]
    line = memory.measure(passes, long)
    memory.settle(passes, long, int(line.at(900) / memory.MARGIN))
    assert passes.recomputes and passes.stack is not None and passes.stack.recompute


def test_what_cannot_fit_names_what_would(passes: Passes) -> None:
    line = memory.measure(passes, ROWS)
    with pytest.raises(DoesNotFit) as caught:
        memory.settle(passes, ROWS, int((line.at(256) - (3 << 20)) * 0.5))
    assert "MiB may be used" in caught.value.message and caught.value.hint
    saved = memory.bits_saved(passes)
    assert 0 < saved[8] < saved[4]
    over = memory.Line(1000.0 * 2**20, 1e3)
    fits_short = memory._what_would(passes, over, 2000, int(over.at(400)))
    assert "--context 400" in fits_short
    fits_bits = memory._what_would(passes, over, 2000, over.at(2000) - saved[8] + 100)
    assert "--base-bits 8" in fits_bits
    assert "--base-bits 4" in memory._what_would(passes, over, 2000, over.at(2000) - saved[4] + 100)
    assert "--rank" in memory._what_would(passes, over, 2000, over.at(2000) - saved[4] - (1 << 19))
    assert "smaller model" in memory._what_would(passes, over, 2000, 0)


def test_four_bits_take_a_quarter_of_the_weights() -> None:
    network = tiny.model("llama", **WIDE).to(torch.bfloat16)
    before = sum(module.weight.nbytes for name, module in network.named_modules() if name.endswith("_proj"))
    quantise(network, 4)
    after = sum(part.nbytes for name, part in network.named_buffers() if "_proj." in name)
    assert after / before == pytest.approx(4.25 / 16, rel=1e-3)


@pytest.mark.parametrize("full", [False, True])
def test_the_models_own_layers_make_activations_again_over_packs(full: bool) -> None:
    """Loss and gradients as without, through transformers' own checkpointing."""
    found = []
    for again in (False, True):
        loaded = training.loaded("qwen2")
        lora: Any = WholeModel(loaded.model) if full else attach(loaded.model, LoraConfig(rank=2), seed=0)
        made = Passes.of(loaded, lora, Tricks.without("lean_layers"), 2048)
        if again:
            made.recompute("asked for")
        loaded.model.train()
        (pack,) = made.packs(training.rows(6))
        loss = made.loss(pack)
        loss.backward()
        found.append([loss.detach(), *(weight.grad for weight in lora.parameters())])
        made.close()
        assert loaded.model.config._attn_implementation == "sdpa"
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
