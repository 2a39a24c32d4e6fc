"""Packed attention against the plain path: each row as if it were alone, forward and backward."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from allmend.models.attention import PACKED, flex, segments_of, use_packed
from allmend.models.attention.packed import packed_attention
from allmend.models.support import attends_over_packs, has_plain_head, hidden_states, why_no_packs

KINDS = ("llama", "qwen2", "qwen3", "gemma3", "mistral")
LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=6)


@cache
def model(kind: str) -> Any:
    """With sliding windows (Gemma 3, Mistral) of 24 tokens: shorter than many rows."""
    return tiny.model(kind).requires_grad_(False)


def rows_of(lengths: list[int], seed: int) -> list[torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (1, length), generator=numbers) for length in lengths]


def packed(network: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    with use_packed(network):
        return hidden_states(network, torch.cat(rows, dim=1), segments_of([row.shape[1] for row in rows]))


def apart(network: Any, rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([network.base_model(input_ids=row, use_cache=False).last_hidden_state for row in rows], dim=1)


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=LENGTHS, seed=st.integers(0, 10**6))
@settings(max_examples=12, deadline=None)
def test_a_row_in_a_pack_is_as_if_alone(kind: str, lengths: list[int], seed: int) -> None:
    network, rows = model(kind), rows_of(lengths, seed)
    with torch.inference_mode():
        torch.testing.assert_close(packed(network, rows), apart(network, rows), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=LENGTHS, seed=st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_gradients_are_those_of_the_rows_alone(kind: str, lengths: list[int], seed: int) -> None:
    network, rows = model(kind), rows_of(lengths, seed)
    watched = [network.get_submodule(f"model.layers.{layer}.self_attn.{part}_proj") for layer, part in
               ((0, "q"), (0, "k"), (0, "v"), (1, "q"))]  # fmt: skip
    weights = [module.weight for module in watched]
    outer = torch.randn(1, sum(lengths), 32, generator=torch.Generator().manual_seed(seed))
    try:
        for weight in weights:
            weight.requires_grad_(True)
        found = torch.autograd.grad((packed(network, rows) * outer).sum(), weights)
        wanted = torch.autograd.grad((apart(network, rows) * outer).sum(), weights)
    finally:
        network.requires_grad_(False)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4 * float(other.abs().max()) + 1e-6)


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=40))
@settings(deadline=None)
def test_segments_cover_every_token_once_and_waste_little(lengths: list[int]) -> None:
    segments = segments_of(lengths)
    places = torch.cat([group.places for group in segments.groups])
    assert sorted(places.tolist()) == list(range(sum(lengths)))
    assert segments.positions.tolist() == [[place for length in lengths for place in range(length)]]
    for group in segments.groups:
        assert group.gather.numel() * 0.75 <= len(group.real) + 1e-9 or group.gather.shape[0] == 1
        assert torch.equal(group.gather.flatten()[group.real], group.places)
        assert int(group.gather.min()) >= 0 and int(group.gather.max()) < sum(lengths)


def test_the_model_is_as_before_after_use_even_after_an_error() -> None:
    network = model("llama")
    before = network.config._attn_implementation
    with pytest.raises(KeyError), use_packed(network):
        assert network.config._attn_implementation == PACKED
        raise KeyError
    assert network.config._attn_implementation == before


def test_what_it_cannot_do_it_says() -> None:
    tensor = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="segments"):
        packed_attention(torch.nn.Identity(), tensor, tensor, tensor, None)
    with pytest.raises(ValueError, match="cap"):
        packed_attention(torch.nn.Identity(), tensor, tensor, tensor, None, segments=segments_of([2]), softcap=5.0)


@pytest.mark.parametrize("kind", KINDS)
def test_models_that_can_pack_are_found_to(kind: str) -> None:
    network = tiny.model(kind)
    network.train()
    state = torch.get_rng_state()
    assert why_no_packs(network) is None and attends_over_packs(network)
    assert has_plain_head(network)
    assert network.training and torch.equal(torch.get_rng_state(), state)


def test_models_that_cannot_pack_are_told_with_the_reason() -> None:
    capped = tiny.model("gemma2")
    assert "caps scores" in (why_no_packs(capped) or "")
    assert not has_plain_head(capped)
    mamba = tiny.recurrent()
    assert why_no_packs(mamba) is not None and not attends_over_packs(mamba)
    # Tried once: the answer is remembered, and the model is as it was.
    assert why_no_packs(mamba) == why_no_packs(mamba)


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("prefix", [0, 9])
def test_flexible_attention_follows_the_same_rule(heads: tuple[int, int], window: int | None, prefix: int) -> None:
    """Uncompiled, as it is on a CPU; on a GPU the same rule is compiled."""
    segments = segments_of([40, 33, 12, 5, 1], prefix=prefix)
    tokens = sum(segments.lengths)
    query, key, value = (torch.randn(1, count, tokens, 16) for count in (heads[0], heads[1], heads[1]))
    wanted, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, scaling=0.3, sliding_window=window, segments=segments
    )
    found = flex.flex_packed(query, key, value, segments, 0.3, window).transpose(1, 2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert flex.why_not(query, 0.0) is not None and flex.why_not(query, 0.1) is not None
