"""Attention of a packed step: many sequences side by side in one row of tokens, keys and values in pages.

Registered through transformers' attention interface, so that every model that uses the interface runs packed
without a line of its own. The step in progress is found through `ACTIVE`, because not every model hands keyword
arguments down to its attention.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from allmend.engines.torch.pages import Pages

NAME = "allmend_pages"


@dataclass(slots=True)
class Stretch:
    """Tokens of one sequence in a packed row that need more than one query (a prompt's chunk)."""

    offset: int
    """Where it begins in the packed row."""
    count: int
    start: int
    """Position of its first token in its sequence."""
    table: torch.Tensor
    """Pages of the sequence, [1, pages]."""


@dataclass(slots=True)
class Step:
    """Where a packed row's tokens belong."""

    pages: Pages
    slots: torch.Tensor
    """Where each token's key and value are stored, [tokens]."""
    stretches: list[Stretch]
    rows: torch.Tensor
    """Places in the packed row of sequences that take one token in this step, [batch]."""
    positions: torch.Tensor
    """Position of each of those tokens in its sequence, [batch]."""
    table: torch.Tensor
    """Pages of each of those sequences, filled up with page 0, [batch, pages]."""
    _views: dict[int | None, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def view(self, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(page table, mask [batch, 1, 1, keys]) that a layer with this sliding window needs to look at.

        The tables are the same for every layer with the same window, so they are worked out once a step.
        """
        found = self._views.get(window)
        if found is None:
            found = self._views[window] = self._build_view(window)
        return found

    def _build_view(self, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        size, held = self.pages.size, self.table.shape[1]
        table = self.table
        first = torch.zeros_like(self.positions)
        if window is not None and held > window // size + 2:
            # The oldest position a query sees is `position - window + 1`; older pages are not gathered at all.
            span = window // size + 2
            first = (self.positions - window + 1).clamp(min=0) // size
            columns = (first[:, None] + torch.arange(span, device=self.positions.device)).clamp(max=held - 1)
            table = self.table.gather(1, columns)
            # Columns past the end repeat the last page; their key positions lie past the query and are masked.
        keys = first[:, None] * size + torch.arange(table.shape[1] * size, device=self.positions.device)
        mask = keys <= self.positions[:, None]
        if window is not None:
            mask &= keys > self.positions[:, None] - window
        return table, mask[:, None, None, :]


class _Active(threading.local):
    step: Step | None = None


ACTIVE = _Active()
"""The packed step that runs on this thread."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over pages; query [1, heads, tokens, size], answer [1, tokens, heads, size]."""
    step = ACTIVE.step
    if step is None or others.get("s_aux") is not None or others.get("position_bias") is not None:
        raise NotImplementedError("this model's attention does not run packed")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    step.pages.write(layer, step.slots, key[0].transpose(0, 1), value[0].transpose(0, 1))
    tokens = query[0].transpose(0, 1)
    answer = tokens.new_empty(tokens.shape[0], tokens.shape[1], value.shape[-1])
    if len(step.rows):
        answer[step.rows] = _one_each(step, layer, tokens[step.rows], scaling, sliding_window, softcap)
    for stretch in step.stretches:
        end = stretch.offset + stretch.count
        mine = query[:, :, stretch.offset : end]
        answer[stretch.offset : end] = _stretch(step, layer, stretch, mine, scaling, sliding_window, softcap)
    return answer[None], None


def _one_each(
    step: Step, layer: int, query: torch.Tensor, scaling: float | None, window: int | None, softcap: float | None
) -> torch.Tensor:
    """One query for each sequence, [batch, heads, size]: heads that share keys become rows of one matrix."""
    table, mask = step.view(window)
    keys, values = step.pages.read(layer, table)
    batch, heads, size = query.shape
    shared = keys.shape[1]
    grouped = query.view(batch, shared, heads // shared, size)
    return _softmax_product(grouped, keys, values, mask, scaling, softcap).reshape(batch, heads, -1)


def _stretch(
    step: Step,
    layer: int,
    stretch: Stretch,
    query: torch.Tensor,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """A run of queries of one sequence, [1, heads, count, size], as [count, heads, size]."""
    length = stretch.start + stretch.count
    keys, values = step.pages.read(layer, stretch.table)
    keys, values = keys[:, :, :length], values[:, :, :length]
    repeats = query.shape[1] // keys.shape[1]
    if repeats > 1:
        keys = keys.repeat_interleave(repeats, dim=1)
        values = values.repeat_interleave(repeats, dim=1)
    place = torch.arange(stretch.start, length, device=query.device)[:, None]
    seen = torch.arange(length, device=query.device)[None, :]
    mask = seen <= place
    if window is not None:
        mask &= seen > place - window
    return _softmax_product(query, keys, values, mask[None, None], scaling, softcap)[0].transpose(0, 1)


def _softmax_product(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
    softcap: float | None,
) -> torch.Tensor:
    if softcap is None:
        return scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
    weights = query @ keys.transpose(-1, -2) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    weights = torch.tanh(weights / softcap) * softcap
    weights = weights.masked_fill(~mask, float("-inf"))
    return torch.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype) @ values


def register() -> None:
    """Make `NAME` known to transformers' attention interface; twice is once."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
