"""The passes over rows: three ways to the same states.

*plain* is transformers' own, padded rows with a mask: the oracle. *packed* gives transformers' layers one sequence of
all rows end to end, and attends within each row. *lean* does BERT's layers itself, with the three projections of a
layer's attention in one product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from allmend.models.attention import segments_of, use_packed

Pass = Callable[[Sequence[Sequence[int]]], Tensor]
"""Rows, longest first, to (T, D) states of them end to end."""


def plain(model: Any, pad: int) -> Pass:
    """transformers' own pass over padded rows."""

    def run(rows: Sequence[Sequence[int]]) -> Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=model.device)
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
        states = model(input_ids=ids, attention_mask=real).last_hidden_state
        return cast(Tensor, states[real.bool()])

    return run


def packed(model: Any, offset: int = 0) -> Pass:
    """transformers' layers over one sequence.

    Args:
        offset: place of a row's first token; RoBERTa counts from the padding token's id + 1.
    """

    def run(rows: Sequence[Sequence[int]]) -> Tensor:
        # Without padding, since an encoder's tokens see what comes after them too.
        segments = segments_of([len(row) for row in rows], model.device, waste=0.0)
        ids = torch.tensor([[token for row in rows for token in row]], device=model.device)
        with use_packed(model):
            out = model(input_ids=ids, position_ids=segments.positions + offset, segments=segments)
        return cast(Tensor, out.last_hidden_state[0])

    return run


@dataclass(frozen=True)
class _Layer:
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    after_attention: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]


def lean(model: Any, dtype: torch.dtype, offset: int = 0) -> Pass:
    """BERT's layers: product, attention, product, norm; twice as wide, GELU, back, norm.

    Raises:
        AttributeError: the model's modules are not named as BERT's.
    """
    embeddings, heads = model.embeddings, model.config.num_attention_heads
    words, norm = embeddings.word_embeddings.weight, embeddings.LayerNorm
    # A single segment: the kind of every token is the same, so it is added to the places once.
    places = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    layers = [_layer(layer, dtype) for layer in model.encoder.layer]
    width, eps = words.shape[1], model.config.layer_norm_eps

    def run(rows: Sequence[Sequence[int]]) -> Tensor:
        lengths = [len(row) for row in rows]
        ids = torch.tensor([token for row in rows for token in row])
        at = torch.cat([torch.arange(offset, offset + length) for length in lengths])
        hidden = layer_norm(words[ids] + places[at], (width,), norm.weight, norm.bias, eps).to(dtype)
        groups = _alike(lengths)
        attended = torch.empty_like(hidden)
        for layer in layers:
            _attend(linear(hidden, *layer.qkv), attended, groups, heads)
            hidden = layer_norm(linear(attended, *layer.out) + hidden, (width,), *layer.after_attention, eps)
            wide = gelu(linear(hidden, *layer.up))
            hidden = layer_norm(linear(wide, *layer.down) + hidden, (width,), *layer.after, eps)
        return hidden

    return run


def _alike(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first token, rows, length) of neighbours of equal length."""
    groups: list[tuple[int, int, int]] = []
    start = 0
    for length in lengths:
        if groups and groups[-1][2] == length:
            groups[-1] = (groups[-1][0], groups[-1][1] + 1, length)
        else:
            groups.append((start, 1, length))
        start += length
    return groups


def _attend(qkv: Tensor, into: Tensor, groups: list[tuple[int, int, int]], heads: int) -> None:
    """(T, 3 D) products to (T, D), each row by itself."""
    for start, count, length in groups:
        part = qkv[start : start + count * length].view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(part[0], part[1], part[2]).transpose(1, 2)
        into[start : start + count * length].view(found.shape).copy_(found)


def _layer(layer: Any, dtype: torch.dtype) -> _Layer:
    def both(*modules: nn.Module) -> tuple[Tensor, Tensor]:
        weights = [cast(Tensor, module.weight) for module in modules]
        biases = [cast(Tensor, module.bias) for module in modules]
        return torch.cat(weights).to(dtype), torch.cat(biases).to(dtype)

    attention = layer.attention.self
    return _Layer(
        both(attention.query, attention.key, attention.value),
        both(layer.attention.output.dense),
        both(layer.intermediate.dense),
        both(layer.output.dense),
        both(layer.attention.output.LayerNorm),
        both(layer.output.LayerNorm),
    )
