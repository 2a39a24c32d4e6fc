"""Frozen layers in 8 and 4 bits: how far they are from what they stand for, and that gradients pass through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from allmend.errors import UsageError
from allmend.models.quantised import NF4, QuantisedLinear, group_of, pack_weight, quantise, unpack_weight


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.006), (4, 0.1)])
@pytest.mark.parametrize("width", [640, 96, 40])
def test_weights_come_back_within_their_bound(bits: Any, bound: float, width: int) -> None:
    weight = torch.randn(64, width, generator=torch.Generator().manual_seed(0))
    codes, scale = pack_weight(weight, bits)
    back = unpack_weight(codes, scale, torch.empty_like(weight))
    assert float((back - weight).norm() / weight.norm()) < bound
    group = group_of(width)
    assert group is not None and scale.shape == (64, width // group)
    assert codes.nbytes == weight.numel() * bits // 8


def test_what_the_codes_can_say_comes_back_exactly() -> None:
    values = torch.tensor(NF4)[torch.randint(0, 16, (8, 64), generator=torch.Generator().manual_seed(1))]
    values[:, 0] = 1.0  # so that the largest is known
    weight = values * torch.tensor(2.0) ** torch.arange(8).unsqueeze(1)
    assert torch.equal(unpack_weight(*pack_weight(weight, 4), torch.empty_like(weight)), weight)
    zero = torch.zeros(4, 64)
    for bits in (8, 4):
        assert torch.equal(unpack_weight(*pack_weight(zero, bits), torch.empty_like(zero)), zero)  # type: ignore[arg-type]


def test_a_layer_multiplies_and_passes_gradients_as_its_weights_do() -> None:
    base = torch.nn.Linear(64, 24)
    layer = QuantisedLinear(base, 4)
    dense = torch.nn.Linear(64, 24)
    with torch.no_grad():
        dense.weight.copy_(layer.weight)
        dense.bias.copy_(base.bias)
    x, y = (torch.randn(5, 64, generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in "xy")
    torch.testing.assert_close(layer(x), dense(y))
    layer(x).square().sum().backward()
    dense(y).square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert layer.weight.dtype == torch.float32 and not layer.weight.requires_grad


def test_the_head_stays_and_layers_that_no_group_divides() -> None:
    network = tiny.model("llama", intermediate_size=50)
    left = quantise(network, 8)
    assert left == 2  # down_proj reads 50 numbers
    assert type(network.lm_head) is torch.nn.Linear
    assert sum(isinstance(one, QuantisedLinear) for one in network.modules()) == 12
    moved = network.to(torch.bfloat16)
    assert all(one.scale.dtype == torch.bfloat16 for one in moved.modules() if isinstance(one, QuantisedLinear))
    with pytest.raises(UsageError, match="3 bits"):
        quantise(network, 3)


@pytest.mark.model
def test_the_default_models_loss_stays_near(shared_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Per token on ten reviews: within a hundredth in 8 bits, within a quarter in 4."""
    for name, value in shared_home(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    from allmend.data import load as load_rows
    from allmend.data import of_tokenizer
    from allmend.models import resolve
    from allmend.models.loading import load
    from allmend.models.rated_rows import examples_file
    from allmend.verdicts.measure import row_losses

    rows = load_rows(str(examples_file("movie-reviews"))).held_out[:10]
    losses = {}
    for bits in (None, 8, 4):
        loaded = load(resolve("gemma-3-270m"), "bfloat16", bits=bits)
        losses[bits] = torch.tensor(row_losses(loaded, rows, of_tokenizer(loaded.tokenizer))).mean().item()
    assert abs(losses[8] - losses[None]) < 0.03 * losses[None], losses
    assert abs(losses[4] - losses[None]) < 0.25 * losses[None], losses
