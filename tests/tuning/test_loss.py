"""The loss against torch's own, in value and gradient, however rows are packed."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

import allmend.tuning.loss as loss_module
import tiny
import training
from allmend.adapters import LoraConfig, attach
from allmend.data import Tokens
from allmend.tuning.loss import HeadCrossEntropy, loss_of, mean_loss, pack_loss, row_by_row_loss
from allmend.tuning.packs import batches, epoch_order, pack, packs


@given(
    positions=st.integers(1, 40),
    width=st.integers(1, 12),
    vocabulary=st.integers(2, 30),
    rows=st.integers(1, 50),
    block=st.integers(1, 40),
    size=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 10**6),
)
@settings(deadline=None)
def test_it_is_torchs_cross_entropy(
    positions: int, width: int, vocabulary: int, rows: int, block: int, size: float, seed: int
) -> None:
    numbers = torch.Generator().manual_seed(seed)
    hidden = (torch.randn(positions, width, generator=numbers) * size).requires_grad_(True)
    weight = torch.randn(vocabulary, width, generator=numbers)
    targets = torch.randint(0, vocabulary, (positions,), generator=numbers)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loss_module, "VOCABULARY_ROWS", block)
        found = HeadCrossEntropy.apply(hidden, weight, targets, rows)
    (gradient,) = torch.autograd.grad(found * 0.37, hidden)
    wanted = cross_entropy(hidden @ weight.T, targets, reduction="sum")
    (right,) = torch.autograd.grad(wanted * 0.37, hidden)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * size)
    torch.testing.assert_close(gradient, right, rtol=1e-3, atol=1e-4)


def test_a_token_that_is_known_well_keeps_its_small_gradient_in_bf16() -> None:
    """Softmax minus one is then a difference of numbers near one, of which bf16 would leave nothing."""
    torch.manual_seed(0)
    weight = torch.randn(5000, 64).bfloat16()
    targets = torch.tensor([2100, 4999])
    hidden = (weight[targets].float() * 0.25).bfloat16()
    exact = hidden.double().requires_grad_(True)
    (right,) = torch.autograd.grad(cross_entropy(exact @ weight.double().T, targets, reduction="sum"), exact)
    learned = hidden.requires_grad_(True)
    (found,) = torch.autograd.grad(HeadCrossEntropy.apply(learned, weight, targets, 2), learned)
    assert (right.norm(dim=1) < 0.05).all()
    assert ((found.double() - right).norm(dim=1) / right.norm(dim=1)).max() < 0.1


def test_its_gradient_is_right_by_small_differences() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weight, targets = torch.randn(7, 4, dtype=torch.float64), torch.randint(0, 7, (5,))
    assert torch.autograd.gradcheck(
        lambda h: HeadCrossEntropy.apply(h, weight, targets, 2), hidden, eps=1e-3, atol=1e-3, nondet_tol=0.0
    )


def test_the_head_learns_nothing_and_no_gradient_is_made_where_none_is_asked() -> None:
    hidden, weight = torch.randn(3, 4), torch.randn(5, 4)
    loss = HeadCrossEntropy.apply(hidden, weight, torch.tensor([0, 1, 2]), 2)
    assert not loss.requires_grad


@cache
def adapted(kind: str) -> Any:
    network = (tiny.recurrent() if kind == "mamba" else tiny.model(kind)).requires_grad_(False)
    # A Mamba multiplies by the weight of dt_proj itself.
    targets = ("in_proj", "x_proj", "out_proj") if kind == "mamba" else ()
    lora = attach(network, LoraConfig(rank=2, targets=targets))
    numbers = torch.Generator().manual_seed(1)
    for layer in lora.layers.values():
        layer.lora_b.data.copy_(torch.randn(layer.lora_b.shape, generator=numbers) * 0.02)
    return network, lora


def plainly(network: Any, rows: list[Tokens]) -> torch.Tensor:
    """Row by row, full logits, transformers and torch alone."""
    total = torch.zeros(())
    for row in rows:
        logits = network(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
        places = [place for place in range(1, len(row)) if row.mask[place]]
        targets = torch.tensor([row.ids[place] for place in places])
        total = total + cross_entropy(logits[[place - 1 for place in places]].float(), targets, reduction="sum")
    return total


def gradient(lora: Any, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, lora.parameters())])


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mistral", "gemma2", "mamba"])
@given(count=st.integers(1, 6), seed=st.integers(0, 10**6), limit=st.integers(1, 150))
@settings(max_examples=8, deadline=None)
def test_the_loss_of_a_batch_is_equal_however_it_is_packed(kind: str, count: int, seed: int, limit: int) -> None:
    network, lora = adapted(kind)
    rows = training.rows(count, seed, longest=80)
    wanted = plainly(network, rows)
    found = sum((loss_of(network, part) for part in packs(rows, limit)), torch.zeros(()))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
    right = gradient(lora, wanted)
    torch.testing.assert_close(gradient(lora, found), right, rtol=1e-2, atol=1e-3 * float(right.abs().max()))


def test_all_paths_agree() -> None:
    network, lora = adapted("llama")
    part = pack(training.rows(5))
    wanted = pack_loss(network, part)
    for other in (pack_loss(network, part, fused=False), row_by_row_loss(network, part),
                  row_by_row_loss(network, part, fused=False)):  # fmt: skip
        torch.testing.assert_close(other, wanted, rtol=1e-5, atol=1e-5)
        wanted_gradient = gradient(lora, pack_loss(network, part))
        torch.testing.assert_close(gradient(lora, other), wanted_gradient, rtol=1e-3, atol=1e-4)


def test_mean_loss_is_a_token_and_leaves_the_mode_alone() -> None:
    network, _ = adapted("llama")
    rows = training.rows(7)
    learned = sum(row.mask[1:].count(1) for row in rows)
    wanted = float(plainly(network, rows).detach()) / learned
    network.train()
    assert mean_loss(network, packs(rows, 64)) == pytest.approx(wanted, rel=1e-4)
    assert network.training
    network.eval()
    assert mean_loss(network, []) == 0.0


@given(rows=st.integers(1, 200), size=st.integers(1, 40), seed=st.integers(0, 2**31), epochs=st.integers(1, 3))
@settings(deadline=None)
def test_an_epoch_is_a_permutation(rows: int, size: int, seed: int, epochs: int) -> None:
    stream = batches(rows, size, seed)
    for epoch in range(epochs):
        seen: list[int] = []
        while len(seen) < rows:
            batch = next(stream)
            assert 1 <= len(batch) <= size
            seen += batch
        assert sorted(seen) == list(range(rows))
        assert seen == epoch_order(rows, seed, epoch)


@given(rows=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 2**31), start=st.integers(0, 100))
@settings(deadline=None)
def test_a_stream_can_be_entered_anywhere(rows: int, size: int, seed: int, start: int) -> None:
    whole, later = batches(rows, size, seed), batches(rows, size, seed, start)
    for _ in range(start):
        next(whole)
    assert [next(whole) for _ in range(10)] == [next(later) for _ in range(10)]


@given(count=st.integers(1, 30), limit=st.integers(1, 200), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_packs_hold_every_row_once_and_stay_within_the_limit(count: int, limit: int, seed: int) -> None:
    rows = training.rows(count, seed)
    made = packs(rows, limit)
    assert sum(part.tokens for part in made) == sum(map(len, rows))
    assert sum(part.targets.numel() for part in made) == sum(row.mask[1:].count(1) for row in rows)
    for part in made:
        assert part.tokens <= limit or len(part.segments.lengths) == 1
        assert torch.equal(part.ids[0, part.predict + 1], part.targets)
